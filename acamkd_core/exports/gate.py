"""The parity gate: `python -m acamkd_core.exports.gate MANIFEST.json` re-scores an exported file without torch.

Everything about preprocessing, class order and size comes from the exported file, read by the very `predict.py` that
ships with it. The manifest says where images and masks are, how mask values map to the dataset's classes, and what
the checkpoint predicted. Class ids of the file are carried to the dataset's classes by name, so that a file with
permuted names fails like one with permuted channels.

Prints `progress DONE TOTAL` lines; writes the report as JSON to the manifest's `report`. Exit code 0: a report was
written (whatever it says); anything else: the gate itself broke.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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


def score(manifest: dict[str, Any]) -> dict[str, Any]:
    """Run the file over the manifest's images and compare. Returns the report."""
    task = manifest.get("task")
    if task == "detection":
        from acamkd_core.exports.gate_detection import score_detection

        return score_detection(manifest)
    if task == "classification":
        from acamkd_core.exports.gate_classification import score_classification

        return score_classification(manifest)
    return score_segmentation(manifest)


def score_segmentation(manifest: dict[str, Any]) -> dict[str, Any]:
    """mIoU of the file and of the checkpoint, and the share of equal pixels."""
    started = time.monotonic()
    report: dict[str, Any] = {
        "passed": False, "images": 0, "metric": "miou", "score": None, "checkpoint_score": None, "agreement": None
    }  # fmt: skip
    names: list[str] = manifest["classes"]
    predictions = np.load(manifest["predictions"], mmap_mode="r", allow_pickle=False)
    size = (int(predictions.shape[1]), int(predictions.shape[2]))
    try:
        segmenter = Segmenter(Path(manifest["model"]), threads=int(manifest.get("threads", 0)))
        failure = _unusable(segmenter, names, size)
    except ModelFileError as error:
        failure = f"{error}."
    if failure is not None:
        return report | {"failures": [failure], "seconds": time.monotonic() - started}

    to_dataset = np.array([names.index(name) for name in segmenter.contract.classes], dtype=np.int64)
    of_file, of_checkpoint = Confusion(len(names)), Confusion(len(names))
    equal = pixels = 0
    images = manifest["images"]
    for index, entry in enumerate(images):
        try:
            found = to_dataset[segmenter.ids(read_image(Path(entry["image"])))]
        except ModelFileError as error:
            return report | {"failures": [f"{error}."], "seconds": time.monotonic() - started}
        expected = predictions[index].astype(np.int64)
        equal += int((found == expected).sum())
        pixels += expected.size
        target = read_mask(Path(entry["mask"]), manifest["mask"], size)
        of_file.update(found, target)
        of_checkpoint.update(expected, target)
        print(f"progress {index + 1} {len(images)}", flush=True)

    report |= {
        "images": len(images),
        "score": of_file.miou(),
        "checkpoint_score": of_checkpoint.miou(),
        "agreement": 100.0 * equal / max(pixels, 1),
        "iou": dict(zip(names, of_file.iou(), strict=True)),
    }
    report["failures"] = failures_of(report, manifest, "mIoU", "the pixels")
    report["passed"] = not report["failures"]
    return report | {"seconds": time.monotonic() - started}


def _unusable(segmenter: Segmenter, names: list[str], size: tuple[int, int]) -> str | None:
    contract = segmenter.contract
    if set(contract.classes) != set(names):
        unknown = sorted(set(contract.classes) ^ set(names))
        return f"The file's class names differ from the dataset's: {', '.join(unknown[:5])}."
    if contract.size != size:
        return f"The file works at {contract.size[0]}x{contract.size[1]}, the checkpoint at {size[0]}x{size[1]}."
    return None


def failures_of(report: dict[str, Any], manifest: dict[str, Any], metric: str, compared: str) -> list[str]:
    """Sentences about every limit that the report breaks. `metric` and `compared` are words for the reader."""
    limits, failures = manifest["gate"], []
    drop = report["checkpoint_score"] - report["score"]
    if not abs(drop) <= limits["max_drop"]:
        failures.append(
            f"The file scores {report['score']:.2f} {metric}, the checkpoint {report['checkpoint_score']:.2f}; "
            f"{limits['max_drop']:g} points of difference are allowed."
        )
    if not report["agreement"] >= limits["min_agreement"]:
        failures.append(
            f"{report['agreement']:.3f} % of {compared} agree with the checkpoint; "
            f"{limits['min_agreement']:g} % are asked for."
        )
    claimed = manifest.get("claimed")
    if claimed is not None and not abs(claimed - report["checkpoint_score"]) <= limits["max_drop"]:
        failures.append(
            f"The run reported {claimed:.2f} {metric} for the checkpoint, its stored predictions "
            f"score {report['checkpoint_score']:.2f}."
        )
    return failures


def _end_with_parent() -> None:
    """End the process when stdin closes: its only writer is the parent, which may have been killed."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(3)

    threading.Thread(target=wait, daemon=True).start()


def main(arguments: list[str]) -> int:
    """The process: manifest in, report out."""
    if "--lifeline" in arguments:
        _end_with_parent()
    (path,) = (argument for argument in arguments if not argument.startswith("--"))
    # From here on an import of torch, by whatever library, is an error: the file must work without it.
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    manifest = json.loads(Path(path).read_text(encoding="utf-8"))
    report = score(manifest)
    report["torch_loaded"] = sys.modules.get("torch") is not None
    import onnxruntime

    report["runtime"] = f"onnxruntime {onnxruntime.__version__}"
    out = Path(manifest["report"])
    aside = out.with_name(out.name + ".part")
    aside.write_text(json.dumps(report, indent=1), encoding="utf-8")
    aside.replace(out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
