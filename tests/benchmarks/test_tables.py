"""Result pages say what the committed runs say, and the arithmetic in them is right."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from acamkd_core.spec.job import JobSpec, parse_job
from benchmarks import camvid, tables


@pytest.mark.parametrize("name", sorted(tables.PAGES))
def test_pages_are_made_from_the_committed_runs(name: str) -> None:
    committed = (tables.RESULTS / f"{name}.md").read_text(encoding="utf-8")
    assert committed == tables.PAGES[name](tables.RESULTS / name), "run `python -m benchmarks.tables`"


def run(arm: str, seed: int, miou: float | None) -> dict[str, Any]:
    return {
        "arm": arm, "seed": seed, "stage": "final", "state": "succeeded" if miou is not None else "failed",
        "reason": "non_finite_loss", "minutes": 2.0, "metrics": {"test/miou": miou, "best/miou": miou} if miou else {},
        "per_class": {"sky": miou},
    }  # fmt: skip


def test_differences_are_paired_by_seed_and_failures_are_shown() -> None:
    runs = [
        run("none", 0, 30.0),
        run("none", 1, 34.0),
        run("acam", 0, 33.0),
        run("acam", 1, 35.0),
        run("logit", 0, None),
    ]
    lines = tables.arms_table(runs)
    acam = next(line for line in lines if line.startswith("| ACAM-KD (default)"))
    assert f"+2.00 ± {statistics.stdev([3.0, 1.0]):.2f}" in acam
    assert f"34.00 ± {statistics.stdev([33.0, 35.0]):.2f} (2 seeds)" in acam
    assert "failed: non_finite_loss" in next(line for line in lines if line.startswith("| logit"))
    assert "too few seeds" in tables.comparison(runs, "acam", "none")


def test_the_page_stands_with_any_part_of_the_runs(tmp_path: Path) -> None:
    def finished(arm: str, value: float, stage: str = "final", weight: float | None = None) -> None:
        one = run(arm, 0, value) | {"name": f"camvid-scratch-{stage}-{arm}-{weight}", "stage": stage, "value": weight}
        (tmp_path / f"{one['name']}.json").write_text(json.dumps(one))

    finished("none", 30.0)
    finished("cwd", 31.0)
    finished("mgd", 29.0, "tune", 2e-5)
    page = tables.camvid(tmp_path)
    assert "| CWD | 31.00 | 31.00 (1 seed) | +1.00 |" in page
    assert "| MGD | 2e-05: 29.00 | 2e-05 |" in page
    assert "ACAM-KD (default) minus" not in page
    finished("acam", 33.0)
    finished("maskd", 32.5)
    page = tables.camvid(tmp_path)
    assert "ACAM-KD (default) minus CWD: +2.00 points, ahead in 1 of 1 seeds: too few seeds" in page
    assert "ACAM-KD (default) minus MasKD: +0.50" in page
    assert "4 of 54 full-length" in page


def test_every_arm_of_the_study_has_a_valid_spec_and_a_row() -> None:
    for arm in (*camvid.ARMS, *camvid.COMPETITORS):
        assert arm in tables.LABELS
        for weight in camvid.WEIGHTS.get(arm, (1.0,)):
            trial = camvid.student_trial(
                "folder", "scratch", camvid.SMALL, arm, seed=0, rate=0.1, epochs=1, stage="tune", weight=weight,
                ratio=[[0, 1.0]] if arm == "feature_mse_matched" else None,
            )  # fmt: skip
            spec = parse_job({**trial.spec, "name": trial.name})
            assert isinstance(spec, JobSpec)
            assert [term.weight for term in spec.distill] == ([] if arm == "none" else [weight])


def test_a_small_difference_is_called_noise() -> None:
    runs = [run("none", s, v) for s, v in enumerate((30.0, 31.0, 32.0))]
    noisy = [run("acam", s, v) for s, v in enumerate((30.5, 30.0, 33.0))]
    clear = [run("acam", s, v) for s, v in enumerate((33.0, 34.1, 34.9))]
    assert "within noise" in tables.comparison(runs + noisy, "acam", "none")
    assert "more than two standard errors" in tables.comparison(runs + clear, "acam", "none")
    assert tables.MINUS in tables.comparison(runs + clear, "none", "acam")
