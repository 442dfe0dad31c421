"""Small COCO folders, written by hand: painted rectangles, so that a box can be held against the pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.acamkd_core.datasets.factories import save

# Ids with gaps, as COCO's own.
CATEGORIES = [{"id": 3, "name": "car"}, {"id": 1, "name": "person"}, {"id": 90, "name": "brush"}]
PAINT = {1: (250, 20, 20), 3: (20, 250, 20), 90: (20, 20, 250)}


def annotations(count: int, size: tuple[int, int] = (40, 60), first: int = 0) -> dict[str, Any]:
    """`count` images with one object of each category, apart from each other; the last image has none."""
    images = [
        {"id": 100 + first + i, "file_name": f"{first + i:02d}.png", "height": size[0], "width": size[1]}
        for i in range(count)
    ]
    found: list[dict[str, Any]] = []
    for image in images[:-1]:
        for column, category in enumerate((1, 3, 90)):
            box = [4 + 20 * column + image["id"] % 3, 5 + column, 10, 12 + column]
            found.append(
                {"id": len(found) + 1, "image_id": image["id"], "category_id": category, "bbox": box,
                 "area": box[2] * box[3], "iscrowd": 0}
            )  # fmt: skip
    return {"images": images, "annotations": found, "categories": CATEGORIES}


def paint(root: Path, split: str, data: dict[str, Any], pattern: str = "images/{split}") -> None:
    """The images that annotations describe: grey noise with filled rectangles."""
    for image in data["images"]:
        rng = np.random.default_rng(image["id"])
        pixels = rng.integers(90, 150, (image["height"], image["width"], 3), dtype=np.uint8)
        for one in data["annotations"]:
            if one["image_id"] == image["id"]:
                x, y, width, height = (int(value) for value in one["bbox"])
                pixels[y : y + height, x : x + width] = PAINT[one["category_id"]]
        save(root / pattern.format(split=split) / image["file_name"], pixels)


def write_coco(root: Path, counts: dict[str, int] | None = None, layout: str = "annotations/{split}.json") -> Path:
    """A sound folder: train 4, val 3, test 3 images, all different."""
    first = 0
    for split, count in (counts or {"train": 4, "val": 3, "test": 3}).items():
        data = annotations(count, first=first)
        first += count
        paint(root, split, data)
        store(root, split, data, layout)
    return root


def store(root: Path, split: str, data: dict[str, Any], layout: str = "annotations/{split}.json") -> None:
    """An annotation file."""
    path = root / layout.format(split=split)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
