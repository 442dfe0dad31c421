"""A small real world for whole runs: generated scenes, a teacher trained for a moment, jobs on both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from acamkd_core.engine.parts import Run
from acamkd_core.engine.result import JobResult
from acamkd_core.engine.run import run_job
from acamkd_core.spec.events import MetricsEvent
from acamkd_core.spec.job import parse_job

SCENES = {"format": "scenes", "train_images": 12, "val_images": 4, "test_images": 2, "size": [48, 64]}
NET = {"family": "deeplabv3", "width": 0.35, "aspp_channels": 16}
BASE: dict[str, Any] = {
    "dataset": SCENES,
    "student": {"arch": NET},
    "augment": {"scale": [0.5, 2.0], "colour": 0.3},
    "schedule": {"iterations": 8},
    "batch": {"global_size": 4},
    "evaluation": {"every": 4, "panels": 0},
    "exports": [],
}


@dataclass
class World:
    """Where generated data and the teacher lie."""

    folder: Path
    teacher: Path

    def taught(self, **expect: float) -> dict[str, Any]:
        """The teacher as a spec says it. It learnt next to nothing, which has to be said, or no run would take it."""
        return {"weights": str(self.teacher), "expect": {"miou": 10.0, "tolerance": 100.0} | expect}


def go(
    folder: Path,
    cache: Path,
    *,
    resume: Path | None = None,
    stop: Callable[[list[Any]], bool] = lambda events: False,
    device: str = "cpu",
    code_roots: list[Path] | None = None,
    **changes: Any,
) -> tuple[JobResult, list[Any]]:
    """`run_job` on `BASE` with changes; the events it emitted. `stop` sees them each time that the run asks.

    `code_roots` as in `Run`; programs may lie anywhere, as on one's own machine.
    """
    events: list[Any] = []
    result = run_job(
        parse_job(BASE | changes),
        paths=Run(folder=folder, cache=cache, resume=resume, attempt=2 if resume else 1, code_roots=code_roots),
        emit=events.append,
        should_stop=lambda: stop(events),
        device=device,
    )
    return result, events


def kinds(events: list[Any], kind: str) -> list[Any]:
    return [event for event in events if event.type == kind]


def points(events: list[Any]) -> dict[tuple[int, str], float | None]:
    """Metric points, wall-clock figures left out."""
    return {
        (event.iteration, name): value
        for event in events
        if isinstance(event, MetricsEvent)
        for name, value in event.values.items()
        if not name.startswith("time/")
    }


def stopped_at_five(folder: Path, cache: Path, **job: Any) -> tuple[Path, list[Any]]:
    """A job that was asked to stop when it told of iteration 5: its last checkpoint, and its events."""

    def at_five(events: list[Any]) -> bool:
        return any(event.type == "metrics" and event.iteration == 5 for event in events)

    result, events = go(folder, cache, stop=at_five, **job)
    assert (result.status, result.iteration) == ("stopped", 5)
    return folder / kinds(events, "checkpoint")[-1].path, events


# Of several kinds: class scores, masks that learn, channels, statistics, a random mask.
TERMS: list[Any] = ["logit", "acam", "cwd", {"method": "pkd", "at": ["c5", "aspp"]}, {"method": "mgd", "at": "c4"}]


def taught_alike(events: list[Any], expected: list[Any]) -> Any:
    """Two runs of `TERMS` had the same teacher in two forms: its scores, the first step's losses and levels agree.

    Returns the first run's `resolved` event.
    """
    scored = [next(e for e in kinds(run, "evaluation") if e.role == "teacher") for run in (events, expected)]
    assert scored[0].per_class == scored[1].per_class
    mine, theirs = points(events), points(expected)
    first = {name for step, name in theirs if step == 1 and name.startswith("loss/")}
    assert first >= {"loss/logit", "loss/acam/spatial", "loss/cwd", "loss/pkd", "loss/mgd"}
    for name in first:
        assert mine[1, name] == pytest.approx(theirs[1, name], rel=1e-4), name
    [resolved] = kinds(events, "resolved")
    assert [(p["teacher_level"], p["teacher"]) for p in resolved.pairs] == [
        (p["teacher_level"], p["teacher"]) for p in kinds(expected, "resolved")[0].pairs
    ]
    return resolved
