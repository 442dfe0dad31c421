"""A stopped run goes on bit for bit: every optimizer, average and batch split, at every kind of moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acamkd_core.engine.parts import Parts, Run
from acamkd_core.engine.trainer import Outcome, train
from acamkd_core.spec.events import CheckpointEvent, EvaluationEvent, MetricsEvent
from acamkd_core.spec.job import JobSpec
from tests.acamkd_core.engine.test_trainer import series, spec
from tests.acamkd_core.engine.toy import toy_parts

Stop = Callable[[list[Any]], bool]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def go(
    folder: Path, job: JobSpec, parts: Parts, resume: Path | None = None, stop: Stop | None = None
) -> tuple[Outcome, list[Any]]:
    """`stop` sees the events so far every time that the loop asks."""
    events: list[Any] = []
    outcome = train(
        parts, job, Run(folder=folder, cache=folder, resume=resume, attempt=2 if resume else 1),
        emit=events.append, should_stop=lambda: stop is not None and stop(events),
        mask_picture=lambda values: np.zeros((*values.shape, 3), np.uint8),
    )  # fmt: skip
    return outcome, events


def last_checkpoint(folder: Path, events: list[Any]) -> Path:
    return folder / [event for event in events if isinstance(event, CheckpointEvent)][-1].path


def same(ours: Outcome, theirs: Outcome) -> None:
    for mine, other in ((ours.last_student, theirs.last_student), (ours.best_student, theirs.best_student)):
        assert mine.keys() == other.keys()
        for name, tensor in mine.items():
            assert torch.equal(tensor, other[name]), name
    assert ours.position == theirs.position


def reached(iteration: int) -> Stop:
    return lambda events: any(isinstance(e, MetricsEvent) and e.iteration >= iteration for e in events[-3:])


CASES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adamw": {"optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.01}},
    "ema": {"train": {"ema": 0.9}},
    "accumulate": {"batch": {"global_size": 8, "accumulate": 2}},
    "clip": {"train": {"grad_clip": 0.05}},
    "bf16": {"train": {"precision": "bf16"}},
    "warm-up": {"schedule": {"iterations": 24, "policy": "multistep", "milestones": [15], "warmup_iterations": 6}},
    "all": {
        "optimizer": {"name": "adamw", "lr": 0.01, "method_lr_factor": 2.0},
        "train": {"ema": 0.8, "grad_clip": 0.5},
        "batch": {"global_size": 8, "accumulate": 4},
        "schedule": {"iterations": 24, "policy": "cosine", "warmup_iterations": 3},
    },
}


@pytest.mark.parametrize("case", list(CASES))
def test_every_option_resumes_bit_for_bit(tmp_path: Path, case: str) -> None:
    job = spec(**CASES[case])
    whole, all_events = go(tmp_path / "whole", job, toy_parts())
    first, early = go(tmp_path / "a", job, toy_parts(), stop=reached(13))
    assert first.reason == "stopped"
    second, late = go(tmp_path / "b", job, toy_parts(), resume=last_checkpoint(tmp_path / "a", early))
    assert series(early) | series(late) == series(all_events)
    same(whole, second)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_stop_in_the_middle_of_an_evaluation_repeats_it(tmp_path: Path, ema: float | None) -> None:
    """With an average the student holds other weights just then: the checkpoint needs the trained ones."""
    job = spec(train={"ema": ema})
    whole, all_events = go(tmp_path / "whole", job, toy_parts())

    def inside_the_second_evaluation(events: list[Any]) -> bool:
        # The loop asks once a step, an evaluation once a batch (there is one): at step 16 the first to ask is it.
        return any(isinstance(e, MetricsEvent) and e.iteration == 16 for e in events)

    first, early = go(tmp_path / "a", job, toy_parts(), stop=inside_the_second_evaluation)
    assert first.reason == "stopped"
    assert first.position.iteration == 16
    assert [e.iteration for e in early if isinstance(e, EvaluationEvent)] == [8]
    second, late = go(tmp_path / "b", job, toy_parts(), resume=last_checkpoint(tmp_path / "a", early))
    assert [e.iteration for e in late if isinstance(e, EvaluationEvent)] == [16, 24]
    assert series(early) | series(late) == series(all_events)
    same(whole, second)


def test_a_run_that_stopped_early_is_over_after_a_kill_too(tmp_path: Path) -> None:
    """Killed between the last checkpoint and the export: the next attempt must not train on."""
    job = spec(schedule={"iterations": 80}, evaluation={"early_stop": 3})
    whole, events = go(tmp_path / "a", job, toy_parts(iterations=80, every=2))
    assert whole.reason == "early_stop"
    again, late = go(
        tmp_path / "b", job, toy_parts(iterations=80, every=2), resume=last_checkpoint(tmp_path / "a", events)
    )
    assert again.reason == "early_stop"
    assert series(late) == {}
    same(whole, again)


def test_an_attempt_in_the_same_folder_keeps_the_best_checkpoint_of_the_one_before(tmp_path: Path) -> None:
    job = spec(schedule={"iterations": 40})
    _, early = go(tmp_path, job, toy_parts(iterations=40, every=4), stop=reached(33))
    best = max((e for e in early if isinstance(e, CheckpointEvent) and e.is_best), key=lambda e: e.iteration)
    outcome, late = go(tmp_path, job, toy_parts(iterations=40, every=4), resume=last_checkpoint(tmp_path, early))
    assert outcome.position.best_iteration == best.iteration < 32, "else it would be kept for being recent"
    assert (tmp_path / best.path).is_file()
    kept = {int(p.stem.split("-")[1]) for p in (tmp_path / "checkpoints").glob("*.ckpt")}
    assert kept == {36, 40, outcome.position.best_iteration}
    assert [e.iteration for e in late if isinstance(e, CheckpointEvent)] == [36, 40]
