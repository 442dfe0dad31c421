"""Cityscapes folders: 34 ids become 19 channels by the public table, and every mistake has its files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from acamkd_core.datasets.cityscapes import Cityscapes
from acamkd_core.datasets.registry import inspect_dataset, open_dataset
from acamkd_core.exports.gate_segmentation import read_mask
from acamkd_core.exports.verify import MaskValues
from acamkd_core.spec.datasets import AutoDataset, CityscapesDataset
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.inspection import InspectionReport
from tests.acamkd_core.datasets.cityscapes_factory import TRAIN_IDS, write_cityscapes
from tests.acamkd_core.datasets.factories import save

IMAGE = "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"
MASK = "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"


def opened(root: Path, *, strict: bool = True, **fields: Any) -> Cityscapes:
    dataset = open_dataset(CityscapesDataset(format="cityscapes", root=str(root), **fields), strict=strict)
    assert isinstance(dataset, Cityscapes)
    return dataset


def inspected(root: Path) -> InspectionReport:
    return inspect_dataset(opened(root, strict=False))


def test_ids_become_the_train_ids_of_the_public_table(tmp_path: Path) -> None:
    dataset = open_dataset(AutoDataset(root=str(write_cityscapes(tmp_path))))
    assert dataset.splits() == {"train": 3, "val": 2}  # the masks of test images are withheld
    assert (dataset.ignore_id, len(dataset.classes)) == (255, 19)
    assert [dataset.classes[i].name for i in (0, 10, 18)] == ["road", "sky", "bicycle"]
    assert [dataset.classes[i].color for i in (0, 10, 18)] == [(128, 64, 128), (70, 130, 180), (119, 11, 32)]
    for split in dataset.splits():
        for item in dataset.items(split):
            raw = np.asarray(Image.open(str(item.label)))
            expected = np.vectorize(TRAIN_IDS.__getitem__)(raw)
            np.testing.assert_array_equal(dataset.load(item).target, expected)
            # The export gate reads masks with code of its own.
            scored = read_mask(Path(str(item.label)), {**MaskValues.of(dataset.classes).facts()["mask"]}, raw.shape)
            np.testing.assert_array_equal(scored, np.where(expected == 255, -1, expected))


def test_masks_of_train_ids_are_the_same_dataset(tmp_path: Path) -> None:
    ids = opened(write_cityscapes(tmp_path / "ids"))
    trained = open_dataset(AutoDataset(root=str(write_cityscapes(tmp_path / "trained", kind="labelTrainIds"))))
    for one, other in zip(ids.items("train"), trained.items("train"), strict=True):
        np.testing.assert_array_equal(ids.load(one).target, trained.load(other).target)
    write_cityscapes(tmp_path / "ids", kind="labelTrainIds")
    assert "labelIds" in opened(tmp_path / "ids").items("val")[0].label.name  # type: ignore[union-attr]
    assert "labelTrainIds" in opened(tmp_path / "ids", labels="labelTrainIds").items("val")[0].label.name  # type: ignore[union-attr]


def test_archives_unpacked_apart_and_extra_images(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    (tmp_path / "leftImg8bit/test").rename(tmp_path / "leftImg8bit/train_extra")
    for part in ("leftImg8bit", "gtFine"):
        (tmp_path / f"{part}_trainvaltest").mkdir()
        (tmp_path / part).rename(tmp_path / f"{part}_trainvaltest" / part)
    dataset = open_dataset(AutoDataset(root=str(tmp_path), splits={"unlabelled": "train_extra"}))  # type: ignore[arg-type]
    assert dataset.splits() == {"train": 3, "val": 2, "unlabelled": 1}
    assert dataset.load(dataset.items("unlabelled")[0]).target is None


def test_a_sound_folder_has_no_findings_and_right_counts(tmp_path: Path) -> None:
    report = inspected(write_cityscapes(tmp_path))
    assert report.format == "cityscapes"
    assert (report.ok, report.findings, report.ignore_id) == (True, [], 255)
    masks = np.stack([np.asarray(Image.open(p)) for p in tmp_path.glob("gtFine/train/*/*_labelIds.png")])
    unscored = [i for i, train in TRAIN_IDS.items() if train == 255]
    assert (report.splits[0].pixels, report.splits[0].ignored) == (masks.size, int(np.isin(masks, unscored).sum()))
    assert report.classes[13].pixels["train"] == int((masks == 26).sum())


def wrong_ids(root: Path) -> None:
    save(root / MASK, np.full((48, 64), 40, dtype=np.uint8))


def other_size(root: Path) -> None:
    save(root / MASK, np.full((24, 32), 7, dtype=np.uint8))


def no_mask(root: Path) -> None:
    (root / MASK).unlink()


def no_image(root: Path) -> None:
    (root / IMAGE).unlink()


def only_unscored(root: Path) -> None:
    save(root / MASK, np.arange(4, dtype=np.uint8).repeat(768).reshape(48, 64))


def instances_as_labels(root: Path) -> None:
    shutil.copy((root / MASK).with_name("aachen_000000_000019_gtFine_instanceIds.png"), root / MASK)


def damaged(root: Path) -> None:
    (root / IMAGE).write_bytes((root / IMAGE).read_bytes()[:300])


@pytest.mark.parametrize(
    ("spoil", "code", "severity", "file"),
    [
        (wrong_ids, "dataset.ids_outside_classes", "error", MASK),
        (other_size, "dataset.size_mismatch", "error", IMAGE),
        (no_mask, "dataset.missing_mask", "error", IMAGE),
        (no_image, "dataset.mask_without_image", "warning", MASK),
        (only_unscored, "dataset.all_ignored", "warning", MASK),
        (instances_as_labels, "dataset.mask_mode", "error", MASK),
        (damaged, "dataset.unreadable", "error", IMAGE),
    ],
)
def test_every_mistake_is_found(
    tmp_path: Path, spoil: Callable[[Path], None], code: str, severity: str, file: str
) -> None:
    spoil(write_cityscapes(tmp_path))
    (found,) = inspected(tmp_path).findings
    assert (found.code, found.severity, found.count, found.files) == (code, severity, 1, [file])


def test_what_cannot_be_opened_says_where_it_looked(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    with pytest.raises(CoreError, match="no leftImg8bit/validation/<city>"):
        opened(tmp_path, splits={"val": "validation"})
    with pytest.raises(CoreError, match="2 of 2 images of the split 'train' have no mask"):
        opened(tmp_path, annotations="gtCoarse", splits={"train": "val"})
    no_mask(tmp_path)
    with pytest.raises(CoreError) as caught:
        opened(tmp_path)
    assert (caught.value.code, caught.value.info.value) == ("dataset.missing_mask", IMAGE)
    assert "*_gtFine_labelIds.png" in str(caught.value.info.hint)


@pytest.mark.parametrize("where", [IMAGE, MASK, "leftImg8bit/val", "gtFine/val", "gtFine"])
def test_links_out_of_the_roots_are_refused(tmp_path: Path, where: str) -> None:
    inside, outside = write_cityscapes(tmp_path / "in/city"), write_cityscapes(tmp_path / "out")
    (inside / where).rename(tmp_path / "aside")
    (inside / where).symlink_to(outside / where)
    with pytest.raises(CoreError) as caught:
        open_dataset(AutoDataset(root=str(inside)), roots=[tmp_path / "in"])
    assert caught.value.code == "dataset.outside_roots"
