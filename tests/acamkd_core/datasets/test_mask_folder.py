"""Opening mask folders: formats of masks, ids, refusals."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from acamkd_core.datasets.registry import open_dataset
from acamkd_core.spec.datasets import AutoDataset, MaskFolderDataset, RegisteredDataset, Splits
from acamkd_core.spec.errors import CoreError
from tests.acamkd_core.datasets.factories import COLORS, save, write_folder


def _open(root: Path, **options: object) -> object:
    return open_dataset(AutoDataset(root=str(root)), **options)


def test_splits_classes_and_pixels(tmp_path: Path) -> None:
    dataset = _open(write_folder(tmp_path, {"train": 4, "val": 2, "test": 1}))
    assert dataset.splits() == {"train": 4, "val": 2, "test": 1}
    assert [c.name for c in dataset.classes] == ["road", "wall", "car"]
    assert dataset.ignore_id == 9
    item = dataset.items("train")[1]
    sample = dataset.load(item)
    with Image.open(tmp_path / "masks/train/01.png") as mask, Image.open(tmp_path / "images/train/01.png") as image:
        np.testing.assert_array_equal(sample.target, np.asarray(mask))
        np.testing.assert_array_equal(sample.image, np.asarray(image))


def test_palette_and_colour_masks_equal_id_masks(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 2], [2, 9, 0]], dtype=np.uint8)
    write_folder(tmp_path, {"train": 3, "val": 1}, size=(2, 3))
    palette = Image.fromarray(ids).convert("L")
    palette = Image.frombytes("P", (3, 2), palette.tobytes())
    palette.putpalette([7, 8, 9] * 256)
    palette.save(tmp_path / "masks/train/00.png")
    rgb = np.zeros((2, 3, 3), dtype=np.uint8)  # black stays for the ignored pixel
    for value in range(3):
        rgb[ids == value] = COLORS[value]
    save(tmp_path / "masks/train/01.png", rgb)
    save(tmp_path / "masks/train/02.png", ids)
    dataset = _open(tmp_path)
    for item in dataset.items("train"):
        np.testing.assert_array_equal(dataset.load(item).target, ids)


def test_ids_with_gaps_become_channels(tmp_path: Path) -> None:
    classes = [{"id": 7, "name": "road"}, {"id": 26, "name": "car"}, {"id": 11, "name": "wall"}]
    write_folder(tmp_path, {"train": 1, "val": 1}, size=(1, 4), classes=classes)
    raw = np.array([[7, 11, 26, 0]], dtype=np.uint8)  # 0 is ignored, as in ADE20K
    save(tmp_path / "masks/train/00.png", raw)
    spec = MaskFolderDataset(format="mask_folder", root=str(tmp_path), ignore_id=0)
    dataset = open_dataset(spec)
    assert [c.name for c in dataset.classes] == ["road", "wall", "car"]
    assert dataset.ignore_id == 255
    assert dataset.load(dataset.items("train")[0]).target.tolist() == [[0, 1, 2, 255]]


def test_unlabelled_split_needs_no_masks(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 2, "val": 1, "extra": 3})
    spec = MaskFolderDataset(format="mask_folder", root=str(tmp_path), splits=Splits(unlabelled="extra"))
    dataset = open_dataset(spec)
    assert dataset.splits()["unlabelled"] == 3
    assert all(dataset.load(item).target is None for item in dataset.items("unlabelled"))


def test_a_test_split_without_labels_is_left_alone(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "classes.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "classes.json").read_bytes())
    assert _open(tmp_path).splits() == {"train": 3, "val": 3, "test": 3}
    for mask in (tmp_path / "masks/test").iterdir():
        mask.unlink()
    (tmp_path / "masks/test").rmdir()
    assert _open(tmp_path).splits() == {"train": 3, "val": 3}
    asked = MaskFolderDataset(format="mask_folder", root=str(tmp_path), splits=Splits(test="test"))
    with pytest.raises(CoreError, match="3 of 3 images of the split 'test' have no mask"):
        open_dataset(asked)


def test_digest_changes_with_files_and_classes(tmp_path: Path) -> None:
    before = _open(write_folder(tmp_path)).digest
    assert len(before) == 12
    assert _open(tmp_path).digest == before
    (tmp_path / "images/test/02.png").rename(tmp_path / "images/test/03.png")
    (tmp_path / "masks/test/02.png").rename(tmp_path / "masks/test/03.png")
    assert _open(tmp_path).digest != before


def _remove_mask(root: Path) -> None:
    (root / "masks/val/01.png").unlink()


def _remove_split(root: Path) -> None:
    (root / "images/val").rename(root / "images/validation")


def _empty_split(root: Path) -> None:
    for file in (root / "images/val").iterdir():
        file.unlink()


def _twin(root: Path) -> None:
    (root / "images/train/00.jpg").write_bytes((root / "images/train/00.png").read_bytes())


def _classes(value: object) -> object:
    return lambda root: (root / "classes.json").write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (_remove_mask, "dataset.missing_mask", "1 of 3 images of the split 'val' have no mask: images/val/01.png"),
        (_remove_split, "dataset.missing_split", "validation"),
        (_empty_split, "dataset.empty_split", "images/val holds no images"),
        (_twin, "dataset.duplicate_stem", "share one mask"),
        (_classes({"classes": []}), "dataset.classes_invalid", "non-empty list"),
        (_classes(["a", "a"]), "dataset.classes_invalid", "the name a twice"),
        (_classes(["a", "b\nc"]), "dataset.classes_invalid", "one printable line"),
        (_classes(["a", "\ud800"]), "dataset.classes_invalid", "one printable line"),
        (lambda root: (root / "classes.json").write_text("[" * 100_000), "dataset.classes_invalid", "JSON"),
        (_classes([{"name": "a", "id": 300}]), "dataset.classes_invalid", "0 to 255"),
        (_classes({"classes": ["a", "b"], "ignore_index": 1}), "dataset.classes_invalid", "id of a class"),
        (lambda root: (root / "classes.json").write_text("{"), "dataset.classes_invalid", "JSON"),
        (lambda root: (root / "classes.json").unlink(), "dataset.unknown_format", "missing classes.json"),
    ],
)
def test_broken_folders_are_refused(tmp_path: Path, spoil: object, code: str, words: str) -> None:
    spoil(write_folder(tmp_path))
    with pytest.raises(CoreError) as caught:
        _open(tmp_path)
    assert caught.value.code == code
    assert words in str(caught.value)


def test_broken_pixels_are_refused_with_the_file(tmp_path: Path) -> None:
    write_folder(tmp_path)
    save(tmp_path / "masks/train/00.png", np.full((20, 30), 5, dtype=np.uint8))
    save(tmp_path / "masks/train/01.png", np.zeros((10, 30), dtype=np.uint8))
    (tmp_path / "images/train/02.png").write_bytes((tmp_path / "images/train/02.png").read_bytes()[:300])
    save(tmp_path / "masks/val/00.png", np.zeros((20, 30), dtype=np.uint16))
    dataset = _open(tmp_path)
    codes = []
    for item in [*dataset.items("train"), dataset.items("val")[0]]:
        with pytest.raises(CoreError, match=item.image.stem) as caught:
            dataset.load(item)
        codes.append(caught.value.code)
    assert codes == [
        "dataset.ids_outside_classes", "dataset.size_mismatch", "dataset.unreadable", "dataset.mask_mode",
    ]  # fmt: skip


def test_paths_stay_inside_the_roots(tmp_path: Path) -> None:
    roots = [tmp_path / "allowed"]
    inside = write_folder(tmp_path / "allowed/toy")
    outside = write_folder(tmp_path / "secret")
    assert _open(inside, roots=roots).splits()["train"] == 3
    assert _open(Path("toy"), roots=roots).root == inside.resolve()
    (tmp_path / "allowed/link").symlink_to(outside)
    for path in (outside, Path("../secret"), tmp_path / "allowed/../secret", tmp_path / "allowed/link"):
        with pytest.raises(CoreError) as caught:
            _open(path, roots=roots)
        assert caught.value.code == "dataset.outside_roots", path
    spec = MaskFolderDataset(format="mask_folder", root="toy", splits=Splits(train="../../../secret/images/train"))
    with pytest.raises(CoreError, match=r"outside|leaves"):
        open_dataset(spec, roots=roots)


@pytest.mark.parametrize("field", ["image_folder", "mask_folder"])
@pytest.mark.parametrize("absolute", [True, False])
def test_folder_names_do_not_lead_out_of_the_roots(tmp_path: Path, field: str, absolute: bool) -> None:
    write_folder(tmp_path / "allowed/toy")
    outside = write_folder(tmp_path / "secret") / ("images" if field == "image_folder" else "masks")
    name = str(outside) if absolute else f"../../secret/{outside.name}"
    spec = MaskFolderDataset.model_validate({"format": "mask_folder", "root": "toy", field: name})
    with pytest.raises(CoreError) as caught:
        open_dataset(spec, roots=[tmp_path / "allowed"])
    assert caught.value.code == "dataset.outside_roots"


@pytest.mark.parametrize("where", ["images/train/00.png", "masks/train/00.png", "classes.json", "images/val"])
def test_links_out_of_the_roots_are_refused(tmp_path: Path, where: str) -> None:
    inside = write_folder(tmp_path / "allowed/toy")
    outside = write_folder(tmp_path / "secret")
    (inside / where).rename(tmp_path / "aside")
    os.symlink(outside / where, inside / where)
    with pytest.raises(CoreError) as caught:
        _open(inside, roots=[tmp_path / "allowed"])
    assert caught.value.code == "dataset.outside_roots"
    assert _open(inside).splits()["train"] == 3  # on a user's own machine links are fine


def test_unknown_sources(tmp_path: Path) -> None:
    for spec, code in (
        (AutoDataset(root=str(tmp_path / "nowhere")), "dataset.not_found"),
        (AutoDataset(root=str(tmp_path)), "dataset.unknown_format"),
        (RegisteredDataset(format="registered", name="street"), "dataset.not_resolved"),
    ):
        with pytest.raises(CoreError) as caught:
            open_dataset(spec)
        assert caught.value.code == code


def test_camvid_opens() -> None:
    folder = os.environ.get("ACAMKD_TEST_DATA")
    if not folder or not (Path(folder) / "camvid").is_dir():
        pytest.skip("ACAMKD_TEST_DATA names no folder with camvid")
    dataset = _open(Path(folder) / "camvid")
    assert dataset.splits() == {"train": 367, "val": 101, "test": 233}
    assert (len(dataset.classes), dataset.ignore_id) == (11, 11)
    assert dataset.load(dataset.items("val")[0]).image.shape == (360, 480, 3)
