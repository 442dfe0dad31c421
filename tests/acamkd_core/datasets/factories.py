"""Small mask folders, written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

COLORS = [[128, 64, 128], [70, 70, 70], [0, 0, 142]]


def write_folder(
    root: Path, counts: dict[str, int] | None = None, size: tuple[int, int] = (20, 30), classes: object = None
) -> Path:
    """Random images and masks with three classes, a few pixels of ignore id 9, three images a split."""
    rng = np.random.default_rng(5)
    for split, count in (counts or {"train": 3, "val": 3, "test": 3}).items():
        for index in range(count):
            image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            mask = rng.integers(0, 3, size, dtype=np.uint8)
            mask[0, :4] = 9
            save(root / "images" / split / f"{index:02d}.png", image)
            save(root / "masks" / split / f"{index:02d}.png", mask)
    entries = classes or [{"id": i, "name": n, "color": COLORS[i]} for i, n in enumerate(("road", "wall", "car"))]
    (root / "classes.json").write_text(json.dumps({"name": "toy", "classes": entries, "ignore_index": 9}))
    return root


def save(path: Path, pixels: np.ndarray) -> None:
    """An array as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
