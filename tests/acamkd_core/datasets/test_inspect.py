"""Every finding, triggered by a dataset that was spoiled in exactly one way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from acamkd_core.datasets.contact_sheet import contact_sheet
from acamkd_core.datasets.registry import inspect_dataset, open_dataset
from acamkd_core.spec.datasets import AutoDataset
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.inspection import InspectionReport
from tests.acamkd_core.datasets.factories import save, write_folder


def _inspect(root: Path) -> InspectionReport:
    return inspect_dataset(open_dataset(AutoDataset(root=str(root)), strict=False))


def test_a_sound_dataset_has_no_findings_and_right_counts(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_folder(tmp_path, {"train": 4, "val": 2})
    dataset = open_dataset(AutoDataset(root=str(tmp_path)))
    report = inspect_dataset(dataset, progress=lambda done, total: calls.append((done, total)))
    assert report.ok
    assert report.format == "mask_folder"
    assert report.findings == []
    assert calls == [(i, 6) for i in range(1, 7)]
    masks = np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / "masks/train").iterdir())])
    assert [c.pixels["train"] for c in report.classes] == [int((masks == i).sum()) for i in range(3)]
    assert [c.images["val"] for c in report.classes] == [2, 2, 2]
    train = report.splits[0]
    assert (train.images, train.labelled, train.pixels, train.ignored) == (4, 4, masks.size, 16)
    assert [(s.height, s.width, s.count) for s in report.sizes] == [(20, 30, 6)]
    assert InspectionReport.model_validate_json(report.model_dump_json()) == report


def _ids(root: Path) -> None:
    save(root / "masks/train/01.png", np.full((20, 30), 77, dtype=np.uint8))


def _size(root: Path) -> None:
    save(root / "masks/val/01.png", np.ones((10, 30), dtype=np.uint8))


def _truncated(root: Path) -> None:
    path = root / "images/train/02.png"
    path.write_bytes(path.read_bytes()[:400])


def _empty(root: Path) -> None:
    (root / "masks/train/02.png").write_bytes(b"")


def _ignored(root: Path) -> None:
    save(root / "masks/train/00.png", np.full((20, 30), 9, dtype=np.uint8))


def _leak(root: Path) -> None:
    shutil.copy(root / "images/train/00.png", root / "images/test/02.png")


def _twice(root: Path) -> None:
    shutil.copy(root / "images/val/00.png", root / "images/val/02.png")


def _missing(root: Path) -> None:
    (root / "masks/test/00.png").unlink()


def _mode(root: Path) -> None:
    save(root / "masks/val/02.png", np.zeros((20, 30), dtype=np.uint16))


def _absent(root: Path) -> None:
    about = json.loads((root / "classes.json").read_text())
    about["classes"].append({"id": 3, "name": "tram"})
    (root / "classes.json").write_text(json.dumps(about))
    save(root / "masks/val/00.png", np.full((20, 30), 3, dtype=np.uint8))


def _turned(root: Path) -> None:
    """Two photos as phones write them (a quarter turn in the EXIF data), and one whose EXIF data asks for nothing."""
    for name, kind, orientation in (("00", "PNG", 6), ("01", "JPEG", 3), ("02", "JPEG", 1)):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        path = root / f"images/train/{name}.png"
        Image.open(path).save(path, kind, exif=exif)


def _grey(root: Path) -> None:
    """One picture of a single channel, and one of three equal ones."""
    for name, channels in (("00", "L"), ("01", "RGB")):
        path = root / f"images/train/{name}.png"
        Image.open(path).convert("L").convert(channels).save(path)


@pytest.mark.parametrize(
    ("spoil", "expected", "words"),
    [
        (_ids, {("dataset.ids_outside_classes", "train", 1, "masks/train/01.png")}, "77"),
        (_size, {("dataset.size_mismatch", "val", 1, "images/val/01.png")}, "30x20 and 30x10"),
        (_truncated, {("dataset.unreadable", "train", 1, "images/train/02.png")}, "02.png"),
        (_empty, {("dataset.empty_file", "train", 1, "masks/train/02.png")}, "empty"),
        (_ignored, {("dataset.all_ignored", "train", 1, "masks/train/00.png")}, "ignore"),
        (_leak, {("dataset.shared_images", "test", 1, "images/test/02.png")}, "also in train"),
        (_twice, {("dataset.duplicate_images", "val", 1, "images/val/02.png")}, "twice"),
        (_missing, {("dataset.missing_mask", "test", 1, "images/test/00.png")}, "test: 1 image has no mask"),
        (_turned, {("dataset.exif_rotated", "train", 2, "images/train/00.png")}, "train: 2 images have a rotation"),
        (_grey, {("dataset.grey_images", "train", 2, "images/train/00.png")}, "2 images are grey, most others are not"),
        (_mode, {("dataset.mask_mode", "val", 1, "masks/val/02.png")}, "8-bit"),
        (
            _absent,
            {
                ("dataset.class_never_trained", "train", 1, None),
                ("dataset.class_without_pixels", "train", 1, None),
                ("dataset.class_without_pixels", "test", 1, None),
            },
            "tram",
        ),
    ],
)
def test_each_finding(
    tmp_path: Path, spoil: Callable[[Path], None], expected: set[tuple[str, str, int, str | None]], words: str
) -> None:
    spoil(write_folder(tmp_path))
    report = _inspect(tmp_path)
    found = {(f.code, f.split, f.count, f.files[0] if f.files else None) for f in report.findings}
    assert found == expected
    assert all(words in finding.message for finding in report.findings)
    # An error is exactly what loading the samples for training fails on.
    loads = True
    for role in ("train", "val", "test"):
        try:
            dataset = open_dataset(AutoDataset(root=str(tmp_path)))
            for item in dataset.items(role):
                dataset.load(item)
        except CoreError:
            loads = False
    assert report.ok == loads


def test_inspection_stops_when_told(tmp_path: Path) -> None:
    dataset = open_dataset(AutoDataset(root=str(write_folder(tmp_path, {"train": 40, "val": 1}))))
    looked: list[int] = []

    def stop(done: int, total: int) -> None:
        looked.append(done)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inspect_dataset(dataset, progress=stop, threads=1)
    assert looked == [1, 2]


def test_contact_sheet_survives_broken_files(tmp_path: Path) -> None:
    _truncated(write_folder(tmp_path / "toy"))
    dataset = open_dataset(AutoDataset(root=str(tmp_path / "toy")))
    path = contact_sheet(dataset, tmp_path / "out/sheet.png", images=3, cell=60)
    with Image.open(path) as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape[1] == 3 * (120 + 6) + 6
    # Left picture of the first pair: the image itself at double size, around its middle.
    first = np.asarray(Image.fromarray(dataset.load(dataset.items("train")[0]).image).resize((60, 40), 2))
    np.testing.assert_array_equal(pixels[6:46, 6:66], first)
    crossed = pixels[6:46, 6 + 2 * 126 :].reshape(-1, 3)
    assert (crossed == (200, 60, 40)).all(axis=1).any()
