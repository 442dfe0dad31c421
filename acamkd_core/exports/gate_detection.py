"""The parity gate for detectors: mAP of an exported file from the image files, without torch.

Agreement is counted in detections, weighted by their scores: a detection agrees when the other side has one of the same
class with nearly the same box and score. Weighted, because scores move in their last bits between runtimes, and a
detection at the threshold may be in one list and not in the other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from acamkd_core.coco_score import Found, coco_scores
from acamkd_core.exports.gate import class_positions, told
from acamkd_core.exports.predict import Detector, overlaps, read_image

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


def compare_detections(detector: Detector, manifest: dict[str, Any]) -> dict[str, Any]:
    """mAP of the file and of the checkpoint, and the share of detections that both have."""
    names: list[str] = manifest["classes"]
    to_dataset = class_positions(detector, manifest)
    stored = json.loads(Path(manifest["predictions"]).read_text(encoding="utf-8"))
    truths, of_file, of_checkpoint = [], [], []
    agreeing = total = 0.0
    for index, entry in told(manifest["images"]):
        image = read_image(Path(entry["image"]))
        boxes, scores, labels = detector.detect(image)
        found = Found(boxes, scores, to_dataset[labels])
        size = (image.shape[0], image.shape[1])
        expected = _stored(stored[index], detector.contract.fitted(size), size)
        shared, weight = agreement(found, expected)
        agreeing, total = agreeing + shared, total + weight
        truths.append(truth_of(entry))
        of_file.append(found)
        of_checkpoint.append(expected)
    summary, classes = coco_scores(truths, of_file, len(names))
    return {
        "images": len(manifest["images"]),
        "score": summary["map"],
        "checkpoint_score": coco_scores(truths, of_checkpoint, len(names))[0]["map"],
        # Two empty lists agree.
        "agreement": 100.0 * agreeing / total if total else 100.0,
        "summary": summary,
        "ap": dict(zip(names, classes, strict=True)),
    }


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
