"""Checkpoints: everything a bit-exact resume needs, whole or not there.

A checkpoint is self-contained: besides the current state it carries the best student so far, so that a resume on
another host needs one file. Random generators are not in it because no draw depends on earlier draws (randomness.py).
"""

from __future__ import annotations

import errno
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from acamkd_core.spec.digest import is_same_run
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.job import JobSpec

FORMAT = 2


@dataclass
class Position:
    """Where a run is, and what it has seen so far. `iteration` counts finished optimizer steps."""

    iteration: int = 0
    # Finished steps of the methods' pre-stages, which come before iteration 0.
    prepared: int = 0
    evaluated: int = 0
    best_score: float | None = None
    best_iteration: int | None = None
    evaluations_without_gain: int = 0
    accumulate: int = 1
    oom_retried: bool = False
    # Type in which the teacher was found to run well enough; empty: the student's.
    teacher_precision: str = ""
    teacher_metrics: dict[str, float] = field(default_factory=dict)
    zero_counts: dict[str, int] = field(default_factory=dict)
    outweighed: int = 0  # measurements in a row in which distillation outweighed the labels
    # An alarm is raised once, also over a resume.
    raised: list[str] = field(default_factory=list)


@dataclass
class Checkpoint:
    """The content of a checkpoint file. Never the teacher."""

    position: Position
    student: dict[str, torch.Tensor]
    methods: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    ema: dict[str, torch.Tensor] | None
    best_student: dict[str, torch.Tensor] | None
    device_seconds: float
    spec: str  # the resolved spec as JSON
    preparation: dict[str, Any] | None = None


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Writes aside, syncs, renames: after a crash there is the old file or the new one.

    Raises:
        CoreError: `disk.full` when there is no room; an earlier checkpoint stays untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    data = {**asdict_shallow(checkpoint), "format": FORMAT, "position": asdict(checkpoint.position)}
    try:
        with open(aside, "wb") as file:
            torch.save(data, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except (OSError, RuntimeError) as error:
        aside.unlink(missing_ok=True)
        # torch's zip writer reports a full disk as a RuntimeError of its own.
        full = getattr(error, "errno", None) == errno.ENOSPC or "write" in str(error).lower()
        if full:
            raise CoreError(
                "disk.full",
                f"no room to write the checkpoint {path.name}",
                hint="free space, then resume or retry",
                value=str(path.parent),
            ) from error
        raise


def asdict_shallow(checkpoint: Checkpoint) -> dict[str, Any]:
    """Fields as they are: `dataclasses.asdict` would copy every tensor."""
    return {name: getattr(checkpoint, name) for name in checkpoint.__dataclass_fields__}


def load(path: Path, spec: JobSpec | None = None) -> Checkpoint:
    """Reads a checkpoint on the CPU.

    Raises:
        CoreError: `checkpoint.unreadable` for a torn or foreign file, `checkpoint.other_spec` for another job's.
    """
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
        if data.pop("format") != FORMAT:
            raise ValueError("unknown format version")
        checkpoint = Checkpoint(**{**data, "position": Position(**data["position"])})
    except Exception as error:
        raise CoreError(
            "checkpoint.unreadable",
            f"{path.name} is not a readable checkpoint: {str(error).splitlines()[0][:200]}",
            value=str(path),
        ) from error
    if spec is not None and not is_same_run(checkpoint.spec, spec):
        raise CoreError(
            "checkpoint.other_spec",
            "the checkpoint belongs to a job with another spec",
            hint="start a new job instead of resuming",
            value=str(path),
        )
    return checkpoint


class CheckpointFolder:
    """Keeps best, last, and the last but one (a reader may still be copying it), also those of an earlier attempt here."""

    def __init__(self, folder: Path, position: Position) -> None:
        self.folder = folder
        self._recent: list[Path] = [self._path(position.iteration)]
        self._best: Path | None = None if position.best_iteration is None else self._path(position.best_iteration)

    def _path(self, iteration: int) -> Path:
        return self.folder / f"iteration-{iteration:08d}.ckpt"

    def write(self, checkpoint: Checkpoint, *, is_best: bool) -> Path:
        """Saves, then removes what is neither best nor recent."""
        path = self._path(checkpoint.position.iteration)
        save(checkpoint, path)
        if is_best:
            self._best = path
        self._recent = [*[p for p in self._recent if p != path], path][-2:]
        for old in self.folder.glob("iteration-*.ckpt"):
            if old not in self._recent and old != self._best:
                old.unlink(missing_ok=True)
        return path
