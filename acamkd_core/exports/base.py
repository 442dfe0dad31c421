"""The contract of every export format: what an exporter is given, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from acamkd_core.models.base import TaskModel
from acamkd_core.spec.models import Preprocess

Scores = Callable[..., Tensor | tuple[Tensor, ...]]
"""The task's decoding as far as a graph can carry it, of (model, its output, (height, width)): see `Task.scores`. Where the
graph is told what is padding (`ExportSource.told_inside`), of the images' sizes N2 too."""

SEGMENTATION_OUTPUTS = (("logits", "NCHW", "class scores at the input size; argmax = class"),)


@dataclass(frozen=True)
class ExportClass:
    """A class as a file names it; its position in the list is its channel."""

    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class ExportSource:
    """A trained network and what a file must say of it.

    Attributes:
        model: on any device, in any mode; exporters copy it and leave it as it is.
        arch: the resolved architecture, as in the spec.
        preprocess: what this network's input looks like.
        classes: in channel order.
        size: height and width at which the network was evaluated.
        aspect: `short`, `max` and `pad_to` where images kept their aspect ratio; then `size` is one of many, and graphs
            take any. None: every image was resized to `size`.
        short_side: where images were resized to this short side, and `size` cut out of the middle (classification).
        resize: name of Pillow's filter that evaluation resized images with.
        scores: the task's decoding, without what a graph cannot carry (argmax, suppression of doubles).
        outputs: (name, layout, meaning) of each tensor that `scores` returns.
        selection: what a reader has left to do after the graph; empty where nothing but an argmax.
        chosen_inside: candidates are chosen inside the graph (proposals), so that their order may change in rounding, and
            what of the input is padding must be known there: where `aspect` is given, the graph has a second input for it.
        weights_digest: digest over the tensors.
        state: tensors to store, when they differ from the model's own (e.g. without an auxiliary head).
    """

    model: TaskModel
    arch: dict[str, Any]
    preprocess: Preprocess
    classes: list[ExportClass]
    size: tuple[int, int]
    scores: Scores
    weights_digest: str
    task: str = "semantic_segmentation"
    outputs: tuple[tuple[str, str, str], ...] = SEGMENTATION_OUTPUTS
    selection: dict[str, Any] = field(default_factory=dict)
    chosen_inside: bool = False
    resize: str = "bilinear"
    aspect: dict[str, int] | None = None
    short_side: int | None = None
    state: dict[str, Tensor] | None = None

    @property
    def told_inside(self) -> bool:
        """Whether a graph has a second input, height and width of each image inside its padding."""
        return self.chosen_inside and self.aspect is not None


@dataclass(frozen=True)
class ExportedFile:
    """A finished file. `facts`: numbers of the export itself, e.g. the difference to torch."""

    format: str
    path: Path
    bytes: int
    facts: dict[str, Any] = field(default_factory=dict)


class Exporter(Protocol):
    """A format. One module a format, named like it, holds one instance as `EXPORTER`."""

    file_name: str
    gated: bool  # whether the parity gate can score the file

    def write(self, source: ExportSource, options: Any, path: Path) -> ExportedFile:
        """Write the file. `options` is the format's own class in `acamkd_core.spec.exports`."""
        ...
