"""Result pages say what the committed runs say, and the arithmetic in them is right."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from benchmarks import tables


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


def test_a_small_difference_is_called_noise() -> None:
    runs = [run("none", s, v) for s, v in enumerate((30.0, 31.0, 32.0))]
    noisy = [run("acam", s, v) for s, v in enumerate((30.5, 30.0, 33.0))]
    clear = [run("acam", s, v) for s, v in enumerate((33.0, 34.1, 34.9))]
    assert "within noise" in tables.comparison(runs + noisy, "acam", "none")
    assert "more than two standard errors" in tables.comparison(runs + clear, "acam", "none")
    assert tables.MINUS in tables.comparison(runs + clear, "none", "acam")
