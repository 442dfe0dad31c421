"""How long an inspection takes: `python -m benchmarks.inspection`.

Makes N small JPEGs with boxes in COCO's layout, inspects them once, and once more with the kept report. What 100,000 images
take is extrapolated: an inspection's time grows with the pixels to be decoded, so `--side` says for which images it holds.

Measured once each, on two cores that two trainings used at the same time: 970 images/s of 96 x 96 (2,000 images; 100,000 take
1.7 minutes), 111 images/s of 640 x 640 (400 images; 15 minutes). A kept report takes 0.2 to 0.3 ms an image.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from acamkd_core.datasets.inspection_cache import inspect_cached
from acamkd_core.datasets.registry import open_dataset
from acamkd_core.spec.datasets import AutoDataset

FULL = 100_000


def write(root: Path, images: int, side: int) -> Path:
    """A COCO folder: a tenth of the images is val, each has one box."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for split, numbers in (("train", range(images // 10, images)), ("val", range(images // 10))):
        folder = root / "images" / split
        folder.mkdir(parents=True)
        listed, boxes = [], []
        for number in numbers:
            name = f"{number:06d}.jpg"
            picture = Image.fromarray(np.roll(pixels, number) ^ np.uint8(number % 251)).resize((side, side))
            picture.save(folder / name, quality=90)
            listed.append({"id": number, "file_name": name, "height": side, "width": side})
            boxes.append({"id": number, "image_id": number, "category_id": 1, "bbox": [1, 1, side / 2, side / 2]})
        content = {"images": listed, "annotations": boxes, "categories": [{"id": 1, "name": "thing"}]}
        path = root / "annotations" / f"{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return root


def seconds(root: Path, cache: Path) -> float:
    """Of opening the folder and having its report."""
    started = time.perf_counter()
    inspect_cached(open_dataset(AutoDataset(root=str(root)), strict=False), cache)
    return time.perf_counter() - started


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="how many are made")
    parser.add_argument("--side", type=int, default=96, help="of an image, in pixels")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = write(Path(folder) / "data", given.images, given.side)
        first, kept = (seconds(root, Path(folder) / "cache") for _ in range(2))
    print(f"{given.images} images of {given.side} x {given.side}: {first:.2f} s, {given.images / first:.0f} images/s")
    print(f"again, with the kept report: {kept:.2f} s")
    for what, each in (("inspected", first), ("kept", kept)):
        print(f"{FULL} images by extrapolation, {what}: {each * FULL / given.images / 60:.1f} min")


if __name__ == "__main__":
    main()
