"""The contract of every network: named feature levels with published shapes, and a raw head output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from acamkd_core.spec.models import Preprocess


@dataclass(frozen=True)
class Level:
    """A named feature map: `channels`, and `stride` = input size over map size.

    onward: the network can go on from here with other values (`TaskModel.onward`); MasKD needs that of a teacher.
    """

    channels: int
    stride: int
    onward: bool = False


@dataclass
class ModelOutput:
    """What a forward pass returns.

    features: named levels, each NCHW. Segmenters publish their class scores as level `logits` too.
    raw: the head's output before any upsampling or decoding (segmentation: logits NCHW at the output stride).
    aux: raw output of an auxiliary head, or None.
    """

    features: dict[str, Tensor]
    raw: Any
    aux: Any = None


class Normalise(nn.Module):
    """RGB in [0, 1] (NCHW) to what the network eats. Buffers are constants, not weights: they stay out of state dicts."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        import torch

        self.bgr = preprocess.order == "bgr"
        self.scale = float(preprocess.range)
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if self.bgr:
            images = images.flip(1)
        return (images * self.scale - self.mean) / self.std


class TaskModel(nn.Module):
    """Base of all networks. Subclasses fill `levels` in `__init__`, in the order of the forward pass.

    align_corners: the grid on which the network's scores are to be resized to the image.
    """

    levels: dict[str, Level]
    normalise: Normalise
    align_corners: bool = False

    def forward(self, images: Tensor) -> ModelOutput:
        """`images`: NCHW float RGB in [0, 1]; the network normalises them itself."""
        raise NotImplementedError

    def onward(self, replaced: dict[str, Tensor]) -> list[ModelOutput]:
        """What would come out if the named levels held these values: one output for each place that is entered by itself.

        A segmenter's levels follow one another, so each gives an output of its own; the levels of a pyramid enter a
        detector's head together and give one. Only `raw` is filled.

        Called for levels that say `onward` only.
        """
        raise NotImplementedError

    @property
    def head(self) -> nn.Module:
        """The part after the features (methods such as CrossKD need it; frozen for a teacher)."""
        raise NotImplementedError
