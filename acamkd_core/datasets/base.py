"""The contract of every dataset: files, classes and a digest first; pixels only when a sample is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np


@dataclass(frozen=True)
class ClassInfo:
    """One class: its id in the labels (mask value, COCO category id), name, and RGB colour for overlays."""

    id: int
    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Item:
    """One sample on disk; `label` is the file that holds its labels, None for unlabelled images."""

    image: Path
    label: Path | None


@dataclass(frozen=True)
class Boxes:
    """The objects of one image, N of them, as the labels have them (nothing clipped).

    boxes: N x 4 float32, x1 y1 x2 y2 in pixels of the stored image. labels: N int64, positions in `classes`.
    crowd: N bool; a crowd box covers many objects: it is not trained on, and what is found inside it is no mistake.
    area: N float32, square pixels, as the labels state it (COCO: of the object's outline, not of its box).
    """

    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    area: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.boxes.nbytes + self.labels.nbytes + self.crowd.nbytes + self.area.nbytes


class Note(NamedTuple):
    """Something that opening a dataset showed, for its inspection. `files` are as often there as they have the mistake;
    `detail` is what the kind's sentence asks for.
    """

    code: str
    role: str
    found: int
    files: list[str]
    detail: str


@dataclass
class Sample:
    """One decoded image: `image` HxWx3 uint8 RGB, and its labels, or None for an unlabelled image.

    `target` of segmentation: HxW uint8 ids (the ignore id included). Of detection: `Boxes`. Of classification: the position
    of its class, a NumPy int64.
    """

    image: np.ndarray
    target: Any
    extra: dict[str, Any] = field(default_factory=dict)


class Dataset(Protocol):
    """A dataset after `open_dataset(spec, roots)`: everything but the pixels is known, and was checked cheaply."""

    name: str
    format: str
    task: str
    classes: list[ClassInfo]
    digest: str  # 12 hex digits over relative paths, sizes and classes: the version that users see

    def fingerprint(self) -> str:
        """Hex digits over all that an inspection depends on, files by size and time of change. Unlike `digest` it differs
        between copies, and after a file was overwritten with as many other bytes."""
        ...

    @property
    def ignore_id(self) -> int | None:
        """Mask id without a class; None where labels are no masks."""
        ...

    def splits(self) -> dict[str, int]:
        """Number of images per role: train, val, and test / unlabelled when there are."""
        ...

    def items(self, split: str) -> list[Item]:
        """Files of a role (`train`, `val`, `test`, `unlabelled`), sorted by name."""
        ...

    def load(self, item: Item) -> Sample:
        """Pixels and labels of one item. Raises CoreError(`dataset.unreadable`) with the file's name."""
        ...

    def relative(self, path: Path) -> str:
        """A file's name as users know it: relative to the dataset's folder."""
        ...
