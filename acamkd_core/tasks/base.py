"""The contract of every task: what the engine needs to know about labels, losses, scores and pictures."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from acamkd_core.models.base import ModelOutput


class Metric(Protocol):
    """Accumulates over a split. `update` takes decoded predictions and targets of one batch."""

    def update(self, prediction: Any, target: Any) -> None: ...

    def state(self) -> Any:
        """What was accumulated, to be sent to another process."""
        ...

    def merge(self, states: list[Any]) -> None:
        """Takes the states of all processes (its own among them), where rank r saw every image r, r + W, r + 2 W ..."""
        ...

    def compute(self) -> tuple[dict[str, float], dict[str, float | None]]:
        """(summary metrics, per-class values), both in points; None where a class does not occur."""
        ...


class Task(Protocol):
    """Everything task-specific that the trainer calls. The engine imports no concrete task but through `build`."""

    name: str
    primary_metric: str  # e.g. "miou": the key of Metric.compute()[0] that selects checkpoints
    class_metric: str  # e.g. "iou": what the per-class values are
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

    def decode(self, model: nn.Module, out: ModelOutput, image_size: tuple[int, int], targets: Any = None) -> Any:
        """Predictions as the metric wants them, one entry an image; entries have `.cpu()`.

        `targets`: what `prepare` said of the images; it may know what of each is padding, and its labels are not looked at.
        Segmentation: NHW ids at `image_size`. Detection: a list of `Detections`. Classification: scores NK.
        """
        ...

    def scores(self, model: nn.Module, out: ModelOutput, image_size: tuple[int, int]) -> Tensor | tuple[Tensor, ...]:
        """Decoding as far as a graph can carry it, for exports: one tensor for each of `outputs`.

        Segmentation: logits NKHW at `image_size`. Detection: scores and boxes of every candidate, before selection.
        Classification: logits NK.
        """
        ...

    @property
    def outputs(self) -> tuple[tuple[str, str, str], ...]:
        """(name, layout, meaning) of what `scores` returns, in order: the outputs of an exported graph."""
        ...

    def selection(self, model: nn.Module, image_size: tuple[int, int]) -> dict[str, Any]:
        """What a reader of an exported graph has left to do after it, as JSON; empty when nothing but an argmax."""
        ...

    def metric(self) -> Metric: ...

    def constant_score(self, targets: Any) -> float:
        """What the best constant prediction scores: a teacher below it is broken."""
        ...

    def panels(self, sample: Any, predictions: dict[str, Any]) -> dict[str, np.ndarray]:
        """Pictures (HxWx3 uint8) by kind: image, truth, prediction, teacher, error."""
        ...
