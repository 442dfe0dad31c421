"""Images with boxes: what every format of boxes shares, whatever files they come from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from acamkd_core.datasets.base import Boxes, ClassInfo, Item, Sample
from acamkd_core.datasets.box_labels import BoxLabels
from acamkd_core.datasets.classes import automatic_color, read_classes
from acamkd_core.datasets.file_dataset import FileDataset
from acamkd_core.datasets.findings import refuse
from acamkd_core.datasets.masks import read_image
from acamkd_core.datasets.paths import check_inside, is_file, is_inside
from acamkd_core.spec.errors import CoreError


class BoxDataset(FileDataset):
    """An opened dataset with boxes. A format reads its labels in its constructor: it calls this one, then `_found`.
    Channel k is the k-th category id in rising order.
    """

    task = "detection"
    ignore_id = None

    def __init__(self, root: Path, *, name: str, roots: Sequence[Path]) -> None:
        super().__init__(root, name=name, roots=roots)
        self.files: dict[str, BoxLabels] = {}
        self._folders: dict[str, Path] = {}
        self.classes: list[ClassInfo] = []
        self._boxes: dict[Path, Boxes] = {}
        self._sizes: dict[Path, tuple[int, int]] = {}  # height and width that the labels state

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
                hint="boxes would sit in the wrong place: scale them, or correct width and height",
                field="dataset",
                value=self.relative(item.image),
            )
        return Sample(image, self._boxes[item.image])

    def boxes(self, item: Item) -> Boxes:
        """The boxes of a labelled item, without reading its image."""
        return self._boxes[item.image]

    def stated_size(self, item: Item) -> tuple[int, int] | None:
        """Height and width of an image according to its labels."""
        return self._sizes.get(item.image)

    def image_name(self, role: str, number: int) -> str:
        """The name of an image of a split, from its id in the labels."""
        return self.relative(self._folders[role] / self.files[role].images[number].file_name)

    def _found(
        self, files: dict[str, BoxLabels], folders: dict[str, Path], *, strict: bool, skip_empty: bool = False
    ) -> None:
        """Takes the labels of every role, and the folder that their image names start from.

        Args:
            files: labels by role.
            folders: folders by role.
            strict: refuse what would only show after hours of training.
            skip_empty: leave training images without a box out.
        """
        self.files, self._folders = files, folders
        self.classes = self._classes()
        for role, file in files.items():
            file.notes += file.misplaced(role, partial(self.image_name, role))
        channels = {info.id: channel for channel, info in enumerate(self.classes)}
        for role, file in files.items():
            self._items[role] = self._list(role, file, folders[role], channels, strict, skip_empty and role == "train")
        self.digest = self._digest()

    def _facts(self) -> Any:
        # What counts as a crowd is an option of VOC, and names of a list may be twice: neither is in the digest.
        crowds = hashlib.sha256(b"".join(found.crowd.tobytes() for found in self._boxes.values())).hexdigest()
        return crowds, [(file.notes, file.twice) for file in self.files.values()]

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

    def _list(
        self, role: str, file: BoxLabels, folder: Path, channels: dict[int, int], strict: bool, skip_empty: bool
    ) -> list[Item]:
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
            if not is_file(path):
                missing.append(self.relative(path))
                if strict:
                    continue
            elif self._roots:
                check_inside(path, self._roots, image.file_name)
            found = file.boxes_of(image, channels)
            if skip_empty and not (~found.crowd).any():
                continue
            self._boxes[path] = found
            items.append(Item(path, file.path if role != "unlabelled" else None))
            if image.height:
                self._sizes[path] = (image.height, image.width)
        if strict:
            self._refuse(role, file, missing)
        if not items:
            lacks = "lists no image with a box: all are left out" if file.images else "lists no image"
            raise CoreError(
                "dataset.empty_split", f"{file.path.name} {lacks}", field=f"dataset.splits.{role}", value=role
            )
        return sorted(items, key=lambda item: item.image)

    def _refuse(self, role: str, file: BoxLabels, missing: list[str]) -> None:
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
        for note in file.notes:
            refuse(note, file.path.name)

    def _digest(self) -> str:
        lines = [json.dumps([[c.id, c.name] for c in self.classes])]
        for role, items in sorted(self._items.items()):
            lines.append(f"{role} {self.files[role].digest}")
            for item in items:
                size = item.image.stat().st_size if is_file(item.image) else -1
                lines.append(f"{self.relative(item.image)} {size}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
