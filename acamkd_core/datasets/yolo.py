"""YOLO's layout as Ultralytics documents it: a `data.yaml`, `images/...` and, with the same path, `labels/... .txt`.

A split is a folder, a text file that lists images, or a list of those. An image without a label file shows nothing.
Boxes are fractions of the image's size, which is why opening reads the header of every image.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from acamkd_core.datasets.box_dataset import BoxDataset
from acamkd_core.datasets.box_labels import BoxLabels, ListedImage, notes_of
from acamkd_core.datasets.mask_dataset import is_shown
from acamkd_core.datasets.masks import image_size
from acamkd_core.datasets.paths import IMAGE_SUFFIXES, check_inside, check_name, is_file
from acamkd_core.datasets.yolo_file import Line, YoloData, read_data, read_line
from acamkd_core.spec.datasets import YoloDataset
from acamkd_core.spec.errors import CoreError

DATA_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


def find_data_file(root: Path) -> Path | None:
    """`data.yaml`, or the only YAML file of the folder when it has names."""
    for name in DATA_FILES:
        if (root / name).is_file():
            return root / name
    others = [path for path in root.iterdir() if path.suffix in (".yaml", ".yml") and path.is_file()]
    if len(others) == 1:
        with others[0].open("rb") as file:
            if any(line.startswith(b"names:") for line in file.read(500_000).splitlines()):
                return others[0]
    return None


class Yolo(BoxDataset):
    """An opened YOLO folder.

    Args:
        spec: which `data.yaml`, and which of its splits.
        root: resolved folder of the dataset.
        roots: folders that links may lead to; empty: anywhere.
        strict: refuse missing images and broken lines. Inspection opens with False and reports them.
    """

    format = "yolo"

    def __init__(self, spec: YoloDataset, root: Path, *, roots: Sequence[Path] = (), strict: bool = True) -> None:
        super().__init__(root, name=root.name, roots=roots)
        path = root / spec.data_file if spec.data_file is not None else find_data_file(root)
        if path is None or not is_file(path) or not self._inside_root(path):
            raise CoreError(
                "dataset.missing_file",
                f"there is no {spec.data_file or DATA_FILES[0]} in {root.name}",
                hint="it names classes and splits: {train: images/train, val: images/val, names: [car, bus]}",
                field="dataset.data_file",
                value=spec.data_file,
            )
        check_inside(path, roots, path.name)
        self._path, self._data = path, read_data(path)
        self._base = self._base_folder(self._data)
        named = spec.splits.model_dump(exclude_none=True)
        files = {role: self._read(role, split) for role, split in named.items()}
        # Lists of test images are often published without their labels: those cannot be scored here.
        if "test" not in files and any(is_file(self._label(image)) for image in self._test_images()):
            files["test"] = self._read("test", "test")
        self._found(files, dict.fromkeys(files, root), strict=strict)

    def _base_folder(self, data: YoloData) -> Path:
        """`path` of data.yaml where it is a folder of the dataset: it often is the place on another machine."""
        if data.base is not None and (folder := self._below(self._path.parent / data.base)) is not None:
            return folder if folder.is_dir() else self._path.parent
        return self._path.parent

    def _below(self, path: Path) -> Path | None:
        """A path without `..`; None where it leaves the dataset's folder."""
        plain = Path(os.path.normpath(path))
        return plain if plain.is_relative_to(self.root) else None

    def _test_images(self) -> Iterator[Path]:
        for place in self._data.splits.get("test", []):
            if (found := self._place(place)) is not None:
                yield from self._images(found)

    def _place(self, text: str) -> Path | None:
        # Roboflow writes `../train/images` for a folder beside data.yaml; Ultralytics takes it without the dots, too.
        for candidate in (self._base / text, self._base / text.removeprefix("../")):
            path = self._below(candidate)
            if path is not None and (is_file(path) or path.is_dir()):
                return path
        return None

    def _images(self, place: Path) -> list[Path]:
        check_inside(place, self._roots, self.relative(place))
        if place.is_dir():
            return sorted(p for p in place.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and is_shown(p, place))
        lines = place.read_text(encoding="utf-8", errors="replace").splitlines()
        images = []
        for line in filter(None, map(str.strip, lines)):
            # `./` is the folder of the list, everything else that of the dataset.
            image = self._below((place.parent if line.startswith("./") else self._base) / line)
            if image is None:
                raise CoreError(
                    "dataset.outside_root",
                    f"{place.name} names an image outside of the dataset's folder",
                    field="dataset.root",
                    value=line[:200],
                )
            images.append(image)
        return images

    def _read(self, role: str, split: str) -> BoxLabels:
        places = self._data.splits.get(split)
        found = [self._place(text) for text in places or []]
        if not places or None in found:
            raise CoreError(
                "dataset.missing_split",
                f"{self._path.name} names no images for the split {role!r}"
                if not places
                else f"there is no {places[found.index(None)][:80]} for the split {role!r}",
                hint=f"{self._path.name} has {', '.join(self._data.splits) or 'no splits'}",
                field=f"dataset.splits.{role}",
                value=split,
            )
        images = [image for place in found if place is not None for image in self._images(place)]
        labels = BoxLabels(self._path, split, "", dict(enumerate(self._data.names)))
        problems: dict[str, list[tuple[str, str]]] = defaultdict(list)
        taken: set[str] = set()
        digest = hashlib.sha256()
        for path in images:
            name = self.relative(path)
            check_name(name)
            if name in taken:
                labels.twice.append(name)
                continue
            taken.add(name)
            if is_file(path):
                check_inside(path, self._roots, name)
            height, width = image_size(path) or (0, 0)
            image = ListedImage(len(labels.images), name, height, width)
            labels.images[image.id] = image
            if role != "unlabelled":
                digest.update(self._read_label(path, image, labels, problems))
        if role != "unlabelled":
            alone = self._alone(images)
            problems["dataset.label_without_image"] += [(self.relative(path), "") for path in alone]
        labels.digest = digest.hexdigest()
        labels.notes = notes_of(problems, role)
        return labels

    def _read_label(
        self, path: Path, image: ListedImage, labels: BoxLabels, problems: dict[str, list[tuple[str, str]]]
    ) -> bytes:
        """Adds the boxes of an image; the bytes of its label file."""
        file = self._label(path)
        name = self.relative(file)
        if not is_file(file):
            if image.height:
                problems["dataset.missing_label_file"].append((image.file_name, ""))
            return b"-"
        check_inside(file, self._roots, name)
        content = file.read_bytes()
        if not image.height:  # without a size there is no place for its boxes; the image itself is a finding
            return content
        seen: set[Line] = set()
        for number, text in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
            if not text.strip():
                continue
            line = read_line(text)
            if isinstance(line, str):
                problems[line].append((name, f"line {number}: {ascii(text.strip())[1:-1][:40]}"))
            elif line.category not in labels.categories:
                problems["dataset.class_out_of_range"].append((name, str(line.category)[:20]))
            elif line in seen:
                problems["dataset.duplicate_boxes"].append((name, ""))
            else:
                seen.add(line)
                x1, y1, x2, y2 = line.box
                scaled = (x1 * image.width, y1 * image.height, x2 * image.width, y2 * image.height)
                labels.add(image, scaled, line.category)
        return content

    def _label(self, image: Path) -> Path:
        """The label file of an image: the last folder `images` of its path becomes `labels`."""
        parts = list(PurePosixPath(self.relative(image)).parts)
        folders = parts[:-1]
        if "images" in folders:
            parts[len(folders) - 1 - folders[::-1].index("images")] = "labels"
        return self.root.joinpath(*parts).with_suffix(".txt")

    def _alone(self, images: list[Path]) -> list[Path]:
        """Label files whose image is gone, in the label folders of a split that is a whole folder of images."""
        mine = {self._label(image) for image in images}
        others = {
            self._label(path)
            for folder in {image.parent for image in images}
            if folder.is_dir()
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES
        }
        folders = {label.parent for label in mine} - {image.parent for image in images}
        found = {path for folder in folders if folder.is_dir() for path in folder.glob("*.txt")}
        return sorted(path for path in found - mine - others if path.name != "classes.txt")
