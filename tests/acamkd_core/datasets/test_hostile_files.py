"""Files as people really have them: odd modes, names and sizes; and files that mean harm."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from acamkd_core.datasets.base import ClassInfo
from acamkd_core.datasets.masks import read_ids, read_image
from acamkd_core.datasets.registry import inspect_dataset, open_dataset
from acamkd_core.exports.gate_segmentation import read_mask
from acamkd_core.exports.predict import ModelFileError
from acamkd_core.exports.predict import read_image as predict_image
from acamkd_core.exports.verify import MaskValues
from acamkd_core.spec.datasets import AutoDataset
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.inspection import InspectionReport
from tests.acamkd_core.datasets.factories import save, write_folder

CLASSES = [ClassInfo(0, "wall", (9, 9, 9)), ClassInfo(1, "car", (90, 9, 9))]


def _inspect(root: Path) -> InspectionReport:
    return inspect_dataset(open_dataset(AutoDataset(root=str(root)), strict=False))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_images_of_any_8_bit_mode_are_the_rgb_picture(tmp_path: Path, mode: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    picture = Image.fromarray(rgb).convert(mode)
    suffix = "tif" if mode == "CMYK" else "png"
    picture.save(tmp_path / f"a.{suffix}")
    got = read_image(tmp_path / f"a.{suffix}")
    assert got.shape == (7, 9, 3)
    np.testing.assert_array_equal(got, predict_image(tmp_path / f"a.{suffix}"))  # the download reads the same
    if mode in ("L", "LA", "1"):
        grey = np.asarray(picture.convert("L"))
        np.testing.assert_array_equal(got, np.repeat(grey[:, :, None], 3, axis=2))
    if mode == "RGBA":
        np.testing.assert_array_equal(got, rgb)


@pytest.mark.parametrize("pixels", [np.full((6, 6), 300, np.uint16), np.full((6, 6), 0.5, np.float32)])
def test_deep_images_are_refused_and_not_turned_white(tmp_path: Path, pixels: np.ndarray) -> None:
    """Pillow's conversion to 8 bits cuts everything above 255: such a dataset would train on white pictures."""
    write_folder(tmp_path, {"train": 2, "val": 1}, size=(6, 6))
    Image.fromarray(pixels).save(tmp_path / "images/train/00.tif")
    (tmp_path / "images/train/00.png").unlink()
    report = _inspect(tmp_path)
    assert [(f.code, f.files) for f in report.findings] == [("dataset.image_mode", ["images/train/00.tif"])]
    assert not report.ok
    with pytest.raises(CoreError, match="mode"):
        read_image(tmp_path / "images/train/00.tif")
    with pytest.raises(ModelFileError, match="8 bits"):
        predict_image(tmp_path / "images/train/00.tif")


def test_one_bit_masks_hold_the_ids_0_and_1(tmp_path: Path) -> None:
    """Not 0 and 255: the object would be ignored without a word."""
    ids = np.random.default_rng(0).integers(0, 2, (8, 9), dtype=np.uint8)
    Image.fromarray(ids.astype(bool)).save(tmp_path / "m.png")
    with Image.open(tmp_path / "m.png") as picture:
        assert picture.mode == "1"
    np.testing.assert_array_equal(read_ids(tmp_path / "m.png", CLASSES, 255), ids)
    values = MaskValues.of(CLASSES)
    mask = {"ids": values.ids, "colors": [[list(c), p] for c, p in values.colors]}
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", mask, (8, 9)), ids)  # so does the gate


def test_names_in_any_script_and_hidden_files(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 1, "val": 1})
    for name in ("straße 1.leftImg8bit.png", "道路.PNG", "a.b.c.png"):
        save(tmp_path / "images/train" / "x" / name, np.zeros((20, 30, 3), np.uint8))
        save((tmp_path / "masks/train" / "x" / name).with_suffix(".png"), np.zeros((20, 30), np.uint8))
    before = open_dataset(AutoDataset(root=str(tmp_path)))
    assert before.splits()["train"] == 4
    assert [before.load(item).target.max() for item in before.items("train")] == [9, 0, 0, 0]
    # What macOS and notebooks leave behind is no image.
    (tmp_path / "images/train/._00.png").write_bytes(b"\x00\x05\x16\x07")
    save(tmp_path / "images/train/.ipynb_checkpoints/00-checkpoint.png", np.zeros((20, 30, 3), np.uint8))
    assert open_dataset(AutoDataset(root=str(tmp_path))).digest == before.digest


