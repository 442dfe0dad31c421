"""What the parity gate needs of a classification run: the checkpoint's classes, and the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from acamkd_core.datasets.base import Item


class ClassFile:
    """The checkpoint's first choices on disk: N int64 class positions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._classes: list[int] = []

    def add(self, batch: Any) -> None:
        """Append the classes of a batch of scores NK (a tensor on any device), in the images' order."""
        self._classes += batch.cpu().argmax(dim=1).tolist()

    def close(self) -> Path:
        """Write the file, and return its path."""
        np.save(self.path, np.array(self._classes, dtype=np.int64), allow_pickle=False)
        return self.path


@dataclass(frozen=True)
class ClassTruth:
    """Classification: the class of an item, as the network's channel."""

    position: Callable[[Item], int]
    task: ClassVar[str] = "classification"
    metric: ClassVar[str] = "top1"

    def entries(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Image files with their classes."""
        return [{"image": str(item.image.resolve()), "label": self.position(item)} for item in items]

    def facts(self) -> dict[str, Any]:
        """Nothing beyond the images."""
        return {}
