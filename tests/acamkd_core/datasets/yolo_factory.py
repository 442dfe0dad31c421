"""A small YOLO folder, written from the painted rectangles of the COCO factory: the same truth in another notation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.acamkd_core.datasets.coco_factory import annotations, paint

NAMES = {1: 0, 3: 1, 90: 2}  # COCO category to YOLO class
DATA = "train: images/train\nval: images/val\ntest: images/test\nnames:\n  0: person\n  1: car\n  2: brush\n"


def write_yolo(root: Path, size: tuple[int, int] = (40, 60), data: str = DATA) -> Path:
    """train 4, val 3, test 3 images; the last of each split has no label file."""
    first = 0
    for split, count in {"train": 4, "val": 3, "test": 3}.items():
        truth = annotations(count, size, first)
        first += count
        paint(root, split, truth)
        for image in truth["images"][:-1]:
            write_label(root / "labels" / split / Path(image["file_name"]).with_suffix(".txt"), truth, image)
    (root / "data.yaml").write_text(data)
    return root


def write_label(path: Path, truth: dict[str, Any], image: dict[str, Any]) -> None:
    """The label file of one image, with the six decimals that tools write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for one in truth["annotations"]:
        if one["image_id"] == image["id"]:
            x, y, width, height = one["bbox"]
            parts = (x + width / 2) / image["width"], (y + height / 2) / image["height"]
            parts += width / image["width"], height / image["height"]
            lines.append(f"{NAMES[one['category_id']]} " + " ".join(f"{part:.6f}" for part in parts))
    path.write_text("\n".join(lines) + "\n")
