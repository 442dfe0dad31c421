"""Image folders of noisy coloured patches: the class is a colour, which a tiny network learns in a few steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.acamkd_core.datasets.factories import save

COLORS = {"apple": (200, 40, 40), "leaf": (40, 170, 50), "sky": (60, 90, 210)}


def write_shapes(
    root: Path, counts: dict[str, int] | None = None, size: tuple[int, int] = (40, 48), seed: int = 0
) -> Path:
    """`<split>/<class>/<number>.png`, so many images of each class a split; train, val and test when nothing is said."""
    rng = np.random.default_rng(seed)
    for split, count in (counts or {"train": 4, "val": 2, "test": 2}).items():
        for name, color in COLORS.items():
            for index in range(count):
                image = rng.integers(60, 190, (*size, 3)).astype(np.float64)
                y, x = rng.integers(0, size[0] // 2), rng.integers(0, size[1] // 2)
                image[y : y + size[0] // 2, x : x + size[1] // 2] = color
                pixels = (image + rng.normal(0, 12, image.shape)).clip(0, 255).astype(np.uint8)
                save(root / split / name / f"{index:02d}.png", pixels)
    return root
