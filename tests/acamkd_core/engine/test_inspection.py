"""A dataset is decoded once: what an inspection job saw, the runs that follow do not look at again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from acamkd_core.datasets.registry import open_dataset
from acamkd_core.engine.inspection import check_dataset
from acamkd_core.engine.parts import Run
from acamkd_core.engine.run import run_job
from acamkd_core.spec.datasets import AutoDataset
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.job import parse_job
from tests.acamkd_core.datasets.factories import write_folder
from tests.acamkd_core.engine.world import kinds


def inspected(root: Path, folder: Path, **changes: Any) -> list[Any]:
    """The events of an inspection job."""
    events: list[Any] = []
    spec = parse_job({"kind": "inspect", "dataset": str(root), "preview_images": 0, **changes})
    run_job(spec, paths=Run(folder, folder / "cache"), emit=events.append, should_stop=lambda: False)
    return events


def checked(root: Path, folder: Path) -> list[Any]:
    """The events of the check at the start of a run."""
    events: list[Any] = []
    dataset = open_dataset(AutoDataset(root=str(root)))
    check_dataset(dataset, Run(folder, folder / "cache"), emit=events.append, should_stop=lambda: False)
    return events


def test_a_run_takes_the_report_of_the_inspection_job_and_the_other_way_round(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "toy")
    assert kinds(inspected(root, tmp_path), "progress")
    assert kinds(checked(root, tmp_path), "stage") == []
    assert kinds(inspected(root, tmp_path), "progress") == []
    assert kinds(inspected(root, tmp_path, again=True), "progress")


def test_a_file_overwritten_since_the_inspection_is_refused_at_the_start(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "toy")
    inspected(root, tmp_path)
    path = root / "images/train/01.png"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(CoreError, match=r"images/train/01\.png") as caught:
        checked(root, tmp_path)
    assert caught.value.code == "dataset.unreadable"
