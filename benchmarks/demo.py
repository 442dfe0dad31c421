"""The demo's jobs with five seeds and the plain controls: `python -m benchmarks.demo --url http://127.0.0.1:8080`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from acamkd_core.client import Client
from benchmarks.study import Study, Trial
from cli import demo_jobs

SEEDS = range(5)


def trials(seed: int) -> list[Trial]:
    """All runs of a seed; the teacher first."""
    name = f"demo-teacher-s{seed}"

    def final(arm: str, spec: dict[str, Any]) -> Trial:
        return Trial(f"demo-{arm.replace('_', '-')}-s{seed}", arm, "final", seed, {**spec, "exports": ["safetensors"]})

    return [
        Trial(name, "teacher", "teacher", seed, demo_jobs.teacher(seed)),
        final("none", demo_jobs.student(seed)),
        *(final(method, demo_jobs.student(seed, name, method)) for method in ("acam", "logit", "feature_mse")),
        final("none_half_rate", demo_jobs.student(seed, rate=demo_jobs.RATE / 2)),
        final("none_double_rate", demo_jobs.student(seed, rate=demo_jobs.RATE * 2)),
    ]


def main() -> None:
    """Runs what is missing, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=None)
    parser.add_argument("--results", type=Path, default=Path("docs/results/demo"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    options = parser.parse_args()
    study = Study(options.results, Client(options.url), {"name": "scenes", "versions": {"torch": torch.__version__}})
    for seed in options.seeds:
        for trial in trials(seed):
            study.do(trial)


if __name__ == "__main__":
    main()
