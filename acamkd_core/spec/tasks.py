"""What readers without torch need to know of each task: its metric, by key and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

TaskName = Literal["semantic_segmentation", "detection", "classification"]


@dataclass(frozen=True)
class TaskFacts:
    """A task's primary metric (key in our metrics, and for readers), and that of its per-class values.

    predictions: what agreement of two networks is counted in.
    """

    name: TaskName
    metric: str
    label: str
    class_metric: str
    class_label: str
    predictions: str


TASKS: dict[str, TaskFacts] = {
    facts.name: facts
    for facts in (
        TaskFacts("semantic_segmentation", "miou", "mIoU", "iou", "IoU", "pixels"),
        TaskFacts("detection", "map", "mAP", "ap", "AP", "detections"),
        TaskFacts("classification", "top1", "top-1", "accuracy", "Accuracy", "images"),
    )
}


def primary(metrics: Mapping[str, float], *stems: str) -> tuple[str, float] | None:
    """(label, value) of the primary metric in a job's figures: the first of `stems` (val, best, test ...) that is there.

    A job has the metrics of one task only, so the task need not be known.
    """
    for stem in stems:
        for facts in TASKS.values():
            if (value := metrics.get(f"{stem}/{facts.metric}")) is not None:
                return facts.label, value
    return None
