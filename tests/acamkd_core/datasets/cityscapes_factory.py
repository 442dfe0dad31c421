"""A small Cityscapes, with the names, cities and side files of the real archives."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.acamkd_core.datasets.factories import save

# Copied by hand from the dataset's label table: id -> train id, 255 where it is not scored.
TRAIN_IDS = {
    0: 255, 1: 255, 2: 255, 3: 255, 4: 255, 5: 255, 6: 255, 7: 0, 8: 1, 9: 255, 10: 255, 11: 2, 12: 3, 13: 4, 14: 255,
    15: 255, 16: 255, 17: 5, 18: 255, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 29: 255,
    30: 255, 31: 16, 32: 17, 33: 18,
}  # fmt: skip
FRAMES = {"train": ("aachen", "bochum", "aachen"), "val": ("frankfurt", "lindau"), "test": ("berlin",)}


def write_cityscapes(root: Path, size: tuple[int, int] = (48, 64), kind: str = "labelIds") -> Path:
    """Three training, two validation and one test image; every mask holds all 34 ids, test masks only ids 1 to 3."""
    table = np.array([TRAIN_IDS[i] for i in range(34)], dtype=np.uint8)
    for number, (split, city) in enumerate((split, city) for split, cities in FRAMES.items() for city in cities):
        rng = np.random.default_rng(number)
        frame = f"{city}/{city}_{number:06d}_000019"
        ids = rng.integers(1, 4 if split == "test" else 34, size, dtype=np.uint8)
        if split != "test":
            ids[0, :34] = np.arange(34)
        masks = root / "gtFine" / split
        save(
            root / "leftImg8bit" / split / f"{frame}_leftImg8bit.png", rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        )
        save(masks / f"{frame}_gtFine_{kind}.png", table[ids] if kind == "labelTrainIds" else ids)
        save(masks / f"{frame}_gtFine_color.png", np.zeros((*size, 4), dtype=np.uint8))
        save(masks / f"{frame}_gtFine_instanceIds.png", ids.astype(np.uint16) * 1000)
        (masks / f"{frame}_gtFine_polygons.json").write_text("{}")
    return root
