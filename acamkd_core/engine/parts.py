"""What a run is made of, put together by `build` and used by the trainer. Task-neutral."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from acamkd_core.methods.base import Method
from acamkd_core.models.base import ModelOutput, TaskModel
from acamkd_core.models.resized import Resized
from acamkd_core.spec.events import AnyEvent
from acamkd_core.tasks.base import Task

Emit = Callable[[AnyEvent], None]


class Batch(Protocol):
    """One step's input: images NCHW in [0, 1], and the task's targets."""

    @property
    def images(self) -> Tensor: ...

    @property
    def targets(self) -> Any: ...


class EvaluationBatches(Protocol):
    """One pass over a split, always in the same order."""

    def __iter__(self) -> Iterator[Batch]: ...

    def share(self, rank: int, world: int) -> Iterator[Batch]:
        """Every `world`-th image from `rank` on: no image twice, none lost, and none made up to even the shares."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def sample(self, index: int) -> Any:
        """The raw sample, for panels."""
        ...


@dataclass
class Run:
    """Where a run writes, what it may read, and how far earlier attempts got.

    code_roots: folders from which teachers may run that are programs; empty: none may, None: from anywhere.
    """

    folder: Path
    cache: Path
    roots: list[Path] | None = None
    code_roots: list[Path] | None = field(default_factory=list)
    inputs: dict[str, Path] = field(default_factory=dict)
    resume: Path | None = None
    attempt: int = 1
    device_seconds: float = 0.0


@dataclass
class Parts:
    """Networks, methods, data and numbers of one distillation run."""

    task: Task
    student: nn.Module
    teacher: nn.Module | None
    methods: list[Method]
    train: Callable[[int], Iterator[Batch]]
    """Endless batches from an iteration on: a pure function of (seed, position)."""
    batches_per_epoch: int
    val: EvaluationBatches
    test: EvaluationBatches | None
    device: torch.device
    iterations: int
    evaluate_every: int
    checkpoint_every: int
    global_batch: int
    input_size: tuple[int, int]
    """Height and width that networks are evaluated, profiled and exported at; one of several where images differ."""
    panel_images: list[int] = field(default_factory=list)
    compared: list[int] | None = None
    """The student's channels of class scores that a teacher of other classes knows too; None: all."""
    averaged: Callable[[nn.Module, Tensor], Any] | None = None
    """Predictions from several views of the images, for a second score at the end; None where none is asked for."""
    random_head: TaskModel | None = None
    """The teacher with an untrained head, for terms that are such placebos."""

    def as_compared(self, out: ModelOutput) -> ModelOutput:
        """The student's output as methods see it: beside a teacher that does not know all classes, without the others."""
        if self.compared is None or "logits" not in out.features:
            return out
        logits = out.features["logits"][:, self.compared]
        return ModelOutput({**out.features, "logits": logits}, raw=out.raw, aux=out.aux)

    @property
    def teacher_zoom(self) -> tuple[float, float]:
        """Height and width that the teacher sees over those of the images."""
        return self.teacher.zoom if isinstance(self.teacher, Resized) else (1.0, 1.0)

    @property
    def method_modules(self) -> nn.ModuleList:
        """The methods as one module: their parameters train with the student, and never reach an export."""
        return nn.ModuleList(self.methods)


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Parameters that learn."""
    return [p for p in module.parameters() if p.requires_grad]


def picture_stats(values: np.ndarray) -> dict[str, float]:
    """Mean, deviation, minimum and maximum, as panels show them."""
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
    }
