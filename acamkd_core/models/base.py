"""The contract of every network: named feature levels with published shapes, and a raw head output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from acamkd_core.models.anchors import Sizes
from acamkd_core.models.layouts import Layout
from acamkd_core.spec.models import Preprocess


@dataclass(frozen=True)
class Level:
    """A named feature map: `channels`, and `stride` = input size over map size (0: one position for the whole image).

    onward: the network can go on from here with other values (`TaskModel.onward`); MasKD needs that of a teacher.
    """

    channels: int
    stride: int
    onward: bool = False


@dataclass
class ModelOutput:
    """What a forward pass returns.

    features: named levels, each NCHW. Segmenters and classifiers publish their class scores as level `logits` too
        (a classifier's are N K 1 1).
    raw: the head's output before any upsampling or decoding (segmentation: logits NCHW at the output stride;
        classification: logits NK; detection: the family's own).
    aux: raw output of an auxiliary head, or None.
    """

    features: dict[str, Tensor]
    raw: Any
    aux: Any = None


@dataclass(frozen=True)
class Foreign:
    """What a network says of itself that another runtime runs: it has no tensors of ours that could be counted."""

    parameters: int
    runtime: str


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


class Backbone(nn.Module):
    """Images NCHW (normalised) to levels. `levels` is in forward order; channels of the last are `out_channels`."""

    levels: dict[str, Level]
    enterable: bool = True  # whether it can go on from each level (`onward`); from c5 every backbone can
    layout: Layout | None = None  # key map of files of its source, where that depends on the network
    heads: tuple[str, ...] = ()  # how the model's names of tensors begin that lie inside it and belong to the head
    class_outputs: tuple[str, ...] = ()  # those of them with one row a class

    @property
    def out_channels(self) -> int:
        return self.levels["c5"].channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError

    def onward(self, level: str, value: Tensor) -> Tensor:
        """c5, going on from another level's map."""
        raise NotImplementedError

    def stages(self) -> list[nn.Module]:
        """What computes c2, c3, c4 and c5 in turn; the first holds the stem too. For freezing."""
        raise NotImplementedError

    def recomputable(self) -> list[nn.Module]:
        """Modules whose activations may be forgotten and computed again, block by block."""
        return self.stages()


class TaskModel(nn.Module):
    """Base of all networks. Subclasses fill `levels` in `__init__`, in the order of the forward pass.

    align_corners: the grid on which the network's scores are to be resized to the image.
    """

    levels: dict[str, Level]
    normalise: Normalise
    backbone: Backbone
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

    later_macs: int = 0
    """Multiply-adds of one image at inference that `forward` leaves to loss and decoding."""

    def infer(self, images: Tensor) -> object:
        """All layers that inference needs, to be timed."""
        return self(images)

    @property
    def foreign(self) -> Foreign | None:
        """Facts of a network that another runtime runs; None for a network of ours."""
        return None

    @property
    def scorable(self) -> bool:
        """Whether its output can be decoded; a foreign detector may give features only."""
        return True

    @property
    def head(self) -> nn.Module:
        """The part after the features (methods such as CrossKD need it; frozen for a teacher)."""
        raise NotImplementedError

    def part(self, name: str) -> nn.Module | None:
        """The part called `neck` or `head`, for a student that inherits it; None where there is none."""
        return self.head if name == "head" else None

    def head_tensors(self) -> tuple[str, ...]:
        """How the names of the head's tensors begin."""
        return (next(name for name, module in self.named_modules() if module is self.head) + ".",)

    def freeze(self, stages: int, *, norm: bool) -> None:
        """Keep the first `stages` of the backbone as they are, and with `norm` all batch norm statistics.

        A frozen stage is in evaluation mode whatever `train` says; its tensors have no gradient.
        """
        self._still = self.backbone.stages()[:stages] if stages else []  # not every network has stages
        if norm:
            self._still += [m for m in self.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for module in self._still[:stages]:
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> TaskModel:
        """Training mode for all but what is frozen."""
        super().train(mode)
        for module in getattr(self, "_still", []):
            module.train(False)
        return self


def at_least_fp32(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 become float32; float32 and float64 stay."""
    return tensor.float() if tensor.element_size() < 4 else tensor


class DenseHead(nn.Module):
    """A detection head that can be left and entered between its convolutions, as CrossKD does.

    Two towers of `depth` stages, one for classes and one for boxes, the same for all levels of a pyramid. A stage is a
    convolution (with its norm, if any) and a ReLU; behind the last come the predictors.
    """

    depth: int

    def towers(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """The stages of both towers, each without its ReLU."""
        raise NotImplementedError

    def finish(self, levels: Sequence[str], classes: list[Tensor], boxes: list[Tensor]) -> Any:
        """The head's own raw output from what its towers end in, ReLU included, for these levels of the pyramid."""
        raise NotImplementedError

    def predictions(self, raw: Any, levels: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(class logits NAK, boxes NA4 in pixels of the input, not cut to it) of these levels, fp32."""
        raise NotImplementedError

    def assign(
        self, raw: Any, levels: Sequence[str], boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int] | None]
    ) -> tuple[Tensor, float]:
        """(1 for every prediction of `predictions` that counts in this family's loss and 0 for the others, NA; these
        images' part of what the loss is divided by: whoever divides takes the sum over processes, and at least 1).

        Args:
            raw: the head's output, of the whole batch.
            levels: names of the levels.
            boxes: the objects of each image, N4.
            sizes: of each image inside the input, whose rest is padding; None: all of it.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Selection:
    """Which of a detector's candidates count as detections.

    threshold: lowest probability. candidates: best (candidate, class) pairs kept of each level. iou: overlap from which
    a detection suppresses a weaker one of its class. limit: detections an image.
    """

    threshold: float = 0.05
    candidates: int = 1000
    iou: float = 0.5
    limit: int = 100

    def as_dict(self) -> dict[str, Any]:
        """For files."""
        return {"threshold": self.threshold, "candidates": self.candidates, "iou": self.iou, "limit": self.limit}


class Detector(TaskModel):
    """Base of detectors. Candidates are anchors or positions, level by level; A of them for an image size."""

    selection: Selection = Selection()
    chosen_inside: int = 0
    """Above 0: candidates are chosen among more, so which depends on the image, and there is no `grid`; a graph of any size
    returns so many."""
    grid: Sequence[tuple[int, int]] = ()
    """(stride, candidates a position) of each level. A level's map has the input's sides over the stride, rounded up."""

    def loss(
        self,
        out: ModelOutput,
        rows: Sequence[int],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        sizes: Sequence[tuple[int, int] | None] | None = None,
    ) -> dict[str, Tensor]:
        """Unweighted supervised terms by name, of the images `rows` of the batch; zeros when there are none.

        Args:
            out: of the whole batch.
            rows: the labelled images.
            boxes: of each of them, N4 (x1 y1 x2 y2, pixels of the input).
            labels: of each of them, N int64.
            sizes: height and width of each of them inside the input, whose rest is padding; None: all of it.
        """
        raise NotImplementedError

    def candidates(self, out: ModelOutput, image_size: tuple[int, int], sizes: Sizes = None) -> tuple[Tensor, Tensor]:
        """(probabilities NAK, boxes in pixels of the input), fp32. Has to be exportable as a graph.

        Boxes are NA4, or NAK4 where each class has a box of its own.

        Args:
            out: of the whole batch.
            image_size: height and width of the input, to which boxes are cut.
            sizes: of each image inside the input, whose rest is padding: then boxes are cut to that. In a graph N2.
        """
        raise NotImplementedError

    def counts(self, image_size: tuple[int, int]) -> list[int]:
        """Candidates of each level for an input of this height and width."""
        height, width = image_size
        return [-(-height // stride) * -(-width // stride) * each for stride, each in self.grid]
