"""Boxes in COCO's JSON (Lin et al. 2014): `images`, `annotations` with `bbox` as x, y, width, height, and `categories`.

Category ids may have gaps (COCO itself: 80 classes with ids up to 90): channel k is the k-th id in rising order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from acamkd_core.datasets.base import Boxes, ClassInfo, Item, Sample
from acamkd_core.datasets.classes import automatic_color, read_classes
from acamkd_core.datasets.coco_file import CocoFile, read_coco
from acamkd_core.datasets.masks import read_image
from acamkd_core.datasets.paths import check_inside, is_inside
from acamkd_core.spec.datasets import CocoDataset
from acamkd_core.spec.errors import CoreError

ANNOTATIONS = (
    "annotations/{split}.json",
    "annotations/instances_{split}.json",
    "boxes/{split}.json",
    "{split}/_annotations.coco.json",
)
FOLDERS = ("images/{split}", "{split}", "images")


class BoxDataset:
    """An opened COCO folder. Opening reads the annotation files and checks that images exist; pixels come with `load`.

    Args:
        spec: where annotation files and images are.
        root: resolved folder of the dataset.
        roots: folders that links may lead to; empty: anywhere.
        strict: refuse missing images and foreign ids. Inspection opens with False and reports them.
    """

    task = "detection"
    ignore_id = None

    def __init__(
        self,
        spec: CocoDataset,
        root: Path,
        *,
        roots: Sequence[Path] = (),
        strict: bool = True,
        name: str | None = None,
    ) -> None:
        self.root = root
        self.name = name or root.name
        self._roots = tuple(roots)
        self.files = {role: self._read(spec, role, split) for role, split in self._roles(spec).items()}
        self.classes = self._classes()
        self._channels = {info.id: channel for channel, info in enumerate(self.classes)}
        self._boxes: dict[Path, Boxes] = {}
        self._sizes: dict[Path, tuple[int, int]] = {}  # height and width that the labels state
        self._items: dict[str, list[Item]] = {}
        for role, file in self.files.items():
            self._items[role] = self._list(spec, role, file, strict)
        self.digest = self._digest()

    def splits(self) -> dict[str, int]:
        """Number of images per role."""
        return {role: len(items) for role, items in self._items.items()}

    def items(self, split: str) -> list[Item]:
        """Images of a role, sorted by path."""
        if split not in self._items:
            raise CoreError(
                "dataset.missing_split", f"{self.name} has no split {split!r}", hint=f"it has {', '.join(self._items)}"
            )
        return self._items[split]

    def load(self, item: Item) -> Sample:
        """Pixels and boxes of one item.

        Raises:
            CoreError: `dataset.unreadable`, or `dataset.image_size` when the file is not of the size that its boxes
                refer to.
        """
        image = read_image(item.image)
        if item.label is None:
            return Sample(image, None)
        stated = self._sizes.get(item.image)
        if stated is not None and stated != image.shape[:2]:
            raise CoreError(
                "dataset.image_size",
                f"{item.image.name} is {image.shape[1]}x{image.shape[0]}, its labels say {stated[1]}x{stated[0]}",
                value=self.relative(item.image),
            )
        return Sample(image, self._boxes[item.image])

    def boxes(self, item: Item) -> Boxes:
        """The boxes of a labelled item, without reading its image."""
        return self._boxes[item.image]

    def stated_size(self, item: Item) -> tuple[int, int] | None:
        """Height and width of an image according to its labels."""
        return self._sizes.get(item.image)

    def relative(self, path: Path) -> str:
        """A file's name as users know it: relative to the dataset's folder."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name

    def _roles(self, spec: CocoDataset) -> dict[str, str]:
        roles = {"train": spec.splits.train, "val": spec.splits.val}
        if spec.splits.test is not None:
            roles["test"] = spec.splits.test
        elif any((self.root / pattern.format(split="test")).is_file() for pattern in self._patterns(spec)):
            roles["test"] = "test"
        if spec.splits.unlabelled is not None:
            roles["unlabelled"] = spec.splits.unlabelled
        return roles

    @staticmethod
    def _patterns(spec: CocoDataset) -> tuple[str, ...]:
        return (spec.annotation_file,) if spec.annotation_file is not None else ANNOTATIONS

    def _read(self, spec: CocoDataset, role: str, split: str) -> CocoFile:
        tried = [pattern.format(split=split) for pattern in self._patterns(spec)]
        for name in tried:
            path = self.root / name
            if path.is_file() and self._inside_root(path):
                check_inside(path, self._roots, name)
                return read_coco(path, split)
        raise CoreError(
            "dataset.missing_split",
            f"there is no annotation file for the split {role!r}",
            hint=f"looked for {', '.join(tried)}",
            field=f"dataset.splits.{role}",
            value=split,
        )

    def _inside_root(self, path: Path) -> bool:
        # Names in annotation files are foreign input: `..` must not lead out of the dataset, links are checked apart.
        return path.is_relative_to(self.root) and ".." not in path.relative_to(self.root).parts

    def _classes(self) -> list[ClassInfo]:
        first = self.files["train"]
        categories = dict(first.categories)
        for role, file in self.files.items():
            for number, name in file.categories.items():
                if number not in categories:
                    told = f"has a category {number} ({name!r}) that {first.path.name} lacks"
                elif categories[number] != name:
                    told = f"calls category {number} {name!r}, {first.path.name} calls it {categories[number]!r}"
                else:
                    continue
                raise CoreError(
                    "dataset.classes_differ",
                    f"{file.path.name} {told}",
                    hint="all splits need the same categories",
                    field=f"dataset.splits.{role}",
                    value=number,
                )
        colors = self._colors()
        return [
            ClassInfo(number, name, colors.get(name, automatic_color(channel)))
            for channel, (number, name) in enumerate(sorted(categories.items()))
        ]

    def _colors(self) -> dict[str, tuple[int, int, int]]:
        """Colours by class name from a `classes.json` beside the images, where there is a readable one."""
        path = self.root / "classes.json"
        if not path.is_file() or not is_inside(path.resolve(), self._roots):
            return {}
        try:
            return {info.name: info.color for info in read_classes(path).classes}
        except CoreError:
            return {}

    def _list(self, spec: CocoDataset, role: str, file: CocoFile, strict: bool) -> list[Item]:
        folder = self._folder(spec, role, file)
        items, missing = [], []
        for image in file.images.values():
            path = folder / image.file_name
            if not self._inside_root(path):
                raise CoreError(
                    "dataset.outside_root",
                    f"{file.path.name} names an image outside of the dataset's folder",
                    field="dataset.root",
                    value=image.file_name[:200],
                )
            if not path.is_file():
                missing.append(self.relative(path))
                if strict:
                    continue
            elif self._roots:
                check_inside(path, self._roots, image.file_name)
            found = file.boxes_of(image, self._channels)
            if spec.empty_images == "skip" and role == "train" and not (~found.crowd).any():
                continue
            self._boxes[path] = found
            items.append(Item(path, file.path if role != "unlabelled" else None))
            self._sizes[path] = (image.height, image.width)
        if strict:
            self._refuse(role, file, missing)
        if not items:
            raise CoreError(
                "dataset.empty_split", f"{file.path.name} lists no image", field=f"dataset.splits.{role}", value=role
            )
        return sorted(items, key=lambda item: item.image)

    def _folder(self, spec: CocoDataset, role: str, file: CocoFile) -> Path:
        patterns = (spec.image_folder,) if spec.image_folder is not None else FOLDERS
        candidates = [self.root / pattern.format(split=file.split) for pattern in patterns]
        candidates += [file.path.parent] if spec.image_folder is None else []
        first = next(iter(file.images.values()), None)
        for folder in candidates:
            if (
                first is not None
                and self._inside_root(folder / first.file_name)
                and (folder / first.file_name).is_file()
            ):
                return folder
        return next((folder for folder in candidates if folder.is_dir()), candidates[0])

    def _refuse(self, role: str, file: CocoFile, missing: list[str]) -> None:
        """What would only show after hours of training, or never: said at once."""
        for code, found, sentence in (
            ("dataset.missing_image", missing, "images of {file} do not exist"),
            ("dataset.image_twice", file.twice, "images are listed twice in {file}"),
            (
                "dataset.unknown_image",
                [str(n) for n in file.unknown_images],
                "boxes of {file} belong to no listed image",
            ),
            (
                "dataset.unknown_category",
                [str(n) for n in file.unknown_categories],
                "categories of {file} are not listed",
            ),
        ):
            if found:
                raise CoreError(
                    code,
                    f"{len(found)} {sentence.format(file=file.path.name)}: {', '.join(found[:3])}",
                    hint="`acamkd datasets inspect` lists everything",
                    field=f"dataset.splits.{role}",
                    value=found[0],
                )

    def _digest(self) -> str:
        lines = [json.dumps([[c.id, c.name] for c in self.classes])]
        for role, items in sorted(self._items.items()):
            lines.append(f"{role} {self.files[role].digest}")
            for item in items:
                size = item.image.stat().st_size if item.image.is_file() else -1
                lines.append(f"{self.relative(item.image)} {size}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
