"""A teacher that sees the job's images at another size than the student: around any network, of ours or foreign.

Images are resized before the network normalises them, bilinearly, with anti-aliasing where they shrink. Its maps stay as they
are: methods bring the student's to their size. What it says of places is in the job's pixels: strides, boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from acamkd_core.models.anchors import Sizes
from acamkd_core.models.around import Around
from acamkd_core.models.base import Detector, ModelOutput, TaskModel
from acamkd_core.spec.sizes import Size, seen_by_teacher


class Resized(Around):
    """A segmenter or classifier.

    Args:
        inner: the network.
        size: height and width at which it sees training samples.
        frame: height and width of those; other images are resized by the same factor.
    """

    def __init__(self, inner: TaskModel, size: Size, frame: Size) -> None:
        super().__init__(inner)
        self.size, self.frame = size, frame
        self.zoom = (size[0] / frame[0], size[1] / frame[1])
        # Strides only choose which levels are compared, and are whole there; the maps themselves say their sizes.
        zoom = math.sqrt(self.zoom[0] * self.zoom[1])
        self.levels = {
            name: replace(level, stride=level.stride and max(1, round(level.stride / zoom)))
            for name, level in inner.levels.items()
        }

    def seen(self, size: Size) -> Size:
        """Height and width at which it sees images of `size`."""
        return seen_by_teacher(size, self.size, self.frame)

    def resize(self, images_NCHW: Tensor) -> Tensor:
        """The images as it sees them; the same tensor where nothing changes."""
        have = (images_NCHW.shape[-2], images_NCHW.shape[-1])
        size = self.seen(have)
        if size == have:
            return images_NCHW
        smaller = size[0] < have[0] or size[1] < have[1]
        return F.interpolate(images_NCHW, size=size, mode="bilinear", align_corners=False, antialias=smaller)

    def forward(self, images: Tensor) -> ModelOutput:
        return super().forward(self.resize(images))

    def infer(self, images: Tensor) -> object:
        return super().infer(self.resize(images))


class ResizedDetector(Resized, Detector):
    """Boxes in and out are in the job's pixels. Its head, which CrossKD enters, stays in its own (`StepContext.teacher_boxes`)."""

    def __init__(self, inner: Detector, size: Size, frame: Size) -> None:
        super().__init__(inner, size, frame)
        self.detector = inner
        self.selection = inner.selection

    def loss(
        self,
        out: ModelOutput,
        rows: Sequence[int],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        sizes: Sizes = None,
    ) -> dict[str, Tensor]:
        # Images of one size have no padding, so `sizes` says nothing.
        return self.detector.loss(out, rows, [scaled(one, *self.zoom) for one in boxes], labels)

    def candidates(self, out: ModelOutput, image_size: Size, sizes: Sizes = None) -> tuple[Tensor, Tensor]:
        seen = self.seen(image_size)
        scores, boxes = self.detector.candidates(out, seen)
        return scores, scaled(boxes, image_size[0] / seen[0], image_size[1] / seen[1])

    def counts(self, image_size: Size) -> list[int]:
        return self.detector.counts(self.seen(image_size))


def scaled(boxes: Tensor, vertical: float, horizontal: float) -> Tensor:
    """Boxes (... 4) in an image whose height and width are so many times what they were."""
    return boxes * boxes.new_tensor([horizontal, vertical, horizontal, vertical])


def resized(inner: TaskModel, size: Size, frame: Size) -> Resized:
    """`inner` for images of other sizes than it sees. Arguments as `Resized`."""
    return ResizedDetector(inner, size, frame) if isinstance(inner, Detector) else Resized(inner, size, frame)
