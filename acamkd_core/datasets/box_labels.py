"""The boxes of one split, whatever file format they come from: checked one by one, because they are foreign input."""

from __future__ import annotations

from collections.abc import Callable
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
            notes.append(Note(code, role, len(rows), [file for file, _ in rows], told))
    return notes


# Pixels of an image at most. A number that is no smaller (NaN is none either) is a mistake, and 1e39 has no float32.
HUGE = 1e12
# Boxes that merely stick out are usual: COCO's and VOC's by a pixel, those of whole people by more (CrowdHuman, MOT). They
# are cut. Numbers in other units, for images of another size, or corners in place of sizes show in other ways: a box has no
# pixel of its image, many boxes lie more outside than inside, or boxes of 0 to 1 end within the first pixel.
FAR = 0.5  # share of a box's area; with more of it outside, a box is not merely cut
FAR_SHARE, SLIPS = 0.1, 2  # share of a split's boxes that may be so, and how many are slips of the hand
FRACTION_SHARE = 0.5  # share of a split's boxes that may end within the first pixel


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

    path: the file that lists its images, for messages. annotations: by image id. Image ids of boxes, one a box: bad (left
    out: no size, or no numbers), elsewhere (left out: wholly outside), outside (reaching beyond their image), far (mostly
    outside), fractions (within the first pixel). twice, unknown_*: what does not fit together. notes: what only this format
    can get wrong.
    """

    path: Path
    split: str
    digest: str
    categories: dict[int, str]
    images: dict[int, ListedImage] = field(default_factory=dict)
    annotations: dict[int, list[tuple[float, float, float, float, int, bool, float]]] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)
    elsewhere: list[int] = field(default_factory=list)
    outside: list[int] = field(default_factory=list)
    far: list[int] = field(default_factory=list)
    fractions: list[int] = field(default_factory=list)
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
        """Takes a box (x1, y1, x2, y2 in pixels) of a listed image, or notes why it is left out. A box of an image whose
        size is not known has no place: the image itself is a finding.

        Args:
            image: the image it lies on.
            box: not clipped.
            category: an id of `categories`.
            crowd: see `base.Boxes`.
            area: square pixels; None: of the box.
        """
        x1, y1, x2, y2 = box
        own = (x2 - x1) * (y2 - y1)
        size = area if area is not None else own
        if not image.height:
            return
        if not all(abs(value) < HUGE for value in (*box, size)) or x2 <= x1 or y2 <= y1:
            self.bad.append(image.id)
            return
        if x1 >= image.width or y1 >= image.height or x2 <= 0 or y2 <= 0:
            self.elsewhere.append(image.id)
            return
        kept = (min(x2, image.width) - max(x1, 0)) * (min(y2, image.height) - max(y1, 0))
        if kept < (1 - FAR) * own:
            self.far.append(image.id)
        if max(x2, y2) <= 1 < max(image.width, image.height):
            self.fractions.append(image.id)
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

    def misplaced(self, role: str, named: Callable[[int], str]) -> list[Note]:
        """Boxes that say that their numbers mean something else than pixels of the stored images.

        Args:
            role: of the split.
            named: an image's name, from its id.
        """
        boxes = sum(map(len, self.annotations.values()))
        found = []
        if self.elsewhere:
            images = len(set(self.elsewhere))
            told = f"in {images} image" + ("s" if images > 1 else "")
            found.append(
                Note("dataset.boxes_elsewhere", role, len(self.elsewhere), [*map(named, self.elsewhere)], told)
            )
        for code, ids, allowed in (
            ("dataset.boxes_far_outside", self.far, max(SLIPS, FAR_SHARE * boxes)),
            ("dataset.boxes_in_fractions", self.fractions, FRACTION_SHARE * boxes),
        ):
            if len(ids) > allowed:
                found.append(Note(code, role, len(ids), [*map(named, ids)], str(boxes)))
        return found
