"""The parity gate for segmenters: mIoU and equal pixels of an exported file from the image files, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from acamkd_core.exports.gate import class_positions, told
from acamkd_core.exports.predict import ModelFileError, Segmenter, read_image

IGNORED = -1


def class_table(manifest_mask: dict[str, Any]) -> np.ndarray:
    """Raw mask id (0..255) to class position, -1 where neither trained nor scored."""
    table = np.full(256, IGNORED, dtype=np.int64)
    for raw, position in manifest_mask["ids"].items():
        table[int(raw)] = position
    return table


def read_mask(path: Path, mask: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """A mask file as HxW class positions at `size`, -1 where ignored.

    Grey and palette masks hold ids, colour masks the classes' colours. Nearest-neighbour, as labels must be resized.
    """
    with Image.open(path) as picture:
        if picture.mode in ("RGB", "RGBA"):
            rgb = np.asarray(picture.convert("RGB"))
            target: np.ndarray = np.full(rgb.shape[:2], IGNORED, dtype=np.int64)
            for (red, green, blue), position in mask["colors"]:
                target[(rgb == (red, green, blue)).all(axis=-1)] = position
        else:
            target = class_table(mask)[np.asarray(picture).astype(np.uint8)]  # one bit: the ids 0 and 1
    if target.shape != size:
        moved = Image.fromarray(target.astype(np.int32)).resize(size[::-1], Image.Resampling.NEAREST)
        target = np.asarray(moved).astype(np.int64)
    return target


class Confusion:
    """Counts of (truth, prediction) over a split. IoU = TP / (TP + FP + FN), in points."""

    def __init__(self, num_classes: int) -> None:
        self.counts = np.zeros((num_classes, num_classes), dtype=np.int64)

    def update(self, prediction: np.ndarray, target: np.ndarray) -> None:
        """Add one image: HxW class positions each; targets of -1 are left out."""
        classes = len(self.counts)
        scored = target != IGNORED
        pairs = target[scored] * classes + prediction[scored]
        self.counts += np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)

    def iou(self) -> list[float | None]:
        """Per class; None where a class is neither true nor predicted anywhere."""
        hits = np.diag(self.counts)
        union = self.counts.sum(axis=1) + self.counts.sum(axis=0) - hits
        return [100.0 * float(hit) / float(u) if u > 0 else None for hit, u in zip(hits, union, strict=True)]

    def miou(self) -> float:
        """Mean over the classes that have an IoU; 0 when none has."""
        present = [value for value in self.iou() if value is not None]
        return sum(present) / len(present) if present else 0.0


def compare_pixels(segmenter: Segmenter, manifest: dict[str, Any]) -> dict[str, Any]:
    """mIoU of the file and of the checkpoint, and the share of equal pixels."""
    names: list[str] = manifest["classes"]
    predictions = np.load(manifest["predictions"], mmap_mode="r", allow_pickle=False)
    size, own = (int(predictions.shape[1]), int(predictions.shape[2])), segmenter.contract.size
    if own != size:
        raise ModelFileError(f"The file works at {own[0]}x{own[1]}, the checkpoint at {size[0]}x{size[1]}")
    to_dataset = class_positions(segmenter, manifest)
    of_file, of_checkpoint = Confusion(len(names)), Confusion(len(names))
    equal = pixels = 0
    for index, entry in told(manifest["images"]):
        found = to_dataset[segmenter.ids(read_image(Path(entry["image"])))]
        expected = predictions[index].astype(np.int64)
        equal += int((found == expected).sum())
        pixels += expected.size
        target = read_mask(Path(entry["mask"]), manifest["mask"], size)
        of_file.update(found, target)
        of_checkpoint.update(expected, target)
    return {
        "images": len(manifest["images"]),
        "score": of_file.miou(),
        "checkpoint_score": of_checkpoint.miou(),
        "agreement": 100.0 * equal / max(pixels, 1),
        "iou": dict(zip(names, of_file.iou(), strict=True)),
    }
