"""The parity gate for detectors: mAP of an exported file from the image files, without torch.

Agreement is counted in detections, weighted by their scores: a detection agrees when the other side has one of the same
class with nearly the same box and score. Weighted, because scores move in their last bits between runtimes, and a
detection at the threshold may be in one list and not in the other.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from acamkd_core.coco_score import Found, coco_scores
from acamkd_core.exports.gate import failures_of
from acamkd_core.exports.predict import Detector, ModelFileError, overlaps, read_image

SAME_BOX, SAME_SCORE = 0.98, 0.01  # IoU from which, and difference up to which, two detections are the same


@dataclass(frozen=True)
class Truth:
    """Labels of one image, as `coco_score` reads them."""

    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    area: np.ndarray


def truth_of(entry: dict[str, Any]) -> Truth:
    """The labels in a manifest's entry."""
    return Truth(
        np.asarray(entry["boxes"], dtype=np.float64).reshape(-1, 4), np.asarray(entry["labels"], dtype=np.int64),
        np.asarray(entry["crowd"], dtype=bool), np.asarray(entry["area"], dtype=np.float64),
    )  # fmt: skip


def score_detection(manifest: dict[str, Any]) -> dict[str, Any]:
    """Run the file over the manifest's images and compare. Returns the report."""
    started = time.monotonic()
    names: list[str] = manifest["classes"]
    report: dict[str, Any] = {
        "passed": False, "images": 0, "metric": "map", "score": None, "checkpoint_score": None, "agreement": None
    }  # fmt: skip

    def broken(sentence: str) -> dict[str, Any]:
        return report | {"failures": [sentence], "seconds": time.monotonic() - started}

    try:
        detector = Detector(Path(manifest["model"]), threads=int(manifest.get("threads", 0)))
    except ModelFileError as error:
        return broken(f"{error}.")
    theirs = detector.contract.classes
    if set(theirs) != set(names):
        unknown = sorted(set(theirs) ^ set(names))
        return broken(f"The file's class names differ from the dataset's: {', '.join(unknown[:5])}.")
    to_dataset = np.array([names.index(name) for name in theirs], dtype=np.int64)
    stored = json.loads(Path(manifest["predictions"]).read_text(encoding="utf-8"))
    truths, of_file, of_checkpoint = [], [], []
    agreeing = total = 0.0
    images = manifest["images"]
    for index, entry in enumerate(images):
        try:
            image = read_image(Path(entry["image"]))
        except ModelFileError as error:
            return broken(f"{error}.")
        try:
            boxes, scores, labels = detector.detect(image)
        except ModelFileError as error:
            return broken(f"{error}.")
        found = Found(boxes, scores, to_dataset[labels])
        size = (image.shape[0], image.shape[1])
        expected = _stored(stored[index], detector.contract.fitted(size), size)
        shared, weight = agreement(found, expected)
        agreeing, total = agreeing + shared, total + weight
        truths.append(truth_of(entry))
        of_file.append(found)
        of_checkpoint.append(expected)
        print(f"progress {index + 1} {len(images)}", flush=True)

    summary, classes = coco_scores(truths, of_file, len(names))
    report |= {
        "images": len(images),
        "score": summary["map"],
        "checkpoint_score": coco_scores(truths, of_checkpoint, len(names))[0]["map"],
        # Two empty lists agree.
        "agreement": 100.0 * agreeing / total if total else 100.0,
        "summary": summary,
        "ap": dict(zip(names, classes, strict=True)),
    }
    report["failures"] = failures_of(report, manifest, "mAP", "the detections (by score)")
    report["passed"] = not report["failures"]
    return report | {"seconds": time.monotonic() - started}


def _stored(rows: list[list[float]], size: tuple[int, int], image: tuple[int, int]) -> Found:
    """Stored detections in pixels of the stored image. `size`, `image`: its (height, width) resized, and stored."""
    table = np.asarray(rows, dtype=np.float64).reshape(-1, 6)
    factors = np.array([image[1] / size[1], image[0] / size[0]] * 2)
    return Found(table[:, :4] * factors, table[:, 4], table[:, 5].astype(np.int64))


def agreement(first: Found, second: Found) -> tuple[float, float]:
    """(scores of detections that both have, scores of all detections), over both lists."""
    if len(first.scores) == 0 or len(second.scores) == 0:
        return 0.0, float(first.scores.sum() + second.scores.sum())
    same = overlaps(first.boxes, second.boxes) >= SAME_BOX
    same &= first.labels[:, None] == second.labels[None, :]
    same &= np.abs(first.scores[:, None] - second.scores[None, :]) <= SAME_SCORE
    shared = first.scores[same.any(axis=1)].sum() + second.scores[same.any(axis=0)].sum()
    return float(shared), float(first.scores.sum() + second.scores.sum())
