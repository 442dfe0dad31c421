"""What the parity gate needs of a detection run: the checkpoint's detections, and the labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from acamkd_core.datasets.base import Boxes, Item


class DetectionFile:
    """The checkpoint's detections on disk, as JSON: for each image rows of x1 y1 x2 y2, score, class position.

    Boxes are in pixels of the network's input. Numbers are written so that reading gives the same float.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._images: list[list[list[float]]] = []

    def add(self, batch: Any) -> None:
        """Append a batch of detections (objects with `boxes`, `scores` and `labels` tensors), in the images' order."""
        for one in batch:
            found = one.cpu()
            rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
            self._images.append([[*box, score, label] for box, score, label in rows])

    def close(self) -> Path:
        """Write the file, and return its path."""
        self.path.write_text(json.dumps(self._images), encoding="utf-8")
        return self.path


@dataclass(frozen=True)
class BoxTruth:
    """Detection: where an item's boxes are."""

    boxes: Callable[[Item], Boxes]
    task: ClassVar[str] = "detection"
    metric: ClassVar[str] = "map"

    def entries(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Image files with their boxes in pixels of the stored image."""
        return [self._entry(item, self.boxes(item)) for item in items]

    @staticmethod
    def _entry(item: Item, truth: Boxes) -> dict[str, Any]:
        return {
            "image": str(item.image.resolve()), "boxes": truth.boxes.tolist(), "labels": truth.labels.tolist(),
            "crowd": truth.crowd.tolist(), "area": truth.area.tolist(),
        }  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """Nothing beyond the images."""
        return {}
