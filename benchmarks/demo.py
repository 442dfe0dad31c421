"""The demo's jobs with five seeds and the plain controls: `python -m benchmarks.demo --url http://127.0.0.1:8080`."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import torch

from acamkd_core.client import Client
from benchmarks.arms import best
from benchmarks.study import Study, Trial
from cli import demo_jobs

SEEDS = range(5)
# First tried from 0.03 (ACAM: 30.2 val mIoU) to 0.3 (28.2), logit from 0.3 (30.6) to 3 (24.1): the best was at the edge.
GRIDS = {"acam": (0.01, 0.03, 0.1), "logit": (0.1, 0.3, 1.0), "feature_mse": (0.02, 0.06, 0.2)}


def _trial(name: str, arm: str, stage: str, seed: int, spec: dict[str, Any], value: float | None = None) -> Trial:
    return Trial(f"demo-{name}-s{seed}", arm, stage, seed, {**spec, "exports": ["safetensors"]}, value)


def teacher(seed: int) -> Trial:
    """The teacher of a seed."""
    return _trial("teacher", "teacher", "teacher", seed, demo_jobs.teacher(seed))


def tuning() -> dict[str, list[Trial]]:
    """Three weights an arm, with seed 0."""
    return {
        arm: [
            _trial(
                f"tune-{arm.replace('_', '-')}-{weight:g}", arm, "tune", 0,
                demo_jobs.student(0, teacher(0).name, arm, weight=weight), weight,
            )
            for weight in weights
        ]
        for arm, weights in GRIDS.items()
    }  # fmt: skip


def trials(seed: int) -> list[Trial]:
    """All runs of a seed; the teacher first."""

    def final(arm: str, spec: dict[str, Any]) -> Trial:
        return _trial(arm.replace("_", "-"), arm, "final", seed, spec)

    return [
        teacher(seed),
        final("none", demo_jobs.student(seed)),
        *(final(method, demo_jobs.student(seed, teacher(seed).name, method)) for method in GRIDS),
        final("none_half_rate", demo_jobs.student(seed, rate=demo_jobs.RATE / 2)),
        final("none_double_rate", demo_jobs.student(seed, rate=demo_jobs.RATE * 2)),
    ]


def main() -> None:
    """Runs what is missing, seed by seed.

    Raises:
        SystemExit: the demo does not use the weights that tuning chose.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=None)
    parser.add_argument("--results", type=Path, default=Path("docs/results/demo"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    options = parser.parse_args()
    study = Study(options.results, Client(options.url), {"name": "scenes", "versions": {"torch": torch.__version__}})
    study.do(teacher(0))
    tried = tuning()
    study.queue(itertools.chain.from_iterable(tried.values()))
    chosen = {arm: best(study, trials) for arm, trials in tried.items()}
    if chosen != demo_jobs.WEIGHTS:
        raise SystemExit(f"tuning says {chosen}, and cli/demo_jobs.py has {demo_jobs.WEIGHTS}")
    for seed in options.seeds:
        study.queue(trials(seed))
        for trial in trials(seed):
            study.do(trial)


if __name__ == "__main__":
    main()
