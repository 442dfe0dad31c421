"""COCO's average precision by pycocotools, from arrays in memory. No torch: tasks and the export gate share it.

AP as in COCO's detection challenge: mean over IoU 0.50 to 0.95 in steps of 0.05 and over classes, 101 recall points, at
most 100 detections an image; sizes by the labels' area (small below 32^2, large from 96^2 pixels of the stored image).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

SUMMARY = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
MAX_DETECTIONS = 100


class TruthLike(Protocol):
    """What `datasets.base.Boxes` has."""

    @property
    def boxes(self) -> np.ndarray: ...

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def crowd(self) -> np.ndarray: ...

    @property
    def area(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Found:
    """Detections of one image: boxes N x 4 (x1 y1 x2 y2, pixels of the stored image), scores N, labels N."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def coco_scores(
    truths: Sequence[TruthLike], found: Sequence[Found], num_classes: int
) -> tuple[dict[str, float], list[float | None]]:
    """(summary, AP by class) in points. A size without objects is left out of the summary; a class has None.

    Args:
        truths: labels, one an image; labels are class positions.
        found: detections of the same images in the same order.
        num_classes: number of classes.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images = [{"id": index} for index in range(len(truths))]
    categories = [{"id": label} for label in range(num_classes)]
    talk = io.StringIO()  # pycocotools prints; the gate's standard output is a protocol
    with contextlib.redirect_stdout(talk):
        true, guessed = COCO(), COCO()
        true.dataset = {"images": images, "categories": categories, "annotations": _truth(truths)}
        guessed.dataset = {"images": images, "categories": categories, "annotations": _guesses(found)}
        true.createIndex()
        guessed.createIndex()
        scorer = COCOeval(true, guessed, "bbox")
        scorer.params.maxDets = [1, 10, MAX_DETECTIONS]
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    summary = {name: 100.0 * float(value) for name, value in zip(SUMMARY, scorer.stats, strict=False) if value >= 0}
    summary.setdefault("map", 0.0)
    precision = scorer.eval["precision"][:, :, :, 0, -1]  # IoU, recall, class
    return summary, [_mean(precision[:, :, label]) for label in range(num_classes)]


def _mean(precision: np.ndarray) -> float | None:
    # -1 stands for a class without objects.
    known = precision[precision > -1]
    return 100.0 * float(known.mean()) if known.size else None


def _truth(truths: Sequence[TruthLike]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for image, truth in enumerate(truths):
        for box, label, crowd, area in zip(
            truth.boxes.tolist(), truth.labels.tolist(), truth.crowd.tolist(), truth.area.tolist(), strict=True
        ):
            # Ids from 1: pycocotools takes a match with id 0 for no match.
            rows.append({"id": len(rows) + 1, "image_id": image, "category_id": label, "bbox": _xywh(box),
                         "area": area, "iscrowd": int(crowd), "ignore": int(crowd)})  # fmt: skip
    return rows


def _guesses(found: Sequence[Found]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for image, one in enumerate(found):
        for box, label, score in zip(one.boxes.tolist(), one.labels.tolist(), one.scores.tolist(), strict=True):
            x, y, width, height = _xywh(box)
            rows.append({"id": len(rows) + 1, "image_id": image, "category_id": label, "bbox": [x, y, width, height],
                         "area": width * height, "iscrowd": 0, "score": score})  # fmt: skip
    return rows


def _xywh(box: list[float]) -> list[float]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]
