"""The plan of every study: tune the student's rate, then each term's weight, then run all arms, seed by seed."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import torch

from acamkd_core.client import Client
from benchmarks.study import Study, Trial
from benchmarks.tables import tuned_score

MATCHED = "feature_mse_matched"


@dataclass(frozen=True)
class Plan:
    """What one table of a study tries.

    Attributes:
        trial: makes a student's run; keywords `seed`, `rate`, `epochs`, `stage`, `weight`, `ratio`.
        arms: in the order in which they run.
        rates: learning rates tried for the student alone.
        weights: three values tried for each arm that has a term of its own.
        epochs: of a full run; tuning takes half.
        ablations: arms at ACAM's own weight: what differs is only where the masks look.
    """

    trial: Callable[..., Trial]
    arms: tuple[str, ...]
    rates: tuple[float, ...]
    weights: Mapping[str, tuple[float, ...]]
    epochs: int
    seeds: tuple[int, ...] = (0, 1, 2)
    ablations: tuple[str, ...] = ()


def best(study: Study, trials: Iterable[Trial]) -> float:
    """The tuned value with the best score on val; a run that failed counts as nothing."""
    trials = list(trials)
    study.queue(trials)
    value = max((tuned_score(study.do(trial)), trial.value) for trial in trials)[1]
    assert value is not None
    return value


def run(study: Study, plan: Plan, teacher: Trial) -> None:
    """Runs what is missing, so that an unfinished study is balanced over its arms."""
    half = {"seed": 0, "epochs": plan.epochs // 2, "stage": "tune"}
    study.queue([teacher])  # the student alone needs none: both have a slot to train in
    rate = best(study, (plan.trial("none", rate=value, weight=None, **half) for value in plan.rates))
    full = {"rate": rate, "epochs": plan.epochs, "stage": "final"}
    if "none" in plan.arms:
        study.queue(plan.trial("none", seed=seed, weight=None, **full) for seed in plan.seeds)
    study.do(teacher)
    weights: dict[str, float | None] = {"none": None, MATCHED: 1.0}
    tried = {
        arm: [plan.trial(arm, rate=rate, weight=value, **half) for value in plan.weights[arm]]
        for arm in plan.arms
        if arm in plan.weights
    }
    study.queue(itertools.chain.from_iterable(tried.values()))
    weights |= {arm: best(study, trials) for arm, trials in tried.items()}
    weights |= {arm: weights["acam"] for arm in plan.ablations if arm in plan.arms}
    # All at once: a server with several slots has work to the end, in this order. The matched control replays what ACAM
    # measured: it can only be asked for when that run has ended.
    ratios: dict[int, list[list[float]]] = {}

    def final(arm: str, seed: int) -> Trial:
        return plan.trial(
            arm, seed=seed, weight=weights[arm], ratio=ratios.get(seed) if arm == MATCHED else None, **full
        )

    study.queue(final(arm, seed) for seed in plan.seeds for arm in plan.arms if arm != MATCHED)
    for seed in plan.seeds if MATCHED in plan.arms else ():
        ratios[seed] = study.do(final("acam", seed))["ratio"]
        study.queue([final(MATCHED, seed)])
    for seed, arm in itertools.product(plan.seeds, plan.arms):
        study.do(final(arm, seed))


def start(name: str, about: str | None) -> tuple[Study, str, str]:
    """(study, dataset folder, backbone file) from the command line of a study on real data."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone", type=Path, required=True, help="MobileNetV2 1.0 ImageNet backbone weights")
    parser.add_argument("--url", default=None)
    parser.add_argument("--results", type=Path, default=Path("docs/results") / name)
    options = parser.parse_args()
    versions = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}
    study = Study(options.results, Client(options.url), {"name": name, "versions": versions})
    return study, str(options.data.resolve()), str(options.backbone.resolve())
