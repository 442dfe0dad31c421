"""Object detection: targets, loss, decoding, COCO mAP, pictures. The networks' own losses need their anchors, so they
have them (`model.loss`); this file holds what all of them share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acamkd_core.datasets.base import Boxes, ClassInfo, Sample
from acamkd_core.models.base import Detector, ModelOutput
from acamkd_core.spec.augment import AugmentSpec
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.job import TaskLossSpec
from acamkd_core.tasks import box_pictures
from acamkd_core.tasks.detection_augment import PAD_COLOR, augment, fit, pad, to_tensor, trainable
from acamkd_core.tasks.detection_decode import Detections, select
from acamkd_core.tasks.detection_metric import DetectionMetric
from acamkd_core.tasks.detection_ssd import augment_ssd
from acamkd_core.tasks.detection_target import DetectionTarget


class DetectionTask:
    """Implements `tasks.base.Task`. Targets are lists with one `DetectionTarget` an image.

    Args:
        classes: the dataset's classes, in the order of the network's channels.
        augment: random changes of training samples; `size` also holds for evaluation.
        loss: factor of the supervised loss.

    Raises:
        CoreError: `task.class_weights`: focal and matching losses have none.
    """

    name = "detection"
    primary_metric = "map"
    class_metric = "ap"
    outputs = (
        ("scores", "NAK", "probability of each class for each candidate"),
        ("boxes", "NA4 or NAK4", "x1 y1 x2 y2 of each candidate (or of it as each class), in pixels of the input"),
    )

    def __init__(
        self, classes: Sequence[ClassInfo], augment: AugmentSpec | None = None, loss: TaskLossSpec | None = None
    ) -> None:
        self.classes = list(classes)
        self.num_classes = len(self.classes)
        self.spec = augment or AugmentSpec()
        self.loss_spec = loss or TaskLossSpec()
        self.palette = [c.color for c in self.classes]
        if self.loss_spec.class_weights is not None:
            raise CoreError(
                "task.class_weights",
                "detection losses have no class weights",
                hint="leave task_loss.class_weights out",
                field="task_loss.class_weights",
            )

    def augment(self, sample: Sample, rng: np.random.Generator) -> tuple[Tensor, DetectionTarget]:
        """A training sample: image 3HW float RGB in [0, 1], and its boxes."""
        image, found = (augment_ssd if self.spec.ssd else augment)(sample, self.spec, rng)
        boxes, labels = found if found is not None else _nothing()
        target = DetectionTarget(boxes, labels, labelled=found is not None, size=self._inside(image.shape[1:]))
        return pad(image, self.spec).float() / 255, target

    def prepare(self, sample: Sample) -> tuple[Tensor, DetectionTarget]:
        """An evaluation sample, resized and padded: image 3HW float RGB in [0, 1], and its boxes."""
        pixels, scale = fit(sample.image, self.spec)
        truth: Boxes | None = sample.target
        size = (pixels.shape[0], pixels.shape[1])
        boxes, labels = trainable(truth, scale, size) if truth is not None else _nothing()
        target = DetectionTarget(
            boxes, labels, labelled=truth is not None, truth=truth, scale=scale, size=self._inside(size)
        )
        return pad(to_tensor(pixels), self.spec).float() / 255, target

    def _inside(self, size: Sequence[int]) -> tuple[int, int] | None:
        """What a target says of an image of this size: None where nothing is padded."""
        return (int(size[0]), int(size[1])) if self.spec.resize is not None else None

    def collate(self, samples: list[tuple[Tensor, DetectionTarget]]) -> tuple[Tensor, list[DetectionTarget]]:
        """(images N3HW float, one target an image). Smaller images are padded at the right and the bottom."""
        height = max(image.shape[1] for image, _ in samples)
        width = max(image.shape[2] for image, _ in samples)
        blank = torch.tensor(PAD_COLOR, dtype=torch.float32).view(1, 3, 1, 1) / 255
        images = blank.repeat(len(samples), 1, height, width)
        for row, (image, _) in enumerate(samples):
            images[row, :, : image.shape[1], : image.shape[2]] = image
        return images, [target for _, target in samples]

    def loss(self, model: nn.Module, out: ModelOutput, targets: Sequence[DetectionTarget]) -> dict[str, Tensor]:
        """The network's own terms, e.g. {"task/class": ..., "task/box": ...}; 0 for a batch without labels."""
        detector = _detector(model)
        labelled = [index for index, target in enumerate(targets) if target.labelled]
        device = next(model.parameters()).device
        boxes = [targets[index].boxes.to(device) for index in labelled]
        labels = [targets[index].labels.to(device) for index in labelled]
        terms = detector.loss(out, labelled, boxes, labels, [targets[index].size for index in labelled])
        return {f"task/{name}": self.loss_spec.weight * value for name, value in terms.items()}

    def scores(
        self, model: nn.Module, out: ModelOutput, image_size: tuple[int, int], sizes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(probabilities NAK, boxes NA4 in pixels of the input, inside it) of every candidate, fp32.

        `sizes`: N2, in a graph that is told which part of its input is each image.
        """
        return _detector(model).candidates(out, image_size, sizes)

    def decode(
        self,
        model: nn.Module,
        out: ModelOutput,
        image_size: tuple[int, int],
        targets: Sequence[DetectionTarget] | None = None,
    ) -> list[Detections]:
        """The detections of each image, in pixels of the network's input, none in its padding."""
        detector = _detector(model)
        sizes = [target.size for target in targets] if targets is not None else None
        scores, boxes = detector.candidates(out, image_size, sizes)
        counts = detector.counts(image_size)
        return [select(s, b, counts, detector.selection) for s, b in zip(scores, boxes, strict=True)]

    def selection(self, model: nn.Module, image_size: tuple[int, int]) -> dict[str, Any]:
        """How a reader chooses among the candidates of an exported graph.

        `levels` are numbers of candidates, or under `resize`, where images differ in size, {stride, each}: candidates a
        position of a map whose sides are those of the input over the stride, rounded up.
        """
        detector = _detector(model)
        levels: list[Any] = list(detector.counts(image_size))
        if self.spec.resize is not None:
            levels = [{"stride": stride, "each": each} for stride, each in detector.grid]
            if detector.chosen_inside:
                levels = [detector.chosen_inside]
        return {**detector.selection.as_dict(), "levels": levels}

    def metric(self) -> DetectionMetric:
        """An empty COCO mAP accumulator."""
        return DetectionMetric([c.name for c in self.classes])

    def constant_score(self, targets: Iterable[Any]) -> float:
        """0: the same boxes for every image score practically nothing."""
        return 0.0

    def panels(self, sample: Sample, predictions: dict[str, Detections]) -> dict[str, np.ndarray]:
        """Pictures HxWx3 uint8 at the evaluation size, without padding: image, truth, prediction, teacher, error."""
        pixels, scale = fit(sample.image, self.spec)
        shown = {"image": np.array(pixels)}
        truth = None
        if sample.target is not None:
            boxes, labels = trainable(sample.target, scale, (pixels.shape[0], pixels.shape[1]))
            truth = boxes.numpy(), labels.numpy()
            shown["truth"] = box_pictures.draw_boxes(pixels, *truth, self.palette)
        sure: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for kind, found in predictions.items():
            one = found.cpu()
            boxes_D4, scores_D, labels_D = one.boxes.numpy(), one.scores.numpy(), one.labels.numpy()
            shown[kind] = box_pictures.draw_boxes(pixels, boxes_D4, labels_D, self.palette, scores_D)
            counted = scores_D >= box_pictures.SHOWN
            sure[kind] = boxes_D4[counted], labels_D[counted]
        if truth is not None and "prediction" in sure:
            shown["error"] = box_pictures.draw_errors(pixels, truth, sure["prediction"], sure.get("teacher"))
        return shown


def _nothing() -> tuple[Tensor, Tensor]:
    return torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)


def _detector(model: nn.Module) -> Detector:
    if not isinstance(model, Detector):
        raise CoreError("task.no_detector", f"{type(model).__name__} finds no boxes", field="student.arch")
    return model
