"""`<split>/<class>/...`: one folder a class, as ImageNet is unpacked and torchvision's `ImageFolder` reads it.

Classes are the folders of the training split in the order of their names, which is torchvision's, so that weights for
ImageNet fit.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from acamkd_core.datasets.base import ClassInfo, Item, Note, Sample
from acamkd_core.datasets.classes import automatic_color
from acamkd_core.datasets.file_dataset import FileDataset
from acamkd_core.datasets.findings import refuse
from acamkd_core.datasets.masks import read_image
from acamkd_core.datasets.paths import IMAGE_SUFFIXES, check_inside, check_name
from acamkd_core.spec.datasets import ImageFolderDataset
from acamkd_core.spec.errors import CoreError

_NO_CLASSES = frozenset({"images", "masks", "labels", "annotations"})  # parts of datasets of other tasks


def class_folders(split: Path) -> list[Path]:
    """The folders of a split, one a class, sorted by name; hidden ones are none."""
    if not split.is_dir():
        return []
    return sorted(path for path in split.iterdir() if path.is_dir() and not path.name.startswith("."))


def is_image_folder(root: Path, train: str) -> bool:
    """Whether the training split has at least two folders with images in them."""
    with_images = 0
    for folder in class_folders(root / train):
        if folder.name.lower() in _NO_CLASSES:
            continue
        with_images += any(_is_image(name) for _, name in _files(folder))
        if with_images == 2:
            return True
    return False


class ImageFolder(FileDataset):
    """An opened image folder. Opening lists the files; pixels come with `load`. An item's label is its class's folder.

    Args:
        spec: names of the splits.
        root: resolved folder of the dataset.
        roots: folders that links may lead to; empty: anywhere.
        strict: refuse classes that the training split does not know. Inspection opens with False and reports them.
    """

    format = "image_folder"

    task = "classification"
    ignore_id = None

    def __init__(
        self,
        spec: ImageFolderDataset,
        root: Path,
        *,
        roots: Sequence[Path] = (),
        strict: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(root, name=name or root.name, roots=roots)
        train = self._split("train", spec.splits.train)
        folders = self._labelled("train", train)
        self.classes = [ClassInfo(at, folder.name, automatic_color(at)) for at, folder in enumerate(folders)]
        self._positions = {info.name: info.id for info in self.classes}
        self._items["train"] = self._list("train", train, folders)
        for role, split in self._scored(spec).items():
            self._items[role] = self._list(role, split, self._labelled(role, split))
        if spec.splits.unlabelled is not None:
            split = self._split("unlabelled", spec.splits.unlabelled)
            self._items["unlabelled"] = [Item(path, None) for path in self._images("unlabelled", split)]
        for role, items in self._items.items():
            if not items:
                raise CoreError(
                    "dataset.empty_split",
                    f"the split {role!r} holds no images",
                    hint="known endings: " + " ".join(sorted(IMAGE_SUFFIXES)),
                    field=f"dataset.splits.{role}",
                    value=role,
                )
        if strict:
            for note in self.notes:
                refuse(note, root.name)
        self.digest = self._digest()

    def load(self, item: Item) -> Sample:
        """Pixels and class of one item. Raises CoreError(`dataset.unreadable`, `dataset.image_mode`)."""
        image = read_image(item.image)
        return Sample(image, None if item.label is None else np.int64(self.position(item)))

    def position(self, item: Item) -> int:
        """The class of a labelled item, as the network's channel."""
        assert item.label is not None
        return self._positions[item.label.name]

    def _scored(self, spec: ImageFolderDataset) -> dict[str, Path]:
        roles = {"val": self._split("val", spec.splits.val)}
        if spec.splits.test is not None:
            roles["test"] = self._split("test", spec.splits.test)
        # Many datasets publish the images of their test split without labels: those cannot be scored here.
        elif any(folder.name in self._positions for folder in class_folders(self.root / "test")):
            roles["test"] = self.root / "test"
        return roles

    def _split(self, role: str, name: str) -> Path:
        path = self.root / name
        if path.is_dir() and ".." not in Path(name).parts:
            check_inside(path, self._roots, f"split {name!r}")
            return path
        present = [folder.name for folder in class_folders(self.root)]
        raise CoreError(
            "dataset.missing_split",
            f"there is no folder {name} for the split {role!r}",
            hint=f"{self.root.name} has {', '.join(present[:12]) or 'no folders'}",
            field=f"dataset.splits.{role}",
            value=name,
        )

    def _labelled(self, role: str, split: Path) -> list[Path]:
        """The class folders of a split."""
        folders = class_folders(split)
        if not folders:
            raise CoreError(
                "dataset.no_classes",
                f"{split.name} has no folder of a class",
                hint="images belong into <split>/<class>/; a split without labels can be `splits.unlabelled` only",
                field=f"dataset.splits.{role}",
                value=split.name,
            )
        return folders

    def _list(self, role: str, split: Path, folders: list[Path]) -> list[Item]:
        loose = [path.name for path in split.iterdir() if path.is_file() and _is_image(path.name)]
        if loose:
            self.notes.append(Note("dataset.image_without_class", role, len(loose), sorted(loose), ""))
        unknown = [folder.name for folder in folders if folder.name not in self._positions]
        if unknown:
            shown = ", ".join(unknown[:8])
            self.notes.append(Note("dataset.unknown_class", role, len(unknown), [], shown))
        items = []
        for folder in folders:
            check_name(self.relative(folder))
            if not folder.name.isprintable():  # it will be a line of labels.txt and a cell of the model card
                raise CoreError(
                    "dataset.classes_invalid",
                    f"the class folder {folder.name!a} needs a name of one printable line",
                    field="dataset.root",
                    value=ascii(folder.name)[:80],
                )
            check_inside(folder, self._roots, self.relative(folder))
            if folder.name in self._positions:
                items += [Item(path, folder) for path in self._images(role, folder)]
        return items

    def _images(self, role: str, folder: Path) -> list[Path]:
        """Images below a folder, sorted; links that leave the roots are refused, files of other kinds noted."""
        found, other = [], []
        for where, name in _files(folder):
            path = Path(where, name)
            if not _is_image(name):
                other.append(self.relative(path))
                continue
            check_name(self.relative(path))
            if path.is_symlink():  # all else lies where its folder lies, which was checked; a million are quick to list
                check_inside(path, self._roots, self.relative(path))
            found.append(path)
        if other:
            self.notes.append(Note("dataset.other_files", role, len(other), other[:10], ""))
        return sorted(found)

    def _digest(self) -> str:
        lines = [json.dumps([info.name for info in self.classes])]
        for role, items in sorted(self._items.items()):
            lines += [f"{role} {self.relative(item.image)} {item.image.stat().st_size}" for item in items]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """(folder, name) of every file below, hidden ones left out."""
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                yield where, name


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
