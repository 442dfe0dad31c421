"""COCO folders: what is read, and every mistake, triggered by a folder that was spoiled in exactly one way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from acamkd_core.datasets.box_dataset import BoxDataset
from acamkd_core.datasets.contact_sheet import contact_sheet
from acamkd_core.datasets.registry import inspect_dataset, open_dataset
from acamkd_core.spec.datasets import AutoDataset, CocoDataset, ScenesDataset
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.inspection import InspectionReport
from tests.acamkd_core.datasets.coco_factory import PAINT, annotations, paint, store, write_coco


def opened(root: Path, *, strict: bool = True, **fields: Any) -> BoxDataset:
    dataset = open_dataset(CocoDataset(format="coco", root=str(root), **fields), strict=strict)
    assert isinstance(dataset, BoxDataset)
    return dataset


def inspected(root: Path) -> InspectionReport:
    return inspect_dataset(opened(root, strict=False))


def test_boxes_lie_on_their_objects_and_channels_follow_the_order_of_ids(tmp_path: Path) -> None:
    dataset = opened(write_coco(tmp_path))
    assert [(c.id, c.name) for c in dataset.classes] == [(1, "person"), (3, "car"), (90, "brush")]
    assert dataset.splits() == {"train": 4, "val": 3, "test": 3}
    sample = dataset.load(dataset.items("train")[0])
    assert len(sample.target) == 3
    for box, label in zip(sample.target.boxes.astype(int), sample.target.labels, strict=True):
        color = PAINT[dataset.classes[label].id]
        painted = (sample.image == color).all(axis=2)
        rows, columns = np.nonzero(painted)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert len(dataset.load(dataset.items("train")[-1]).target) == 0


@pytest.mark.parametrize("layout", ["annotations/instances_{split}.json", "boxes/{split}.json"])
def test_layouts_are_detected(tmp_path: Path, layout: str) -> None:
    write_coco(tmp_path, layout=layout)
    dataset = open_dataset(AutoDataset(root=str(tmp_path)))
    assert dataset.task == "detection"
    assert dataset.splits()["train"] == 4


def test_images_beside_their_annotations(tmp_path: Path) -> None:
    for first, split in ((0, "train"), (10, "val")):
        data = annotations(2, first=first)
        paint(tmp_path, split, data, "{split}")
        store(tmp_path, split, data, "{split}/_annotations.coco.json")
    assert open_dataset(AutoDataset(root=str(tmp_path))).splits() == {"train": 2, "val": 2}


def test_empty_training_images_can_be_skipped(tmp_path: Path) -> None:
    write_coco(tmp_path)
    assert opened(tmp_path, empty_images="skip").splits() == {"train": 3, "val": 3, "test": 3}


def test_a_sound_folder_has_right_counts_and_names_only_what_it_is(tmp_path: Path) -> None:
    report = inspected(write_coco(tmp_path))
    assert report.format == "coco"
    assert report.ok
    assert {finding.code for finding in report.findings} == {"dataset.category_gaps", "dataset.no_boxes"}
    assert [(s.images, s.labelled, s.boxes) for s in report.splits] == [(4, 4, 9), (3, 3, 6), (3, 3, 6)]
    assert [c.boxes for c in report.classes] == [{"train": 3, "val": 2, "test": 2}] * 3
    assert [(s.height, s.width, s.count) for s in report.sizes] == [(40, 60, 10)]


Spoil = Callable[[Path, dict[str, Any]], None]


def missing_image(root: Path, data: dict[str, Any]) -> None:
    (root / "images/train/01.png").unlink()


def listed_twice(root: Path, data: dict[str, Any]) -> None:
    data["images"].append(data["images"][0])


def unknown_image(root: Path, data: dict[str, Any]) -> None:
    data["annotations"][0]["image_id"] = 7


def unknown_category(root: Path, data: dict[str, Any]) -> None:
    data["annotations"][0]["category_id"] = 12


def no_size(root: Path, data: dict[str, Any]) -> None:
    data["annotations"][0]["bbox"][2] = 0


def wholly_outside(root: Path, data: dict[str, Any]) -> None:
    data["annotations"][0]["bbox"][:2] = [200, 5]


def no_number(root: Path, data: dict[str, Any]) -> None:
    data["annotations"][0]["bbox"][0] = float("nan")


def partly_outside(root: Path, data: dict[str, Any]) -> None:
    data["annotations"][0]["bbox"] = [-4, 5, 10, 10]


def other_size(root: Path, data: dict[str, Any]) -> None:
    data["images"][0]["width"] = 120


def in_two_splits(root: Path, data: dict[str, Any]) -> None:
    shutil.copy(root / "images/train/00.png", root / "images/val/04.png")


def same_picture(root: Path, data: dict[str, Any]) -> None:
    shutil.copy(root / "images/train/00.png", root / "images/train/01.png")


def grey(root: Path, data: dict[str, Any]) -> None:
    path = root / "images/train/02.png"
    Image.open(path).convert("L").save(path)


def class_without_boxes(root: Path, data: dict[str, Any]) -> None:
    data["annotations"] = [one for one in data["annotations"] if one["category_id"] != 90]


def damaged(root: Path, data: dict[str, Any]) -> None:
    path = root / "images/train/02.png"
    path.write_bytes(path.read_bytes()[:40])


def empty_file(root: Path, data: dict[str, Any]) -> None:
    (root / "images/train/02.png").write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "code", "severity"),
    [
        (missing_image, "dataset.missing_image", "error"),
        (listed_twice, "dataset.image_twice", "error"),
        (unknown_image, "dataset.unknown_image", "error"),
        (unknown_category, "dataset.unknown_category", "error"),
        (no_size, "dataset.bad_boxes", "warning"),
        (wholly_outside, "dataset.boxes_elsewhere", "error"),
        (no_number, "dataset.bad_boxes", "warning"),
        (partly_outside, "dataset.boxes_outside", "warning"),
        (other_size, "dataset.image_size", "error"),
        (in_two_splits, "dataset.shared_images", "warning"),
        (same_picture, "dataset.duplicate_images", "warning"),
        (grey, "dataset.grey_images", "warning"),
        (class_without_boxes, "dataset.class_never_trained", "warning"),
        (damaged, "dataset.unreadable", "error"),
        (empty_file, "dataset.empty_file", "error"),
    ],
)
def test_every_mistake_is_found(tmp_path: Path, spoil: Spoil, code: str, severity: str) -> None:
    write_coco(tmp_path)
    before = {finding.code for finding in inspected(tmp_path).findings}
    assert code not in before
    data = annotations(4)
    spoil(tmp_path, data)
    store(tmp_path, "train", data)
    (found,) = [finding for finding in inspected(tmp_path).findings if finding.code == code]
    assert (found.severity, found.count) == (severity, 1)


@pytest.mark.parametrize("spoil", [missing_image, listed_twice, unknown_image, unknown_category, wholly_outside])
def test_what_training_would_trip_over_is_refused_at_once(tmp_path: Path, spoil: Spoil) -> None:
    write_coco(tmp_path)
    data = annotations(4)
    spoil(tmp_path, data)
    store(tmp_path, "train", data)
    with pytest.raises(CoreError) as caught:
        opened(tmp_path)
    assert caught.value.info.field == "dataset.splits.train"


def test_sizes_of_objects_are_counted_by_their_area_and_crowds_are_not(tmp_path: Path) -> None:
    write_coco(tmp_path)
    data = annotations(4)
    for one, side in zip(data["annotations"], (7.9, 8, 15, 31.9, 32, 95.9, 96, 500, 20), strict=True):
        one["area"] = side * side
    data["annotations"][-1]["iscrowd"] = 1
    store(tmp_path, "train", data)
    sizes = inspected(tmp_path).object_sizes
    assert [(one.side, one.below, one.boxes["train"]) for one in sizes] == [
        (0, 8, 1), (8, 16, 2), (16, 32, 1), (32, 64, 1), (64, 96, 1), (96, 192, 1), (192, 384, 0), (384, None, 1),
    ]  # fmt: skip
    assert sum(one.boxes["val"] for one in sizes) == 6


def test_the_worst_files_are_those_with_errors_then_those_with_most_mistakes(tmp_path: Path) -> None:
    write_coco(tmp_path)
    data = annotations(4)
    partly = [-4, 5, 10, 10]
    for at, box in ((0, partly), (3, partly), (4, partly), (5, [5, 5, 0, 10]), (6, [200, 5, 10, 10])):
        data["annotations"][at]["bbox"] = box
    store(tmp_path, "train", data)
    worst = inspected(tmp_path).worst_files
    assert [(one.file, one.errors, one.warnings) for one in worst] == [
        ("images/train/02.png", 1, 0), ("images/train/01.png", 0, 3), ("images/train/00.png", 0, 1),
    ]  # fmt: skip
    assert worst[1].codes == ["dataset.bad_boxes", "dataset.boxes_outside"]


def all_boxes(change: Callable[[list[float]], list[float]]) -> Callable[[dict[str, Any]], None]:
    def apply(data: dict[str, Any]) -> None:
        for one in data["annotations"]:
            one["bbox"] = change(one["bbox"])

    return apply


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (
            all_boxes(lambda box: [2 * n for n in box]),
            "dataset.boxes_elsewhere",
            "3 boxes lie wholly outside their image",
        ),
        (
            all_boxes(lambda box: [x / 60 for x in box]),
            "dataset.boxes_in_fractions",
            "9 of 9 boxes end within the first",
        ),
        (
            all_boxes(lambda box: [box[0], box[1], box[0] + box[2] + 40, box[1] + box[3] + 60]),
            "dataset.boxes_far_outside",
            "9 of 9 boxes lie more outside than inside",
        ),
    ],
)
def test_boxes_in_other_units_are_refused_with_what_they_may_be(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], code: str, words: str
) -> None:
    write_coco(tmp_path)
    data = annotations(4)
    change(data)
    store(tmp_path, "train", data)
    found = [finding for finding in inspected(tmp_path).findings if finding.severity == "error"]
    assert found[0].code == code
    assert words in found[0].message
    assert "pixels of the stored image" in (found[0].hint or "")
    assert found[0].files[0].startswith("images/train/0")
    with pytest.raises(CoreError, match=words):
        opened(tmp_path)


def test_two_boxes_mostly_outside_are_slips_and_are_cut(tmp_path: Path) -> None:
    write_coco(tmp_path)
    data = annotations(4)
    for one in data["annotations"][:2]:
        one["bbox"] = [-8, 5, 10, 10]
    store(tmp_path, "train", data)
    report = inspected(tmp_path)
    assert report.ok
    assert ("dataset.boxes_outside", 2) in {(finding.code, finding.count) for finding in report.findings}


def no_annotations(data: dict[str, Any]) -> None:
    data["annotations"] = []


def crowds_only(data: dict[str, Any]) -> None:
    for one in data["annotations"]:
        one["iscrowd"] = 1


def no_sizes(data: dict[str, Any]) -> None:
    for one in data["annotations"]:
        one["bbox"][2] = 0


@pytest.mark.parametrize("spoil", [no_annotations, crowds_only, no_sizes])
@pytest.mark.parametrize(("role", "code"), [("train", "dataset.nothing_to_learn"), ("val", "dataset.nothing_to_score")])
def test_a_split_without_one_usable_box_is_an_error(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], None], role: str, code: str
) -> None:
    write_coco(tmp_path)
    data = json.loads((tmp_path / f"annotations/{role}.json").read_text())
    spoil(data)
    store(tmp_path, role, data)
    errors = [finding for finding in inspected(tmp_path).findings if finding.severity == "error"]
    assert [(one.code, one.split) for one in errors] == [(code, role)]
    assert "box" in errors[0].message


def test_images_may_be_unlabelled_on_purpose(tmp_path: Path) -> None:
    write_coco(tmp_path)
    data = annotations(3, first=50)
    paint(tmp_path, "more", data)
    no_annotations(data)
    store(tmp_path, "more", data)
    report = inspect_dataset(opened(tmp_path, strict=False, splits={"unlabelled": "more"}))
    assert report.ok
    assert {finding.code for finding in report.findings} == {"dataset.category_gaps", "dataset.no_boxes"}
    with pytest.raises(CoreError, match="no image with a box"):
        opened(tmp_path, splits={"train": "more"}, empty_images="skip")


def test_an_image_of_another_size_is_refused_when_loaded(tmp_path: Path) -> None:
    dataset = opened(write_coco(tmp_path))
    item = dataset.items("train")[0]
    Image.fromarray(np.zeros((20, 60, 3), np.uint8)).save(item.image)
    with pytest.raises(CoreError, match="60x20"):
        dataset.load(item)


def test_names_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    write_coco(tmp_path / "data")
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "secret.png")
    for name in ("../../../secret.png", str(tmp_path / "secret.png")):
        data = annotations(4)
        data["images"][1]["file_name"] = name
        store(tmp_path / "data", "train", data)
        with pytest.raises(CoreError, match="outside of the dataset's folder"):
            opened(tmp_path / "data")


def test_a_link_that_leaves_the_roots_is_refused(tmp_path: Path) -> None:
    write_coco(tmp_path / "data")
    secret = tmp_path / "secret.png"
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(secret)
    (tmp_path / "data/images/train/01.png").unlink()
    (tmp_path / "data/images/train/01.png").symlink_to(secret)
    with pytest.raises(CoreError, match="leaves the folders"):
        open_dataset(CocoDataset(format="coco", root=str(tmp_path / "data")), roots=[tmp_path / "data"])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: data.update(annotations=5), "has `annotations` that is no list"),
        (lambda data: data.update(annotations=None), "has `annotations` that is no list"),
        (lambda data: data.update(images={"0": 1}), "has `images` that is no list"),
        (lambda data: data.pop("annotations"), "has no list `annotations`"),
        (lambda data: data["images"][0].update(id=float("inf")), "an image without id"),
        (lambda data: data["images"][0].update(height=10**400), "an impossible image"),
        (lambda data: data["images"][0].update(file_name="\ud800.png"), "an impossible image"),
        (lambda data: data["annotations"][0].update(image_id=float("inf")), "an annotation without image_id"),
        (lambda data: data["annotations"][0].update(category_id=float("-inf")), "an annotation without image_id"),
        (lambda data: data.update(categories=[{"id": 4, "name": "\udfff"}]), "a category without an id or a name"),
    ],
)
def test_what_json_allows_and_coco_does_not_is_refused_by_name(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], Any], words: str
) -> None:
    write_coco(tmp_path)
    data = annotations(4)
    spoil(data)
    store(tmp_path, "train", data)
    with pytest.raises(CoreError) as caught:
        inspected(tmp_path)
    info = caught.value.info
    assert info.code == "dataset.annotations_invalid"
    assert f"train.json has {words.removeprefix('has ')}" in info.message
    assert all((info.hint, info.field, info.value))
    info.model_dump_json()


@pytest.mark.parametrize(
    "change",
    [{"area": 10**400}, {"bbox": [10**400, 5, 10, 10]}, {"bbox": [4, 5, 1e39, 10]}, {"bbox": 7}, {"area": "wide"}],
)
def test_a_box_with_a_number_that_is_none_is_a_finding(tmp_path: Path, change: dict[str, Any]) -> None:
    write_coco(tmp_path)
    data = annotations(4)
    data["annotations"][0].update(change)
    store(tmp_path, "train", data)
    assert "dataset.bad_boxes" in {finding.code for finding in inspected(tmp_path).findings}


def test_numbers_of_thousands_of_digits_are_no_json(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "annotations/train.json").write_text('{"images": [' + "9" * 5000 + "]}")
    with pytest.raises(CoreError, match="cannot be read as JSON"):
        opened(tmp_path)


def test_unlabelled_images_need_no_annotations(tmp_path: Path) -> None:
    """COCO's own image_info_unlabeled2017.json has none."""
    write_coco(tmp_path)
    data = annotations(3, first=50)
    paint(tmp_path, "more", data)
    del data["annotations"]
    store(tmp_path, "more", data)
    assert opened(tmp_path, splits={"unlabelled": "more"}).splits()["unlabelled"] == 3


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"images": [], "categories": []}', '{"images": [{}], "categories": [{"id": 1, "name": "a"}]}',
     '{"images": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
     '{"images": [], "categories": [{"id": 1, "name": "a"}], "annotations": [3]}'],
)  # fmt: skip
def test_files_of_another_shape_are_a_sentence(tmp_path: Path, text: str) -> None:
    write_coco(tmp_path)
    (tmp_path / "annotations/train.json").write_text(text)
    with pytest.raises(CoreError) as caught:
        opened(tmp_path)
    assert caught.value.code == "dataset.annotations_invalid"


