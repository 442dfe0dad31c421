"""What the inspection's speed is measured on is a sound dataset of the size that was asked for."""

from __future__ import annotations

from pathlib import Path

from acamkd_core.datasets.registry import inspect_dataset, open_dataset
from acamkd_core.spec.datasets import AutoDataset
from benchmarks.inspection import write


def test_the_measured_dataset_is_sound(tmp_path: Path) -> None:
    report = inspect_dataset(open_dataset(AutoDataset(root=str(write(tmp_path, 20, 32)))))
    assert report.findings == []
    assert [(one.role, one.images, one.boxes) for one in report.splits] == [("train", 18, 18), ("val", 2, 2)]
