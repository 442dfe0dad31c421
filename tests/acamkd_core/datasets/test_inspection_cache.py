"""Kept reports: an unchanged dataset is decoded once; one whose files were overwritten is decoded again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from acamkd_core.datasets.inspection_cache import inspect_cached
from acamkd_core.datasets.registry import open_dataset
from acamkd_core.spec.datasets import AutoDataset, VocDataset
from acamkd_core.spec.inspection import InspectionReport
from tests.acamkd_core.datasets.coco_factory import write_coco
from tests.acamkd_core.datasets.factories import save, write_folder
from tests.acamkd_core.datasets.voc_factory import write_voc

Write = Callable[[Path], Path]


def write_classes(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            save(root / split / name / "0.png", rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    return root


class Look:
    """Inspections of a folder with one cache, and how many files were decoded each time."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.root, self.cache = root, cache
        self.decoded = 0

    def __call__(self, *, again: bool = False) -> InspectionReport:
        calls: list[int] = []
        dataset = open_dataset(AutoDataset(root=str(self.root)), strict=False)
        report = inspect_cached(dataset, self.cache, again=again, progress=lambda done, _: calls.append(done))
        self.decoded = len(calls)
        return report


@pytest.mark.parametrize("write", [write_folder, write_coco, write_voc, write_classes])
def test_unchanged_files_are_decoded_once(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "data")
    look = Look(tmp_path / "data", tmp_path / "cache")
    first = look()
    assert look.decoded > 0
    assert look() == first
    assert look.decoded == 0
    look(again=True)
    assert look.decoded > 0


@pytest.mark.parametrize("write", [write_folder, write_coco, write_voc, write_classes])
def test_other_bytes_of_the_same_length_are_looked_at_and_keep_the_version(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "data")
    look = Look(tmp_path / "data", tmp_path / "cache")
    before = look()
    assert before.ok
    path = open_dataset(AutoDataset(root=str(look.root))).items("train")[0].image
    path.write_bytes(bytes(path.stat().st_size))
    after = look()
    assert [one.code for one in after.findings if one.severity == "error"] == ["dataset.unreadable"]
    assert after.digest == before.digest


def test_a_mask_counts_too(tmp_path: Path) -> None:
    look = Look(write_folder(tmp_path / "data"), tmp_path / "cache")
    look()
    mask = look.root / "masks/train/00.png"
    mask.write_bytes(bytes(mask.stat().st_size))
    assert not look().ok


def test_the_version_is_that_of_a_copy_whatever_the_clock_says(tmp_path: Path) -> None:
    """It names the data in results: it must not depend on when or where files were written."""
    first = open_dataset(AutoDataset(root=str(write_folder(tmp_path / "a"))))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for path in (tmp_path / "b").rglob("*"):
        os.utime(path, (1, 1))
    second = open_dataset(AutoDataset(root=str(tmp_path / "b")))
    assert first.digest == second.digest
    assert first.fingerprint() != second.fingerprint()


def test_what_counts_as_a_crowd_is_looked_at_anew(tmp_path: Path) -> None:
    home = write_voc(tmp_path / "data")
    ignored, kept = (
        inspect_cached(
            open_dataset(VocDataset(format="voc", root=str(home), labels="boxes", difficult=difficult)),
            tmp_path / "cache",
        )
        for difficult in ("ignore", "keep")
    )
    assert sum(split.crowd for split in ignored.splits) > 0
    assert sum(split.crowd for split in kept.splits) == 0


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, no folder")
    assert Look(write_folder(tmp_path / "data"), tmp_path / "cache")().ok
