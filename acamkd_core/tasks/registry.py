"""Which class implements which task."""

from __future__ import annotations

from acamkd_core.datasets.base import Dataset
from acamkd_core.spec.job import JobSpec
from acamkd_core.tasks.base import Task
from acamkd_core.tasks.classification import ClassificationTask
from acamkd_core.tasks.detection import DetectionTask
from acamkd_core.tasks.segmentation import SegmentationTask


def build_task(spec: JobSpec, dataset: Dataset) -> Task:
    """The job's task on this dataset's classes.

    Raises:
        CoreError: options that do not fit the dataset (see the task).
    """
    if spec.task == "detection":
        return DetectionTask(dataset.classes, spec.augment, spec.task_loss)
    if spec.task == "classification":
        return ClassificationTask(dataset.classes, spec.augment, spec.task_loss)
    assert dataset.ignore_id is not None
    return SegmentationTask(dataset.classes, dataset.ignore_id, spec.augment, spec.task_loss)