def test_a_name_that_is_no_text_is_refused_readably(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 1, "val": 1})
    name = os.fsdecode(b"images/train/caf\xe9.png")
    try:
        (tmp_path / name).write_bytes((tmp_path / "images/train/00.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(CoreError) as caught:
        open_dataset(AutoDataset(root=str(tmp_path)), strict=False)
    assert caught.value.code == "dataset.file_name"
    caught.value.info.model_dump_json()  # an error that can be sent
    assert "caf\N{REPLACEMENT CHARACTER}.png" in str(caught.value)


@pytest.mark.parametrize(
    ("role", "code"),
    [("train", "dataset.nothing_to_learn"), ("val", "dataset.nothing_to_score"), ("test", "dataset.nothing_to_score")],
)
def test_a_split_without_a_labelled_pixel_teaches_and_scores_nothing(tmp_path: Path, role: str, code: str) -> None:
    write_folder(tmp_path)
    for index in range(3):
        save(tmp_path / f"masks/{role}/{index:02d}.png", np.full((20, 30), 9, np.uint8))
    report = _inspect(tmp_path)
    assert not report.ok
    found = {(f.code, f.split, f.severity) for f in report.findings}
    assert found == {(code, role, "error"), ("dataset.all_ignored", role, "warning")}


def test_a_file_is_what_its_bytes_say_and_only_known_kinds_are_opened(tmp_path: Path) -> None:
    """EPS would start a PostScript interpreter, whatever the file is called."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", format="EPS")
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "b.png", format="JPEG", quality=100)
    with pytest.raises(CoreError) as caught:
        read_image(tmp_path / "a.png")
    assert caught.value.code == "dataset.unreadable"
    assert read_image(tmp_path / "b.png").shape == (4, 4, 3)


@pytest.mark.filterwarnings("ignore")
def test_a_picture_that_would_fill_the_memory_is_refused_by_its_header(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("1", (10_500, 10_500)).save(stream, format="PNG")
    assert len(stream.getvalue()) < 100_000
    (tmp_path / "bomb.png").write_bytes(stream.getvalue())
    with pytest.raises(CoreError, match="too many"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.filterwarnings("ignore")  # Pillow comments on what it finds
def test_damaged_files_of_every_kind_are_one_error_and_never_a_crash(tmp_path: Path) -> None:
    rng, pixels = random.Random(1), np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)
    seeds = []
    for form in ("PNG", "JPEG", "TIFF", "BMP", "WEBP"):
        for mode in ("RGB", "L"):
            stream = io.BytesIO()
            Image.fromarray(pixels).convert(mode).save(stream, form)
            seeds.append(stream.getvalue())
    path, refused = tmp_path / "x.png", 0
    for _ in range(300):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 6)):
            if rng.random() < 0.7:
                data[rng.randrange(min(len(data), rng.choice((60, 5000))))] = rng.randrange(256)
            else:
                del data[max(1, rng.randrange(len(data))) :]
        path.write_bytes(bytes(data))
        for read in (lambda: read_image(path), lambda: read_ids(path, CLASSES, 255)):
            try:
                read()
            except CoreError:  # anything else fails the test
                refused += 1
    assert refused > 100


def test_damaged_exif_data_turns_no_picture_and_spoils_no_inspection(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 3, "val": 1})
    for number, exif in enumerate((b"Exif\0\0MM\0*", b"Exif\0\0XXXX", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12")):
        path = tmp_path / f"images/train/{number:02d}.png"
        Image.open(path).save(path, "JPEG", exif=exif)
    assert _inspect(tmp_path).findings == []


def test_a_file_that_breaks_after_the_inspection_is_refused_by_name(tmp_path: Path) -> None:
    write_folder(tmp_path)
    dataset = open_dataset(AutoDataset(root=str(tmp_path)))
    item = dataset.items("train")[0]
    item.image.write_bytes(item.image.read_bytes()[:200])
    with pytest.raises(CoreError) as caught:
        dataset.load(item)
    info = caught.value.info
    assert (info.code, info.field, info.value) == ("dataset.unreadable", "dataset", str(item.image))
    assert "00.png" in info.message
    assert info.hint
