"""The boxes of one split, whatever file format they come from: checked one by one, because they are foreign input."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from acamkd_core.datasets.base import Boxes, Note


def notes_of(problems: dict[str, list[tuple[str, str]]], role: str) -> list[Note]:
    """Problems by code, each (file, detail), as one note a code."""
    notes = []
    for code, rows in problems.items():
        details = list(dict.fromkeys(detail for _, detail in rows if detail))
        told = ", ".join(details[:4]) + (" ..." if len(details) > 4 else "")
        if rows:
            notes.append(Note(code, role, len(rows), list(dict.fromkeys(file for file, _ in rows)), told))
    return notes


@dataclass(frozen=True)
class ListedImage:
    """An image that labels name; height and width 0 where nothing states them and the file cannot be read."""

    id: int
    file_name: str
    height: int
    width: int


@dataclass
class BoxLabels:
    """The labels of a split.

    path: the file that lists its images, for messages. annotations: by image id. bad: image ids of boxes that were left
    out (no size, no numbers, or wholly outside). outside: image ids of boxes that reach beyond their image. twice,
    unknown_*: what does not fit together. notes: what only this format can get wrong.
    """

    path: Path
    split: str
    digest: str
    categories: dict[int, str]
    images: dict[int, ListedImage] = field(default_factory=dict)
    annotations: dict[int, list[tuple[float, float, float, float, int, bool, float]]] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)
    outside: list[int] = field(default_factory=list)
    unknown_images: list[int] = field(default_factory=list)
    unknown_categories: list[int] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def add(
        self,
        image: ListedImage,
        box: tuple[float, float, float, float],
        category: int,
        *,
        crowd: bool = False,
        area: float | None = None,
    ) -> None:
        """Takes a box (x1, y1, x2, y2 in pixels) of a listed image, or notes why it is left out.

        Args:
            image: the image it lies on.
            box: not clipped.
            category: an id of `categories`.
            crowd: see `base.Boxes`.
            area: square pixels; None: of the box.
        """
        x1, y1, x2, y2 = box
        size = area if area is not None else (x2 - x1) * (y2 - y1)
        inside = x1 < image.width and y1 < image.height and x2 > 0 and y2 > 0
        if not all(map(math.isfinite, (*box, size))) or x2 <= x1 or y2 <= y1 or not inside:
            self.bad.append(image.id)
            return
        # Half a pixel is rounding, no mistake.
        if x1 < -0.5 or y1 < -0.5 or x2 > image.width + 0.5 or y2 > image.height + 0.5:
            self.outside.append(image.id)
        self.annotations.setdefault(image.id, []).append((x1, y1, x2, y2, category, crowd, size))

    def boxes_of(self, image: ListedImage, channels: dict[int, int]) -> Boxes:
        """The boxes of an image whose category is known, in the file's order."""
        rows = [row for row in self.annotations.get(image.id, []) if row[4] in channels]
        return Boxes(
            boxes=np.array([row[:4] for row in rows], dtype=np.float32).reshape(-1, 4),
            labels=np.array([channels[row[4]] for row in rows], dtype=np.int64),
            crowd=np.array([row[5] for row in rows], dtype=bool),
            area=np.array([row[6] for row in rows], dtype=np.float32),
        )
