"""COCO mAP over a split: boxes go back to the pixels of the stored images, pycocotools does the rest."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from acamkd_core.coco_score import Found, coco_scores
from acamkd_core.datasets.base import Boxes
from acamkd_core.tasks.detection_decode import Detections
from acamkd_core.tasks.detection_target import DetectionTarget


class DetectionMetric:
    """mAP, mAP at IoU 0.50 and 0.75, by size, and AP by class, in points. Unlabelled images are not scored."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        # One entry an image; None for an unlabelled one, so that the images of several processes can be put in order.
        self.seen: list[tuple[Boxes, Found] | None] = []

    def update(self, prediction: Sequence[Detections], target: Sequence[DetectionTarget]) -> None:
        """Add a batch: detections in pixels of the network's input, and the targets that say how it was resized."""
        for one, wanted in zip(prediction, target, strict=True):
            truth = wanted.truth
            self.seen.append(None if truth is None else (truth, in_stored_pixels(one, wanted.scale)))

    def state(self) -> list[tuple[Boxes, Found] | None]:
        """Labels and detections of every image seen."""
        return self.seen

    def merge(self, states: list[list[tuple[Boxes, Found] | None]]) -> None:
        """The images of all processes in the split's order: equal scores are ranked by it."""
        self.seen = [one for row in itertools.zip_longest(*states) for one in row]

    def compute(self) -> tuple[dict[str, float], dict[str, float | None]]:
        """({map, map_50, map_75, map_small, map_medium, map_large: those that have objects}, AP by class name)."""
        scored = [one for one in self.seen if one is not None]
        summary, classes = coco_scores([one[0] for one in scored], [one[1] for one in scored], len(self.names))
        return summary, dict(zip(self.names, classes, strict=True))


def in_stored_pixels(found: Detections, scale: tuple[float, float]) -> Found:
    """Detections with boxes in pixels of the stored image. `scale`: network input over stored image, x and y."""
    factors: Tensor = torch.tensor([scale[0], scale[1], scale[0], scale[1]], dtype=torch.float64)
    one = found.cpu()
    return Found((one.boxes.double() / factors).numpy(), one.scores.double().numpy(), one.labels.numpy())
