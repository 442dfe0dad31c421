"""`images/<split>/*` with `masks/<split>/<same stem>.png` and a `classes.json`: the native segmentation format."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from acamkd_core.datasets.base import ClassInfo, Item, Sample
from acamkd_core.datasets.classes import read_classes
from acamkd_core.datasets.masks import UNKNOWN_COLOR, read_ids, read_image, train_ids, unreadable
from acamkd_core.datasets.paths import check_inside
from acamkd_core.spec.datasets import MaskFolderDataset
from acamkd_core.spec.errors import CoreError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


class MaskFolder:
    """An opened mask folder. Opening lists files and reads `classes.json`; pixels come with `load`.

    Class ids that are not 0..K-1 are moved to the class's position in `classes` (see `masks.train_ids`), so that
    targets are channels of the network; `ignore_id` is the id that targets use, `mask_ignore_id` the one on disk.

    Args:
        spec: folder names, splits, ignore id.
        root: resolved folder of the dataset.
        roots: folders that links may lead to; empty: anywhere.
        strict: refuse missing masks. Inspection opens with False and reports them.
    """

    task = "semantic_segmentation"

    def __init__(
        self,
        spec: MaskFolderDataset,
        root: Path,
        *,
        roots: Sequence[Path] = (),
        strict: bool = True,
        name: str | None = None,
    ) -> None:
        self.root = root
        classes_file = root / "classes.json"
        if not classes_file.is_file():
            raise CoreError(
                "dataset.classes_missing",
                f"{root.name} has no classes.json",
                hint="write the classes' names, ids and colours into it",
                field="dataset.root",
            )
        check_inside(classes_file, roots, "classes.json")
        declared = read_classes(classes_file)
        self.name = name or root.name
        self.classes: list[ClassInfo] = declared.classes
        self.mask_ignore_id = _ignore_id(spec, declared.ignore_id, declared.classes)
        self._table, self.ignore_id = train_ids(self.classes, self.mask_ignore_id)
        self._images = root / spec.image_folder
        self._masks = root / spec.mask_folder
        self._roots = tuple(roots)
        self._items = {role: self._list(role, folder, strict) for role, folder in self._roles(spec).items()}
        self.digest = self._digest()

    def splits(self) -> dict[str, int]:
        """Number of images per role."""
        return {role: len(items) for role, items in self._items.items()}

    def items(self, split: str) -> list[Item]:
        """Files of a role, sorted by path."""
        if split not in self._items:
            raise CoreError(
                "dataset.missing_split", f"{self.name} has no split {split!r}", hint=f"it has {', '.join(self._items)}"
            )
        return self._items[split]

    def load(self, item: Item) -> Sample:
        """Pixels of one item.

        Raises:
            CoreError: `dataset.unreadable`, `dataset.size_mismatch`, `dataset.ids_outside_classes`.
        """
        image = read_image(item.image)
        if item.label is None:
            return Sample(image, None)
        raw = read_ids(item.label, self.classes, self.mask_ignore_id)
        if raw.shape != image.shape[:2]:
            raise CoreError(
                "dataset.size_mismatch",
                f"{item.image.name} is {image.shape[1]}x{image.shape[0]}, its mask {raw.shape[1]}x{raw.shape[0]}",
                value=self.relative(item.image),
            )
        target = self._table[raw]
        if target.min() < 0:
            outside = sorted({int(value) for value in raw[target < 0]})
            shown = ", ".join("a colour of no class" if v == UNKNOWN_COLOR else str(v) for v in outside[:8])
            raise CoreError(
                "dataset.ids_outside_classes",
                f"mask {item.label.name} holds {shown}, which no class in classes.json has",
                hint="add the class, or make it the ignore id",
                value=self.relative(item.label),
            )
        return Sample(image, target.astype(np.uint8))

    def raw_ids(self, item: Item) -> np.ndarray:
        """The mask of a labelled item as on disk: HxW uint16 ids, unchecked. For inspection."""
        if item.label is None:
            raise unreadable(item.image, "it has no mask")
        return read_ids(item.label, self.classes, self.mask_ignore_id)

    def relative(self, path: Path) -> str:
        """A file's name as users know it: relative to the dataset's folder."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name

    def _roles(self, spec: MaskFolderDataset) -> dict[str, str]:
        roles = {"train": spec.splits.train, "val": spec.splits.val}
        if spec.splits.test is not None:
            roles["test"] = spec.splits.test
        # Many datasets publish the images of their test split without labels: those cannot be scored here.
        elif (self._images / "test").is_dir() and (self._masks / "test").is_dir():
            roles["test"] = "test"
        if spec.splits.unlabelled is not None:
            roles["unlabelled"] = spec.splits.unlabelled
        return roles

    def _list(self, role: str, folder: str, strict: bool) -> list[Item]:
        where = self._images / folder
        check_inside(where, self._roots, f"split {folder!r}")
        if not where.is_dir():
            present = sorted(p.name for p in self._images.iterdir() if p.is_dir()) if self._images.is_dir() else []
            raise CoreError(
                "dataset.missing_split",
                f"there is no folder {self._images.name}/{folder} for the split {role!r}",
                hint=f"{self._images.name}/ has {', '.join(present) or 'no folders'}",
                field=f"dataset.splits.{role}",
                value=folder,
            )
        files = sorted(p for p in where.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and _is_shown(p, where))
        if not files:
            raise CoreError(
                "dataset.empty_split",
                f"{self._images.name}/{folder} holds no images",
                hint="known endings: " + " ".join(sorted(IMAGE_SUFFIXES)),
                field=f"dataset.splits.{role}",
                value=folder,
            )
        items, seen = [], dict[Path, Path]()
        for file in files:
            label = self._masks / folder / file.relative_to(where).with_suffix(".png")
            if label in seen:
                raise CoreError(
                    "dataset.duplicate_stem",
                    f"{self.relative(file)} and {self.relative(seen[label])} would share one mask",
                    value=self.relative(file),
                )
            seen[label] = file
            _check_name(self.relative(file))
            check_inside(file, self._roots, self.relative(file))
            has_label = role != "unlabelled" and label.is_file()
            if has_label:
                check_inside(label, self._roots, self.relative(label))
            items.append(Item(file, label if has_label else None))
        missing = [self.relative(item.image) for item in items if item.label is None]
        if strict and role != "unlabelled" and missing:
            raise CoreError(
                "dataset.missing_mask",
                f"{len(missing)} of {len(items)} images of the split {role!r} have no mask: {', '.join(missing[:3])}",
                hint=f"masks are {self._masks.name}/{folder}/<same name>.png; "
                "images without masks belong into `splits.unlabelled`",
                field=f"dataset.splits.{role}",
                value=missing[0],
            )
        return items

    def _digest(self) -> str:
        lines = [json.dumps([[c.id, c.name, list(c.color)] for c in self.classes]), f"ignore {self.mask_ignore_id}"]
        for role, items in sorted(self._items.items()):
            for item in items:
                label = f"{item.label.stat().st_size}" if item.label else "-"
                lines.append(f"{role} {self.relative(item.image)} {item.image.stat().st_size} {label}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def _is_shown(path: Path, folder: Path) -> bool:
    """A file that a user put there: not `._00.png` (macOS), nor anything in `.ipynb_checkpoints`."""
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)


def _check_name(name: str) -> None:
    """Refuses names that are no Unicode text: they could be shown nowhere, and sent nowhere."""
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", "replace")
        raise CoreError(
            "dataset.file_name", f"the name of {shown} is not UTF-8", hint="rename the file", value=shown
        ) from None


def _ignore_id(spec: MaskFolderDataset, declared: int | None, classes: list[ClassInfo]) -> int:
    ignore = spec.ignore_id if spec.ignore_id is not None else declared if declared is not None else 255
    for info in classes:
        if info.id == ignore:
            raise CoreError(
                "dataset.ignore_is_class",
                f"ignore id {ignore} is the id of the class {info.name!r}",
                hint="choose an id that no class has",
                field="dataset.ignore_id",
                value=ignore,
            )
    return ignore
