"""What a detector is trained on and scored against, one entry an image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from acamkd_core.datasets.base import Boxes


@dataclass(frozen=True)
class DetectionTarget:
    """The objects of one image as the network sees it.

    Attributes:
        boxes: N4 float32, x1 y1 x2 y2 in pixels of the network's input, inside it, none empty.
        labels: N int64 channels.
        labelled: False for an image without labels: it has no supervised loss.
        truth: the stored labels, crowds included, for scoring; None in training and for unlabelled images.
        scale: network input over stored image, x and y; (1, 1) in training, where `truth` is not kept.
        size: height and width of the image inside the network's input, whose rest is padding; None: all of it.
    """

    boxes: Tensor
    labels: Tensor
    labelled: bool = True
    truth: Boxes | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    size: tuple[int, int] | None = None
