"""The contract of every dataset: files, classes and a digest first; pixels only when a sample is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class ClassInfo:
    """One class: its id in the masks, name, and RGB colour for overlays."""

    id: int
    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Item:
    """One sample on disk; `label` is None for unlabelled images."""

    image: Path
    label: Path | None


@dataclass
class Sample:
    """Decoded pixels: `image` HxWx3 uint8 RGB, `target` HxW uint8 ids (the ignore id included), or None."""

    image: np.ndarray
    target: np.ndarray | None
    extra: dict[str, Any] = field(default_factory=dict)


class Dataset(Protocol):
    """A dataset after `open_dataset(spec, roots)`: everything but the pixels is known, and was checked cheaply."""

    name: str
    task: str
    classes: list[ClassInfo]
    ignore_id: int
    digest: str  # 12 hex digits over relative paths, sizes and classes: the version that users see

    def splits(self) -> dict[str, int]:
        """Number of images per role: train, val, and test / unlabelled when there are."""
        ...

    def items(self, split: str) -> list[Item]:
        """Files of a role (`train`, `val`, `test`, `unlabelled`), sorted by name."""
        ...

    def load(self, item: Item) -> Sample:
        """Pixels of one item. Raises CoreError(`dataset.unreadable`) with the file's name."""
        ...
