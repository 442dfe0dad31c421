"""Pascal VOC folders: palette masks, boxes counted from 1, difficult objects, hostile XML."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from acamkd_core.datasets.registry import inspect_dataset, open_dataset
from acamkd_core.datasets.voc import VocBoxes, VocMasks, palette_color
from acamkd_core.spec.datasets import AutoDataset, VocDataset
from acamkd_core.spec.errors import CoreError, SpecInvalid
from acamkd_core.spec.inspection import Finding
from acamkd_core.spec.job import parse_job
from tests.acamkd_core.datasets.voc_factory import OBJECTS, write_mask, write_voc

NAME = "2007_000039"
IMAGE, MASK, XML = f"JPEGImages/{NAME}.jpg", f"SegmentationClass/{NAME}.png", f"Annotations/{NAME}.xml"
SOUND = {"dataset.class_without_boxes", "dataset.class_without_pixels"}


def opened(root: Path, labels: str, *, strict: bool = True, **fields: Any) -> Any:
    return open_dataset(VocDataset(format="voc", root=str(root), labels=labels, **fields), strict=strict)  # type: ignore[arg-type]


def found(root: Path, labels: str) -> list[Finding]:
    report = inspect_dataset(opened(root, labels, strict=False))
    assert report.format == "voc"
    return [finding for finding in report.findings if finding.code not in SOUND]


def test_masks_are_ids_whatever_their_palette_and_255_is_ignored(tmp_path: Path) -> None:
    write_voc(tmp_path)
    dataset = open_dataset(AutoDataset(root=str(tmp_path)))
    assert isinstance(dataset, VocMasks)
    assert dataset.splits() == {"train": 3, "val": 2}  # the labels of the test list are withheld
    assert (len(dataset.classes), dataset.ignore_id, dataset.classes[15].name) == (21, 255, "person")
    item = dataset.items("train")[0]
    target = dataset.load(item).target
    np.testing.assert_array_equal(target, np.asarray(Image.open(str(item.label))))
    assert sorted(np.unique(target)) == [0, 1, 15, 255]


def test_colours_are_those_of_the_development_kit() -> None:
    assert [palette_color(i) for i in (0, 1, 2, 3, 15, 20)] == [
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (192, 128, 128), (0, 64, 128),
    ]  # fmt: skip
    assert palette_color(255) == (224, 224, 192)


@pytest.mark.parametrize("where", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_boxes_lie_on_their_objects(tmp_path: Path, where: str) -> None:
    write_voc(tmp_path)
    dataset = open_dataset(AutoDataset(root=str(tmp_path / where)), task="detection")
    assert isinstance(dataset, VocBoxes)
    assert dataset.splits() == {"train": 3, "val": 2}
    assert (len(dataset.classes), dataset.classes[14].name) == (20, "person")
    for item in dataset.items("train"):
        sample = dataset.load(item)
        assert [dataset.classes[label].name for label in sample.target.labels] == ["aeroplane", "person"]
        for box, (_, _, color, _) in zip(sample.target.boxes.astype(int), OBJECTS, strict=True):
            rows, columns = np.nonzero((sample.image == color).all(axis=2))
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_difficult_objects_are_ignored_unless_asked_for(tmp_path: Path) -> None:
    home = write_voc(tmp_path)
    for difficult, crowd in (("ignore", [False, True]), ("keep", [False, False])):
        dataset = opened(home, "boxes", difficult=difficult)
        assert dataset.boxes(dataset.items("train")[0]).crowd.tolist() == crowd


def test_own_classes_come_from_classes_json(tmp_path: Path) -> None:
    home = write_voc(tmp_path)
    (home / "classes.json").write_text('["background", "person", "aeroplane"]')
    boxes = opened(home, "boxes")
    assert [c.name for c in boxes.classes] == ["person", "aeroplane"]
    assert boxes.boxes(boxes.items("train")[0]).labels.tolist() == [1, 0]
    (home / "classes.json").write_text('["background", "person"]')
    errors = [finding for finding in found(home, "boxes") if finding.severity == "error"]
    assert [(one.code, one.split, one.count) for one in errors] == [
        ("dataset.unknown_name", "train", 3), ("dataset.unknown_name", "val", 2),
    ]  # fmt: skip
    assert "aeroplane" in errors[0].message


def test_a_job_gets_the_labels_of_its_task(tmp_path: Path) -> None:
    data = {"format": "voc", "root": str(tmp_path), "labels": "boxes"}
    spec = {"dataset": data, "schedule": {"iterations": 1}}
    assert parse_job(spec | {"student": "retinanet-mobilenet_v2"}).task == "detection"
    with pytest.raises(SpecInvalid, match="voc"):
        parse_job(spec | {"student": "mobile_deeplabv3"})


def test_two_years_have_to_be_chosen_from(tmp_path: Path) -> None:
    home = write_voc(tmp_path)
    shutil.copytree(home, home.with_name("VOC2007"))
    with pytest.raises(CoreError, match=r"VOCdevkit/VOC2007, VOCdevkit/VOC2012"):
        open_dataset(AutoDataset(root=str(tmp_path)))


@pytest.mark.parametrize("labels", ["masks", "boxes"])
def test_a_sound_folder_has_no_findings(tmp_path: Path, labels: str) -> None:
    assert found(write_voc(tmp_path), labels) == []


def lists(text: str) -> Callable[[Path], None]:
    def spoil(home: Path) -> None:
        for kind in ("Segmentation", "Main"):
            with (home / f"ImageSets/{kind}/train.txt").open("a") as file:
                file.write(text + "\n")

    return spoil


def remove(name: str) -> Callable[[Path], None]:
    return lambda home: (home / name).unlink()


def damage(name: str) -> Callable[[Path], None]:
    return lambda home: (home / name).write_bytes((home / name).read_bytes()[:60])


def mask(value: int, size: tuple[int, int] = (40, 60)) -> Callable[[Path], None]:
    return lambda home: write_mask(home / MASK, np.full(size, value, dtype=np.uint8))


def edit(old: str, new: str) -> Callable[[Path], None]:
    def spoil(home: Path) -> None:
        text = (home / XML).read_text()
        assert old in text
        (home / XML).write_text(text.replace(old, new, 1))

    return spoil


DEEP = "<a>" * 100_000
BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "xxxx"><!ENTITY y "&x;&x;">]><annotation>&y;</annotation>'
OUTSIDE = '<?xml version="1.0"?><!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>'


def xml(text: str, encoding: str = "utf-8") -> Callable[[Path], None]:
    return lambda home: (home / XML).write_bytes(text.encode(encoding)) and None


@pytest.mark.parametrize(
    ("labels", "spoil", "code", "severity", "file"),
    [
        ("masks", mask(33), "dataset.ids_outside_classes", "error", MASK),
        ("masks", mask(255), "dataset.all_ignored", "warning", MASK),
        ("masks", mask(1, (20, 30)), "dataset.size_mismatch", "error", IMAGE),
        ("masks", remove(MASK), "dataset.missing_mask", "error", IMAGE),
        ("masks", remove(IMAGE), "dataset.missing_image", "error", IMAGE),
        ("masks", damage(IMAGE), "dataset.unreadable", "error", IMAGE),
        ("masks", lists(NAME), "dataset.image_twice", "error", NAME),
        ("boxes", lists(NAME), "dataset.image_twice", "error", NAME),
        ("boxes", remove(IMAGE), "dataset.missing_image", "error", IMAGE),
        ("boxes", damage(IMAGE), "dataset.unreadable", "error", IMAGE),
        ("boxes", edit("<width>60", "<width>120"), "dataset.image_size", "error", IMAGE),
        ("boxes", edit("aeroplane", "rocket"), "dataset.unknown_name", "error", XML),
        ("boxes", edit("<xmin>5<", "<xmin>five<"), "dataset.bad_boxes", "warning", IMAGE),
        ("boxes", edit("<xmin>5<", "<xmin>50<"), "dataset.bad_boxes", "warning", IMAGE),
        ("boxes", edit("<xmin>5<", "<xmin>nan<"), "dataset.bad_boxes", "warning", IMAGE),
        ("boxes", edit("<xmin>5<", "<xmin>-5<"), "dataset.boxes_outside", "warning", IMAGE),
    ],
)
def test_every_mistake_is_found(
    tmp_path: Path, labels: str, spoil: Callable[[Path], None], code: str, severity: str, file: str
) -> None:
    home = write_voc(tmp_path)
    spoil(home)
    (one,) = found(home, labels)
    assert (one.code, one.severity, one.count, one.files) == (code, severity, 1, [file])


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (remove(XML), "dataset.missing_annotation", "no annotation file"),
        (damage(XML), "dataset.annotation_unreadable", "cannot be read"),
        (xml(""), "dataset.annotation_unreadable", "no element found"),
        (xml(BOMB), "dataset.annotation_unreadable", "declares a document type"),
        (xml(BOMB, "utf-16"), "dataset.annotation_unreadable", "declares a document type"),
        (xml(OUTSIDE), "dataset.annotation_unreadable", "declares a document type"),
        (xml(DEEP), "dataset.annotation_unreadable", "inside each other"),
        (xml("<annotation>" + " " * 5_000_001), "dataset.annotation_unreadable", "too many"),
    ],
)
def test_annotations_that_cannot_be_read(tmp_path: Path, spoil: Callable[[Path], None], code: str, words: str) -> None:
    home = write_voc(tmp_path)
    spoil(home)
    (one,) = [finding for finding in found(home, "boxes") if finding.code != "dataset.no_boxes"]
    assert (one.code, one.severity, one.count, one.files) == (code, "error", 1, [XML])
    assert words in one.message
    with pytest.raises(CoreError) as caught:
        opened(home, "boxes")
    assert (caught.value.code, caught.value.info.value) == (code, XML)


def test_a_size_that_is_not_stated_is_that_of_the_file(tmp_path: Path) -> None:
    home = write_voc(tmp_path)
    edit("<width>60</width><height>40</height>", "<width>0</width><height>0</height>")(home)
    assert found(home, "boxes") == []


@pytest.mark.parametrize("name", ["../../../secret", "/etc/passwd"])
@pytest.mark.parametrize("labels", ["masks", "boxes"])
def test_lists_cannot_lead_out_of_the_folder(tmp_path: Path, labels: str, name: str) -> None:
    home = write_voc(tmp_path)
    lists(name)(home)
    with pytest.raises(CoreError, match="outside of the dataset's folder"):
        opened(home, labels, strict=False)


@pytest.mark.parametrize("labels", ["masks", "boxes"])
@pytest.mark.parametrize("where", [IMAGE, MASK, XML, "ImageSets", "JPEGImages", "Annotations"])
def test_links_out_of_the_roots_are_refused(tmp_path: Path, labels: str, where: str) -> None:
    inside, outside = write_voc(tmp_path / "in"), write_voc(tmp_path / "out")
    (inside / where).rename(tmp_path / "aside")
    (inside / where).symlink_to(outside / where)
    spec = VocDataset(format="voc", root=str(inside), labels=labels)  # type: ignore[arg-type]
    if (where, labels) in ((MASK, "boxes"), (XML, "masks")):  # not read for these labels
        assert open_dataset(spec, roots=[tmp_path / "in"]).splits()["train"] == 3
        return
    with pytest.raises(CoreError) as caught:
        open_dataset(spec, roots=[tmp_path / "in"])
    assert caught.value.code == "dataset.outside_roots"


@pytest.mark.parametrize("labels", ["masks", "boxes"])
def test_a_split_without_a_list_says_what_there_is(tmp_path: Path, labels: str) -> None:
    with pytest.raises(CoreError) as caught:
        opened(write_voc(tmp_path), labels, splits={"val": "validation"})
    assert (caught.value.code, caught.value.info.field) == ("dataset.missing_split", "dataset.splits.val")
    assert "test, train, val" in str(caught.value.info.hint)
