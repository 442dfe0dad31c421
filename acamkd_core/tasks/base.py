"""The contract of every task: what the engine needs to know about labels, losses, scores and pictures."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from acamkd_core.models.base import ModelOutput


class Metric(Protocol):
    """Accumulates over a split. `update` takes decoded predictions and targets of one batch."""

    def update(self, prediction: Any, target: Any) -> None: ...

    def compute(self) -> tuple[dict[str, float], dict[str, float | None]]:
        """(summary metrics, per-class values), both in points; None where a class does not occur."""
        ...


class Task(Protocol):
    """Everything task-specific that the trainer calls. The engine imports no concrete task but through `build`."""

    name: str
    primary_metric: str  # e.g. "miou": the key of Metric.compute()[0] that selects checkpoints
    num_classes: int

    def augment(self, sample: Any, rng: np.random.Generator) -> tuple[Tensor, Any]:
        """A training sample as (image 3HW float in [0, 1], target), a pure function of sample and rng."""
        ...

    def prepare(self, sample: Any) -> tuple[Tensor, Any]:
        """An evaluation sample as (image 3HW float in [0, 1], target), without randomness."""
        ...

    def collate(self, samples: list[tuple[Tensor, Any]]) -> tuple[Tensor, Any]:
        """A batch (images NCHW, targets)."""
        ...

    def loss(self, model: nn.Module, out: ModelOutput, targets: Any) -> dict[str, Tensor]:
        """Named weighted supervised terms, e.g. {"task": ..., "aux": ...}."""
        ...

    def decode(self, model: nn.Module, out: ModelOutput, image_size: tuple[int, int]) -> Any:
        """Predictions as the metric wants them (segmentation: NHW ids at `image_size`)."""
        ...

    def scores(self, model: nn.Module, out: ModelOutput, image_size: tuple[int, int]) -> Tensor:
        """Decoding as far as a graph can carry it (segmentation: logits NKHW at `image_size`). For exports."""
        ...

    def metric(self) -> Metric: ...

    def constant_score(self, targets: Any) -> float:
        """What the best constant prediction scores: a teacher below it is broken."""
        ...

    def panels(self, sample: Any, predictions: dict[str, Any]) -> dict[str, np.ndarray]:
        """Pictures (HxWx3 uint8) by kind: image, truth, prediction, teacher, error."""
        ...
