"""YOLO folders: boxes on their objects, every way to name a split, and every mistake with its file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acamkd_core.datasets.registry import inspect_dataset, open_dataset
from acamkd_core.datasets.yolo import Yolo
from acamkd_core.spec.datasets import AutoDataset, YoloDataset
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.inspection import InspectionReport
from tests.acamkd_core.datasets.coco_factory import PAINT
from tests.acamkd_core.datasets.yolo_factory import DATA, write_yolo

LABEL = "labels/train/01.txt"
SOUND = {"dataset.missing_label_file", "dataset.no_boxes"}


def opened(root: Path, *, strict: bool = True, **fields: Any) -> Yolo:
    dataset = open_dataset(YoloDataset(format="yolo", root=str(root), **fields), strict=strict)
    assert isinstance(dataset, Yolo)
    return dataset


def inspected(root: Path) -> InspectionReport:
    return inspect_dataset(opened(root, strict=False))


def test_boxes_lie_on_their_objects(tmp_path: Path) -> None:
    dataset = open_dataset(AutoDataset(root=str(write_yolo(tmp_path))))
    assert isinstance(dataset, Yolo)
    assert [(c.id, c.name) for c in dataset.classes] == [(0, "person"), (1, "car"), (2, "brush")]
    assert dataset.splits() == {"train": 4, "val": 3, "test": 3}
    for item in dataset.items("train")[:-1]:
        sample = dataset.load(item)
        assert sample.target.labels.tolist() == [0, 1, 2]
        for box, color in zip(sample.target.boxes, PAINT.values(), strict=True):
            rows, columns = np.nonzero((sample.image == color).all(axis=2))
            edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(box, edges, atol=1e-4)  # six decimals of 60 pixels
    assert len(dataset.load(dataset.items("train")[-1]).target) == 0


def roboflow(root: Path) -> None:
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        for part in ("images", "labels"):
            (root / folder).mkdir(exist_ok=True)
            (root / part / split).rename(root / folder / part)
    text = DATA.replace("images/val", "../valid/images")
    (root / "data.yaml").write_text(
        text.replace("images/train", "../train/images").replace("images/test", "../test/images")
    )


def lists(root: Path) -> None:
    for split in ("train", "val"):
        names = sorted(path.name for path in (root / "images" / split).iterdir())
        (root / f"{split}.txt").write_text("\n".join(f"./images/{split}/{name}" for name in names) + "\n")
    (root / "data.yaml").write_text("train: [train.txt]\nval: val.txt\nnc: 3\nnames: [person, car, brush]\n")


def other_machine(root: Path) -> None:
    (root / "data.yaml").rename(root / "street.yaml")
    (root / "street.yaml").write_text(
        f"path: ../datasets/street  # of its maker\n{DATA}download: https://example.org\n"
    )


def beside(root: Path) -> None:
    (root / "images").rename(root / "all")
    shutil.copytree(root / "labels", root / "all", dirs_exist_ok=True)
    (root / "data.yaml").write_text(DATA.replace("images/", "all/"))


@pytest.mark.parametrize("layout", [roboflow, lists, other_machine, beside])
def test_other_ways_to_lay_it_out_are_the_same_dataset(tmp_path: Path, layout: Callable[[Path], None]) -> None:
    plain = opened(write_yolo(tmp_path / "plain"))
    layout(write_yolo(tmp_path / "other"))
    other = open_dataset(AutoDataset(root=str(tmp_path / "other")))
    assert isinstance(other, Yolo)
    assert [c.name for c in other.classes] == [c.name for c in plain.classes]
    for split in ("train", "val"):
        for one, two in zip(plain.items(split), other.items(split), strict=True):
            np.testing.assert_array_equal(plain.boxes(one).boxes, other.boxes(two).boxes)


def test_an_outline_is_taken_as_its_box(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    (tmp_path / LABEL).write_text("1 0.5 0.25 0.75 0.5 0.25 0.75\n")
    dataset = opened(tmp_path)
    assert dataset.boxes(dataset.items("train")[1]).boxes.tolist() == [[15, 10, 45, 30]]


def test_a_test_list_without_labels_is_left_alone(tmp_path: Path) -> None:
    shutil.rmtree(write_yolo(tmp_path) / "labels/test")
    assert opened(tmp_path).splits() == {"train": 4, "val": 3}
    extra = opened(tmp_path, splits={"unlabelled": "test"})
    assert extra.load(extra.items("unlabelled")[0]).target is None


def test_the_version_is_of_labels_too(tmp_path: Path) -> None:
    before = opened(write_yolo(tmp_path)).digest
    assert opened(tmp_path).digest == before
    text = (tmp_path / LABEL).read_text()
    (tmp_path / LABEL).write_text(text.replace("0 0.", "1 0.", 1))
    assert opened(tmp_path).digest != before


def test_a_sound_folder_has_right_counts_and_names_only_what_it_is(tmp_path: Path) -> None:
    report = inspected(write_yolo(tmp_path))
    assert report.format == "yolo"
    assert report.ok
    assert {finding.code for finding in report.findings} == SOUND
    assert [(s.images, s.labelled, s.boxes) for s in report.splits] == [(4, 4, 9), (3, 3, 6), (3, 3, 6)]
    assert [c.boxes for c in report.classes] == [{"train": 3, "val": 2, "test": 2}] * 3


def line(text: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        with (root / LABEL).open("a") as file:
            file.write(text + "\n")

    return spoil


def no_image(root: Path) -> None:
    (root / "images/train/01.png").unlink()


def not_text(root: Path) -> None:
    (root / LABEL).write_bytes(b"\xff\xfe\x00\x01")


def damaged(root: Path) -> None:
    (root / "images/train/01.png").write_bytes(b"\x89PNG no more")


def written_twice(root: Path) -> None:
    text = (root / LABEL).read_text()
    (root / LABEL).write_text(text + text.splitlines()[0] + "\n")


@pytest.mark.parametrize(
    ("spoil", "code", "severity", "file", "words"),
    [
        (line("0 0.5 0.5 0.1"), "dataset.label_line", "error", LABEL, "line 4: 0 0.5 0.5 0.1"),
        (line("car 0.5 0.5 0.1 0.1"), "dataset.label_line", "error", LABEL, "line 4: car"),
        (line("0.5 0.5 0.5 0.1 0.1"), "dataset.label_line", "error", LABEL, "line 4"),
        (line("0 0.1 0.1 0.2 0.2 0.3"), "dataset.label_line", "error", LABEL, "line 4"),
        (not_text, "dataset.label_line", "error", LABEL, "line 1"),
        (line("0 30 20 10 10"), "dataset.not_normalised", "error", LABEL, "not pixels"),
        (line("0 0.5 -0.2 0.1 0.1"), "dataset.not_normalised", "error", LABEL, "line 4"),
        (line("0 nan 0.5 0.1 0.1"), "dataset.not_normalised", "error", LABEL, "line 4"),
        (line("3 0.5 0.5 0.1 0.1"), "dataset.class_out_of_range", "error", LABEL, "does not name: 3"),
        (line("-1 0.5 0.5 0.1 0.1"), "dataset.class_out_of_range", "error", LABEL, "does not name: -1"),
        (line("1e300 0.5 0.5 0.1 0.1"), "dataset.class_out_of_range", "error", LABEL, "1000"),
        (written_twice, "dataset.duplicate_boxes", "warning", LABEL, "taken once"),
        (line("0 0.5 0.5 0 0.1"), "dataset.bad_boxes", "warning", "images/train/01.png", "no size"),
        (line("0 0.95 0.5 0.2 0.1"), "dataset.boxes_outside", "warning", "images/train/01.png", "beyond"),
        (no_image, "dataset.label_without_image", "warning", LABEL, "left out"),
        (damaged, "dataset.unreadable", "error", "images/train/01.png", "cannot be read"),
    ],
)
def test_every_mistake_is_found(
    tmp_path: Path, spoil: Callable[[Path], None], code: str, severity: str, file: str, words: str
) -> None:
    spoil(write_yolo(tmp_path))
    (found,) = [finding for finding in inspected(tmp_path).findings if finding.code not in SOUND]
    assert (found.code, found.severity, found.count, found.files) == (code, severity, 1, [file])
    assert words in f"{found.message} ({found.hint})"
    if severity == "error" and code != "dataset.unreadable":
        with pytest.raises(CoreError) as caught:
            opened(tmp_path)
        assert (caught.value.code, caught.value.info.value) == (code, file)


def test_lists_that_name_missing_or_double_images(tmp_path: Path) -> None:
    lists(write_yolo(tmp_path))
    with (tmp_path / "train.txt").open("a") as file:
        file.write(f"images/train/07.png\n./images/train/01.png\n{'x' * 5000}.png\n")
    report = inspected(tmp_path)
    found = {one.code: (one.count, one.files) for one in report.findings if one.severity == "error"}
    assert found["dataset.image_twice"] == (1, ["images/train/01.png"])
    assert found["dataset.missing_image"][0] == 2
    assert found["dataset.missing_image"][1][0] == "images/train/07.png"


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "./../../secret.png"])
def test_lists_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    lists(write_yolo(tmp_path / "data"))
    (tmp_path / "data/val.txt").write_text(name + "\n")
    with pytest.raises(CoreError, match="outside of the dataset's folder"):
        opened(tmp_path / "data", strict=False)


@pytest.mark.parametrize(
    "where", ["images/train/01.png", "labels/train/01.txt", "images/val", "labels/val", "data.yaml"]
)
def test_links_out_of_the_roots_are_refused(tmp_path: Path, where: str) -> None:
    inside, outside = write_yolo(tmp_path / "in/street"), write_yolo(tmp_path / "out")
    (inside / where).rename(tmp_path / "aside")
    (inside / where).symlink_to(outside / where)
    with pytest.raises(CoreError) as caught:
        open_dataset(AutoDataset(root=str(inside)), roots=[tmp_path / "in"])
    assert caught.value.code == "dataset.outside_roots"


BOMB = "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nnames: [c]\ntrain: images/train\n"


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "dataset.classes_invalid", "no mapping"),
        ("train: [", "dataset.classes_invalid", "YAML"),
        ("[" * 5000, "dataset.classes_invalid", "YAML"),
        (BOMB, "dataset.classes_invalid", "aliases"),
        ("x: !!python/object/apply:os.system [ls]\nnames: [a]\n", "dataset.classes_invalid", "YAML"),
        ("#" * 600_000, "dataset.classes_invalid", "600000 bytes"),
        ("train: images/train\nval: images/val\n", "dataset.classes_invalid", "needs `names`"),
        (DATA.replace("  2: brush", "  7: brush"), "dataset.classes_invalid", "without gaps"),
        (DATA.replace("brush", "no"), "dataset.classes_invalid", "False"),
        (DATA.replace("brush", "car"), "dataset.classes_invalid", "'car' twice"),
        (DATA + "nc: 4\n", "dataset.classes_invalid", "says nc: 4, and has 3 names"),
        (DATA.replace("val:", "validation:"), "dataset.missing_split", "names no images for the split 'val'"),
        (DATA.replace("images/val", "images/valid"), "dataset.missing_split", "no images/valid"),
        (DATA.replace("images/val", "../../etc"), "dataset.missing_split", "for the split 'val'"),
    ],
)
def test_a_data_file_of_another_shape_is_a_sentence(tmp_path: Path, text: str, code: str, words: str) -> None:
    write_yolo(tmp_path, data=text)
    with pytest.raises(CoreError) as caught:
        opened(tmp_path)
    assert caught.value.code == code
    assert words in str(caught.value)


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    with pytest.raises(CoreError, match=r"no other\.yaml"):
        opened(tmp_path, data_file="other.yaml")
    (tmp_path.parent / "leaked.yaml").write_text(DATA)
    with pytest.raises(CoreError, match=r"no \.\./leaked\.yaml"):
        opened(tmp_path, data_file="../leaked.yaml")
