"""Image folders: the same classes and files as torchvision's, and an inspection that sees what spoils a training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from acamkd_core.datasets.contact_sheet import contact_sheet
from acamkd_core.datasets.image_folder import ImageFolder
from acamkd_core.datasets.registry import inspect_dataset, open_dataset
from acamkd_core.spec.datasets import AutoDataset, ImageFolderDataset, Splits
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.inspection import Finding, InspectionReport
from acamkd_core.torchvision_compat import torchvision
from tests.acamkd_core.datasets.factories import save, write_folder
from tests.acamkd_core.datasets.shapes_factory import COLORS, write_shapes


def _open(root: Path, *, strict: bool = True, roots: tuple[Path, ...] = (), **splits: str) -> ImageFolder:
    spec = ImageFolderDataset(format="image_folder", root=str(root), splits=Splits.model_validate(splits))
    found = open_dataset(spec, strict=strict, roots=roots)
    assert isinstance(found, ImageFolder)
    return found


def _inspect(root: Path, **splits: str) -> InspectionReport:
    return inspect_dataset(_open(root, strict=False, **splits))


def _found(report: InspectionReport, code: str) -> Finding:
    (one,) = [finding for finding in report.findings if finding.code == code]
    return one


def test_classes_and_files_are_torchvisions(tmp_path: Path) -> None:
    root = write_shapes(tmp_path / "shapes")
    save(root / "train" / "apple" / "deeper" / "x.png", np.full((9, 9, 3), 80, np.uint8))
    (root / "train" / "leaf" / "00.png").rename(root / "train" / "leaf" / "Z.PNG")
    dataset = _open(root)
    assert dataset.splits() == {"train": 13, "val": 6, "test": 6}
    for split in ("train", "val", "test"):
        theirs = torchvision.datasets.ImageFolder(str(root / split), loader=lambda path: np.asarray(Image.open(path)))
        assert [info.name for info in dataset.classes] == theirs.classes
        own = {str(item.image): dataset.position(item) for item in dataset.items(split)}
        assert own == dict(theirs.samples)
        for item in dataset.items(split):
            sample = dataset.load(item)
            assert int(sample.target) == own[str(item.image)]
            np.testing.assert_array_equal(sample.image, theirs.loader(str(item.image)))


def test_the_folder_is_detected_and_other_layouts_are_not_taken_for_it(tmp_path: Path) -> None:
    shapes = write_shapes(tmp_path / "shapes")
    assert open_dataset(AutoDataset(root=str(shapes))).task == "classification"
    masks = write_folder(tmp_path / "masks")
    assert open_dataset(AutoDataset(root=str(masks))).task == "semantic_segmentation"
    for part in ("images", "masks"):  # masks laid out split by split: no format of ours, and no two classes either
        save(tmp_path / "odd" / "train" / part / "0.png", np.zeros((9, 9, 3), np.uint8))
    (tmp_path / "one" / "train").mkdir(parents=True)
    shutil.copytree(shapes / "train" / "sky", tmp_path / "one" / "train" / "sky")
    for root in (tmp_path / "odd", tmp_path / "one"):
        with pytest.raises(CoreError, match="image_folder needs train/<class>/"):
            open_dataset(AutoDataset(root=str(root)))


def test_the_version_follows_names_sizes_and_classes(tmp_path: Path) -> None:
    root = write_shapes(tmp_path / "shapes")
    first = _open(root).digest
    assert first == _open(root).digest
    (root / "train" / "sky").rename(root / "train" / "sea")
    (root / "val" / "sky").rename(root / "val" / "sea")
    (root / "test" / "sky").rename(root / "test" / "sea")
    assert _open(root).digest != first


def test_a_whole_folder_has_no_findings_and_is_counted(tmp_path: Path) -> None:
    report = _inspect(write_shapes(tmp_path / "shapes"))
    assert report.format == "image_folder"
    assert report.ok
    assert report.findings == []
    assert report.task == "classification"
    assert [(one.role, one.images, one.labelled) for one in report.splits] == [
        ("train", 12, 12), ("val", 6, 6), ("test", 6, 6),
    ]  # fmt: skip
    assert [(one.name, one.images) for one in report.classes] == [
        (name, {"train": 4, "val": 2, "test": 2}) for name in COLORS
    ]
    assert [(one.height, one.width, one.count) for one in report.sizes] == [(40, 48, 24)]


def _truncate(root: Path) -> None:
    path = root / "val" / "leaf" / "01.png"
    path.write_bytes(path.read_bytes()[:300])


def _empty(root: Path) -> None:
    (root / "train" / "leaf" / "01.png").write_bytes(b"")


def _leak(root: Path) -> None:
    shutil.copy(root / "train" / "sky" / "00.png", root / "val" / "sky" / "copy.png")


def _twice(root: Path) -> None:
    shutil.copy(root / "train" / "sky" / "00.png", root / "train" / "sky" / "copy.png")


def _contradict(root: Path) -> None:
    shutil.copy(root / "train" / "sky" / "00.png", root / "train" / "leaf" / "sky.png")


def _grey(root: Path) -> None:
    save(root / "train" / "sky" / "grey.png", np.random.default_rng(1).integers(0, 256, (40, 48), dtype=np.uint8))


def _foreign(root: Path) -> None:
    save(root / "val" / "sea" / "0.png", np.full((40, 48, 3), (1, 2, 3), np.uint8))


def _lost(root: Path) -> None:
    shutil.rmtree(root / "val" / "sky")


def _never(root: Path) -> None:
    for path in (root / "train" / "sky").iterdir():
        path.unlink()


def _text(root: Path) -> None:
    (root / "train" / "sky" / "notes.txt").write_text("hello")
    (root / "train" / "leaf" / "movie.mp4").write_bytes(b"x")
    (root / "train" / "leaf" / ".DS_Store").write_bytes(b"x")


def _loose(root: Path) -> None:
    save(root / "train" / "loose.png", np.full((40, 48, 3), (1, 2, 3), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "code", "split", "severity", "count", "files"),
    [
        (_truncate, "dataset.unreadable", "val", "error", 1, ["val/leaf/01.png"]),
        (_empty, "dataset.empty_file", "train", "error", 1, ["train/leaf/01.png"]),
        (_leak, "dataset.shared_images", "val", "warning", 1, ["val/sky/copy.png"]),
        (_twice, "dataset.duplicate_images", "train", "warning", 1, ["train/sky/copy.png"]),
        (_contradict, "dataset.contradicting_labels", "train", "warning", 2, ["train/leaf/sky.png", "train/sky/00.png"]),
        (_grey, "dataset.grey_images", "train", "warning", 1, ["train/sky/grey.png"]),
        (_foreign, "dataset.unknown_class", "val", "error", 1, []),
        (_lost, "dataset.class_without_images", "val", "warning", 1, []),
        (_never, "dataset.class_never_trained", "train", "warning", 1, []),
        (_text, "dataset.other_files", "train", "warning", 2, ["train/leaf/movie.mp4", "train/sky/notes.txt"]),
        (_loose, "dataset.image_without_class", "train", "warning", 1, ["loose.png"]),
    ],
)  # fmt: skip
def test_what_spoils_a_training_is_found(
    tmp_path: Path, spoil: Callable[[Path], None], code: str, split: str, severity: str, count: int, files: list[str]
) -> None:
    root = write_shapes(tmp_path / "shapes")
    spoil(root)
    report = _inspect(root)
    found = _found(report, code)
    assert (found.split, found.severity, found.count, found.files) == (split, severity, count, files)
    assert report.ok == (severity == "warning")


def test_tiny_images_are_told_where_most_are_not(tmp_path: Path) -> None:
    root = write_shapes(tmp_path / "shapes", size=(64, 80))
    save(root / "val" / "sky" / "tiny.png", np.random.default_rng(2).integers(0, 256, (70, 20, 3), dtype=np.uint8))
    assert _found(_inspect(root), "dataset.tiny_images").files == ["val/sky/tiny.png"]
    grey = write_shapes(tmp_path / "digits", size=(28, 28))
    for path in grey.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    assert _inspect(grey).findings == []  # all are small and grey: so is the dataset


def test_a_foreign_class_is_refused_before_a_step(tmp_path: Path) -> None:
    root = write_shapes(tmp_path / "shapes")
    _foreign(root)
    with pytest.raises(CoreError, match="sea") as error:
        _open(root)
    assert (error.value.code, error.value.info.field) == ("dataset.unknown_class", "dataset.splits.val")


def test_splits_by_other_names_and_unlabelled_images(tmp_path: Path) -> None:
    root = write_shapes(tmp_path / "shapes", {"training": 3, "validation": 2})
    save(root / "more" / "deep" / "0.png", np.zeros((9, 9, 3), np.uint8))
    dataset = _open(root, train="training", val="validation", unlabelled="more")
    assert dataset.splits() == {"train": 9, "val": 6, "unlabelled": 1}
    assert dataset.load(dataset.items("unlabelled")[0]).target is None
    with pytest.raises(CoreError, match="no folder train") as error:
        _open(root)
    assert "training" in (error.value.info.hint or "")
    flat = tmp_path / "flat"
    shutil.copytree(root / "training", flat / "train")
    save(flat / "val" / "0.png", np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(CoreError) as flat_error:
        _open(flat)
    assert flat_error.value.code == "dataset.no_classes"


def test_test_images_without_classes_are_not_scored(tmp_path: Path) -> None:
    root = write_shapes(tmp_path / "shapes", {"train": 2, "val": 1})
    save(root / "test" / "0.png", np.zeros((9, 9, 3), np.uint8))
    assert set(_open(root).splits()) == {"train", "val"}


def test_links_do_not_lead_out_of_the_roots(tmp_path: Path) -> None:
    outside = write_shapes(tmp_path / "outside")
    for name, target in (("file", "train/sky/00.png"), ("class", "train/sky"), ("split", "val")):
        root = write_shapes(tmp_path / "roots" / name)
        place = root / {"file": "train/sky/link.png", "class": "train/zoo", "split": "val"}[name]
        if place.exists():
            shutil.rmtree(place)
        place.symlink_to(outside / target)
        with pytest.raises(CoreError) as error:
            _open(root, roots=(tmp_path / "roots",))
        assert error.value.code == "dataset.outside_roots", name
    assert _open(tmp_path / "roots" / "file").splits()["train"] == 13
    with pytest.raises(CoreError):
        _open(write_shapes(tmp_path / "here"), train="../outside/train")


def test_the_contact_sheet_names_classes(tmp_path: Path) -> None:
    root = write_shapes(tmp_path / "shapes", {"train": 1, "val": 1})
    dataset = _open(root)
    with Image.open(contact_sheet(dataset, tmp_path / "sheet.png", cell=96)) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    for info in dataset.classes:
        assert (pixels == info.color).all(axis=2).sum() >= 100, info.name
