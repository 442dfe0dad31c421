"""Image classification: cross-entropy, top-1 and top-5 accuracy, pictures with the surest classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acamkd_core import ranks
from acamkd_core.datasets.base import ClassInfo, Sample
from acamkd_core.models.base import ModelOutput
from acamkd_core.spec.augment import AugmentSpec
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.job import TaskLossSpec
from acamkd_core.tasks import class_pictures
from acamkd_core.tasks.classification_augment import augment, fit, to_tensor
from acamkd_core.tasks.classification_metric import UNLABELLED, ClassificationMetric


class ClassificationTask:
    """Implements `tasks.base.Task`. Targets are N int64 channels; -1 for unlabelled images.

    Args:
        classes: the dataset's classes, in the order of the network's channels.
        augment: random changes of training samples; `size` and `short_side` hold for evaluation.
        loss: class weights, label smoothing and factor of the supervised loss.

    Raises:
        CoreError: `task.class_weights` when their number is not the number of classes.
    """

    name = "classification"
    primary_metric = "top1"
    class_metric = "accuracy"
    outputs = (("logits", "NK", "class scores; argmax = class, softmax = probabilities"),)

    def __init__(
        self, classes: Sequence[ClassInfo], augment: AugmentSpec | None = None, loss: TaskLossSpec | None = None
    ) -> None:
        self.classes = list(classes)
        self.num_classes = len(self.classes)
        self.spec = augment or AugmentSpec()
        self.loss_spec = loss or TaskLossSpec()
        weights = self.loss_spec.class_weights
        if weights is not None and len(weights) != self.num_classes:
            raise CoreError(
                "task.class_weights",
                f"{len(weights)} class weights for {self.num_classes} classes",
                hint="one factor a class, in the order of the classes",
                field="task_loss.class_weights",
                value=len(weights),
            )

    def augment(self, sample: Sample, rng: np.random.Generator) -> tuple[Tensor, int]:
        """A training sample: image 3HW float RGB in [0, 1], and its class."""
        return augment(sample.image, self.spec, rng).float() / 255, _label(sample)

    def prepare(self, sample: Sample) -> tuple[Tensor, int]:
        """An evaluation sample, the middle of the resized image: 3HW float RGB in [0, 1], and its class."""
        return to_tensor(self._fit(sample)).float() / 255, _label(sample)

    def collate(self, samples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        """(images N3HW float, classes N int64)."""
        return torch.stack([image for image, _ in samples]), torch.tensor([label for _, label in samples])

    def loss(self, model: nn.Module, out: ModelOutput, targets: Tensor) -> dict[str, Tensor]:
        """{"task": weighted cross-entropy}: the mean over labelled images (of all processes); 0 when a batch has none."""
        logits = self._logits(out)
        with torch.autocast(device_type=logits.device.type, enabled=False):
            wanted = targets.to(logits.device)
            given = self.loss_spec.class_weights
            table = torch.ones(self.num_classes) if given is None else torch.tensor(given)
            table = table.to(logits.device)
            total = F.cross_entropy(
                logits, wanted, weight=table, ignore_index=UNLABELLED, reduction="sum",
                label_smoothing=self.loss_spec.label_smoothing,
            )  # fmt: skip
            mass = ranks.summed(table[wanted[wanted != UNLABELLED]].sum()) / ranks.world()
            return {"task": self.loss_spec.weight * total / mass.clamp(min=1e-12)}

    def decode(self, model: nn.Module, out: ModelOutput, image_size: tuple[int, int], targets: Any = None) -> Tensor:
        """Class scores NK (fp32 logits): what has the largest wins."""
        return self.scores(model, out, image_size)

    def scores(self, model: nn.Module, out: ModelOutput, image_size: tuple[int, int]) -> Tensor:
        """Class scores NK (fp32 logits): what exported graphs return."""
        return self._logits(out)

    def selection(self, model: nn.Module, image_size: tuple[int, int]) -> dict[str, Any]:
        """Nothing: the largest score wins."""
        return {}

    def metric(self) -> ClassificationMetric:
        """An empty accuracy counter."""
        return ClassificationMetric([c.name for c in self.classes])

    def constant_score(self, targets: Tensor | Iterable[Tensor]) -> float:
        """Top-1 in points of always naming the most frequent class. `targets`: one tensor of classes, or several."""
        counts = torch.zeros(self.num_classes, dtype=torch.int64)
        for target in [targets] if isinstance(targets, Tensor) else targets:
            counts += torch.bincount(target[target != UNLABELLED].cpu(), minlength=self.num_classes)
        return 100 * float(counts.max()) / float(counts.sum()) if counts.sum() else 0.0

    def panels(self, sample: Sample, predictions: dict[str, Tensor]) -> dict[str, np.ndarray]:
        """Pictures HxWx3 uint8: image, truth, prediction, teacher (the surest classes with their probabilities), error."""
        pixels = class_pictures.magnified(self._fit(sample))
        truth = None if sample.target is None else int(sample.target)
        shown = {"image": np.array(pixels)}
        if truth is not None:
            shown["truth"] = class_pictures.captioned(pixels, [(self.classes[truth].name, None, self._color(truth))])
        first: dict[str, int] = {}
        for kind, scores in predictions.items():
            shares, order = scores.float().cpu().softmax(dim=0).sort(descending=True)
            first[kind] = int(order[0])
            rows = [
                (self.classes[index].name, share, self._color(index))
                for index, share in zip(order.tolist(), shares.tolist(), strict=True)
            ]
            shown[kind] = class_pictures.captioned(pixels, rows)
        if truth is not None and "prediction" in first:
            shown["error"] = class_pictures.verdict(pixels, truth, first["prediction"], first.get("teacher"))
        return shown

    def _color(self, index: int) -> tuple[int, int, int]:
        return self.classes[index].color

    def _fit(self, sample: Sample) -> np.ndarray:
        return fit(sample.image, self.spec.size, self.spec.short_side)

    def _logits(self, out: ModelOutput) -> Tensor:
        logits: Tensor = out.raw.float()  # whatever the autocast type: half precision loses small probabilities
        if logits.shape[1] != self.num_classes:
            raise CoreError(
                "task.class_count",
                f"the network has {logits.shape[1]} outputs, the dataset {self.num_classes} classes",
                value=int(logits.shape[1]),
            )
        return logits


def _label(sample: Sample) -> int:
    return UNLABELLED if sample.target is None else int(sample.target)