def test_splits_with_other_classes_are_refused(tmp_path: Path) -> None:
    write_coco(tmp_path)
    data = json.loads((tmp_path / "annotations/val.json").read_text())
    data["categories"][0]["name"] = "lorry"
    store(tmp_path, "val", data)
    with pytest.raises(CoreError, match="'lorry', train\\.json calls it 'car'"):
        opened(tmp_path)


def test_the_version_follows_the_labels(tmp_path: Path) -> None:
    write_coco(tmp_path)
    before = opened(tmp_path).digest
    assert opened(tmp_path).digest == before
    data = annotations(4)
    data["annotations"][0]["bbox"][0] += 1
    store(tmp_path, "train", data)
    assert opened(tmp_path).digest != before


def test_the_contact_sheet_shows_boxes(tmp_path: Path) -> None:
    dataset = opened(write_coco(tmp_path))
    path = contact_sheet(dataset, tmp_path / "sheet.png", images=2, cell=120)
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    for info in dataset.classes:
        assert (pixels == info.color).all(axis=1).sum() > 40


def test_scenes_have_boxes_around_their_things(tmp_path: Path) -> None:
    spec = ScenesDataset(format="scenes", train_images=3, val_images=1, test_images=1, size=(64, 96))
    boxes = open_dataset(spec, cache=tmp_path, task="detection")
    masks = open_dataset(spec, cache=tmp_path)
    assert boxes.digest != masks.digest
    assert [c.name for c in boxes.classes] == ["sign", "car", "bus", "pedestrian", "cyclist"]
    assert {c.name: c.color for c in boxes.classes}.items() <= {c.name: c.color for c in masks.classes}.items()
    ids = {c.name: index for index, c in enumerate(masks.classes)}
    seen = 0
    for box_item, mask_item in zip(boxes.items("train"), masks.items("train"), strict=True):
        assert box_item.image == mask_item.image
        truth, mask = boxes.load(box_item).target, masks.load(mask_item).target
        for box, label in zip(truth.boxes.astype(int), truth.labels, strict=True):
            x1, y1, x2, y2 = box
            assert (mask[y1:y2, x1:x2] == ids[boxes.classes[label].name]).any()
            seen += 1
    assert seen > 5
