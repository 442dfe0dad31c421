"""Folders whose splits have the names of other tools open without being told, and what the spec says wins."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from acamkd_core.datasets.registry import open_dataset
from acamkd_core.spec.datasets import AutoDataset, Splits
from acamkd_core.spec.errors import CoreError
from tests.acamkd_core.datasets.coco_factory import write_coco
from tests.acamkd_core.datasets.factories import write_folder
from tests.acamkd_core.datasets.shapes_factory import write_shapes

ROBOFLOW = "{split}/_annotations.coco.json"
COCO = "annotations/instances_{split}.json"
Write = Callable[..., Path]


def opened(root: Path, **splits: str) -> dict[str, int]:
    spec = AutoDataset(format="auto", root=str(root), splits=Splits.model_validate(splits))
    dataset = open_dataset(spec)
    return {role: dataset.splits()[role] for role in ("train", "val")}


@pytest.mark.parametrize(
    ("write", "train", "val"),
    [
        (partial(write_coco, layout=ROBOFLOW), "train", "valid"),
        (partial(write_coco, layout=COCO), "train2017", "val2017"),
        (write_folder, "train", "valid"),
        (write_folder, "training", "validation"),
    ],
)
def test_other_tools_names(tmp_path: Path, write: Write, train: str, val: str) -> None:
    write(tmp_path, {train: 4, val: 3})
    assert opened(tmp_path) == {"train": 4, "val": 3}


def test_class_folders(tmp_path: Path) -> None:
    write_shapes(tmp_path, {"train": 4, "valid": 2})
    assert opened(tmp_path) == {"train": 12, "val": 6}


def test_what_the_spec_names_is_taken(tmp_path: Path) -> None:
    write_coco(tmp_path, {"train": 4, "val": 3, "valid": 2})
    assert opened(tmp_path)["val"] == 3
    assert opened(tmp_path, val="valid")["val"] == 2
    with pytest.raises(CoreError) as error:
        opened(tmp_path, val="val2017")
    assert error.value.info.field == "dataset.splits.val"
    assert "dataset.splits names the splits" in (error.value.info.hint or "")
