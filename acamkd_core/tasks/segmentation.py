"""Semantic segmentation: cross-entropy, mIoU, decoding, pictures."""

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
from acamkd_core.spec.job import OhemSpec, TaskLossSpec
from acamkd_core.tasks import pictures
from acamkd_core.tasks.segmentation_augment import PAD_COLOR, augment, fit, to_tensors
from acamkd_core.tasks.segmentation_metric import SegmentationMetric, constant_miou
from acamkd_core.tasks.segmentation_ohem import hard_pixels
from acamkd_core.tasks.segmentation_scales import averaged_probabilities


class SegmentationTask:
    """Implements `tasks.base.Task`. Targets are NHW uint8 channel ids; unlabelled images are all ignore id.

    Args:
        classes: the dataset's classes, in the order of the network's channels.
        ignore_id: id that is neither trained nor scored.
        augment: random changes of training samples; `size` also holds for evaluation.
        loss: class weights and factors of the supervised loss.

    Raises:
        CoreError: `task.class_weights` when their number is not the number of classes.
    """

    name = "semantic_segmentation"
    primary_metric = "miou"
    class_metric = "iou"
    outputs = (("logits", "NCHW", "class scores at the input size; argmax = class"),)

    def __init__(
        self,
        classes: Sequence[ClassInfo],
        ignore_id: int,
        augment: AugmentSpec | None = None,
        loss: TaskLossSpec | None = None,
    ) -> None:
        self.classes = list(classes)
        self.num_classes = len(self.classes)
        self.ignore_id = ignore_id
        self.spec = augment or AugmentSpec()
        self.loss_spec = loss or TaskLossSpec()
        self.palette = np.array([c.color for c in self.classes], dtype=np.uint8)
        weights = self.loss_spec.class_weights
        if weights is not None and len(weights) != self.num_classes:
            raise CoreError(
                "task.class_weights",
                f"{len(weights)} class weights for {self.num_classes} classes",
                hint="one factor a class, in the order of classes.json",
                field="task_loss.class_weights",
                value=len(weights),
            )

    def augment(self, sample: Sample, rng: np.random.Generator) -> tuple[Tensor, Tensor | None]:
        """A training sample: image 3HW float RGB in [0, 1], target HW uint8 (None when unlabelled)."""
        image, target = augment(sample, self.spec, self.ignore_id, rng)
        return image.float() / 255, target

    def prepare(self, sample: Sample) -> tuple[Tensor, Tensor | None]:
        """An evaluation sample at `augment.size`, image 3HW float RGB in [0, 1], target HW uint8 or None."""
        image, target = to_tensors(fit(sample, self.spec.size))
        return image.float() / 255, target

    def collate(self, samples: list[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor]:
        """(images N3HW float, targets NHW uint8). Missing targets are filled with the ignore id.

        Images of different sizes are padded at the right and the bottom: mean colour, ignore id.
        """
        height = max(image.shape[1] for image, _ in samples)
        width = max(image.shape[2] for image, _ in samples)
        pad = torch.tensor(PAD_COLOR, dtype=torch.float32).view(1, 3, 1, 1) / 255
        images = pad.repeat(len(samples), 1, height, width)
        targets = torch.full((len(samples), height, width), self.ignore_id, dtype=torch.uint8)
        for row, (image, target) in enumerate(samples):
            images[row, :, : image.shape[1], : image.shape[2]] = image
            if target is not None:
                targets[row, : target.shape[0], : target.shape[1]] = target
        return images, targets

    def loss(self, model: nn.Module, out: ModelOutput, targets: Tensor) -> dict[str, Tensor]:
        """{"task": weighted cross-entropy of the head, "aux": that of the auxiliary head where there is one}."""
        spec = self.loss_spec
        terms = {"task": spec.weight * self._cross_entropy(model, out.raw, targets, ohem=spec.ohem)}
        if out.aux is not None and spec.aux_weight > 0:
            terms["aux"] = spec.weight * spec.aux_weight * self._cross_entropy(model, out.aux, targets)
        return terms

    def decode(self, model: nn.Module, out: ModelOutput, image_size: tuple[int, int], targets: Any = None) -> Tensor:
        """Class ids NHW (int64) at `image_size`: logits are upsampled first, then the largest wins."""
        return self.scores(model, out, image_size).argmax(dim=1)

    def scores(self, model: nn.Module, out: ModelOutput, image_size: tuple[int, int]) -> Tensor:
        """Class scores NKHW (fp32 logits) at `image_size`: what exported graphs return."""
        return self._upsample(model, out.raw, image_size)

    def averaged(self, model: nn.Module, images: Tensor, *, scales: Sequence[float], flip: bool) -> Tensor:
        """Class ids NHW (int64) of the largest mean probability over several sizes of the images, and mirrored ones."""
        size = (int(images.shape[-2]), int(images.shape[-1]))

        def scores(view: Tensor) -> Tensor:
            return self.scores(model, model(view), size)

        return averaged_probabilities(scores, images, scales, flip).argmax(dim=1)

    def selection(self, model: nn.Module, image_size: tuple[int, int]) -> dict[str, Any]:
        """Nothing: the largest score wins."""
        return {}

    def metric(self) -> SegmentationMetric:
        """An empty mIoU accumulator."""
        return SegmentationMetric([c.name for c in self.classes], self.ignore_id)

    def constant_score(self, targets: Tensor | Iterable[Tensor]) -> float:
        """mIoU in points of the best constant prediction. `targets`: one tensor of ids, or several."""
        return constant_miou(targets, self.num_classes, self.ignore_id)

    def panels(self, sample: Sample, predictions: dict[str, Tensor | np.ndarray]) -> dict[str, np.ndarray]:
        """Pictures HxWx3 uint8 at the evaluation size: image, truth, prediction, teacher, error.

        Args:
            sample: the decoded sample; without target there is no truth and no error.
            predictions: HW ids by kind (`prediction`, `teacher`), as `decode` gives them.
        """
        sample = fit(sample, self.spec.size)
        shown = {"image": np.array(sample.image)}
        if sample.target is not None:
            shown["truth"] = pictures.overlay(sample.image, sample.target, self.palette, self.ignore_id)
        ids = {kind: np.asarray(value) for kind, value in predictions.items()}  # tensors are expected on the CPU
        for kind, value in ids.items():
            shown[kind] = pictures.overlay(sample.image, value, self.palette, self.ignore_id)
        if sample.target is not None and "prediction" in ids:
            shown["error"] = pictures.errors(
                sample.image, sample.target, ids["prediction"], self.ignore_id, ids.get("teacher")
            )
        return shown

    def _upsample(self, model: nn.Module, logits: Tensor, size: tuple[int, int]) -> Tensor:
        # In fp32 whatever the autocast type: half-precision sums over many classes and pixels lose small terms.
        logits = logits.float()
        if tuple(logits.shape[-2:]) == tuple(size):
            return logits
        corners = bool(getattr(model, "align_corners", False))
        return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=corners)

    def _cross_entropy(
        self, model: nn.Module, logits: Tensor, targets: Tensor, *, ohem: OhemSpec | None = None
    ) -> Tensor:
        """Weighted mean over labelled pixels, with `ohem` over the hard ones among them; 0 with zero gradient when a batch
        has none (PyTorch's mean is NaN).

        Of several processes, whose gradients are averaged, each divides by the mean of their labelled pixels: the mean
        of the terms is then the mean over all labelled pixels of the batch. Hard ones are chosen in each process.
        """
        if logits.shape[1] != self.num_classes:
            raise CoreError(
                "task.class_count",
                f"the network has {logits.shape[1]} output channels, the dataset {self.num_classes} classes",
                value=int(logits.shape[1]),
            )
        with torch.autocast(device_type=logits.device.type, enabled=False):
            logits = self._upsample(model, logits, (int(targets.shape[-2]), int(targets.shape[-1])))
            ids = targets.to(logits.device).long()
            weights = self.loss_spec.class_weights
            table = torch.tensor(weights, device=logits.device) if weights is not None else None
            if ohem is not None:
                each = F.cross_entropy(logits.detach(), ids, ignore_index=self.ignore_id, reduction="none")
                ids = torch.where(hard_pixels(each, ids != self.ignore_id, ohem), ids, self.ignore_id)
            total = F.cross_entropy(logits, ids, weight=table, ignore_index=self.ignore_id, reduction="sum")
            labelled = ids[ids != self.ignore_id]
            mass = table[labelled].sum() if table is not None else torch.tensor(float(labelled.numel()))
            mass = ranks.summed(mass.to(total.device)) / ranks.world()
            return total / mass.clamp(min=1e-12)
