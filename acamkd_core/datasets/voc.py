"""Pascal VOC (Everingham et al. 2010) as it is unpacked: `JPEGImages`, `ImageSets`, and masks or boxes.

Masks are palette images of `SegmentationClass`: 0 is the background, 255 the border between objects, which is ignored.
Boxes are the XML files of `Annotations`. Objects marked `difficult` are crowds here: not trained on, and finding them is no
mistake, as in the challenge's own scoring. A `classes.json` in the folder replaces the 20 classes of the challenge.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from acamkd_core.datasets.base import ClassInfo, Item, Note
from acamkd_core.datasets.box_dataset import BoxDataset
from acamkd_core.datasets.box_labels import BoxLabels, ListedImage, notes_of
from acamkd_core.datasets.classes import ClassFile, read_classes
from acamkd_core.datasets.findings import refuse
from acamkd_core.datasets.mask_dataset import MaskDataset
from acamkd_core.datasets.masks import image_size
from acamkd_core.datasets.paths import IMAGE_SUFFIXES, check_inside, check_name, is_file
from acamkd_core.datasets.voc_file import AnnotationError, read_annotation, read_list
from acamkd_core.spec.datasets import VocDataset
from acamkd_core.spec.errors import CoreError

IMAGES = "JPEGImages"
MASKS = "SegmentationClass"
BACKGROUND = "background"
NAMES = (
    BACKGROUND, "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def palette_color(index: int) -> tuple[int, int, int]:
    """VOC's colour of an id: its bits, three at a time, become the channels' bits from the highest down."""
    channels = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            channels[channel] |= (index >> (3 * place + channel) & 1) << (7 - place)
    return channels[0], channels[1], channels[2]


def find_voc(root: Path) -> Path | None:
    """The folder with `JPEGImages`: `root` itself, or the only `VOC<year>` in it or in its `VOCdevkit`.

    Raises:
        CoreError: `dataset.several` where there is more than one year.
    """
    if (root / IMAGES).is_dir():
        return root
    years = [p for p in (*root.glob("VOC[0-9]*"), *root.glob("VOCdevkit/VOC[0-9]*")) if (p / IMAGES).is_dir()]
    if len(years) > 1:
        names = sorted(path.relative_to(root).as_posix() for path in years)
        raise CoreError(
            "dataset.several",
            f"{root.name} holds several VOC datasets: {', '.join(names)}",
            hint="name the folder of one",
            field="dataset.root",
        )
    return years[0] if years else None


class _Folder:
    """The parts that masks and boxes have in common: lists, images, classes."""

    def __init__(self, root: Path, roots: Sequence[Path], lists: str) -> None:
        self.root = root
        self.roots = tuple(roots)
        self.lists = root / "ImageSets" / lists
        for folder in (self.lists, root / IMAGES, root / MASKS, root / "Annotations"):
            check_inside(folder, roots, folder.name)

    def declared(self) -> ClassFile:
        path = self.root / "classes.json"
        if not path.is_file():
            classes = [ClassInfo(number, name, palette_color(number)) for number, name in enumerate(NAMES)]
            return ClassFile(None, classes, None)
        check_inside(path, self.roots, path.name)
        return read_classes(path)

    def list_of(self, split: str) -> Path:
        return self.lists / f"{split}.txt"

    def roles(self, spec: VocDataset, label: str) -> dict[str, str]:
        """Splits by role; `test` by itself only with labels: those of VOC2012 were never published."""
        named: dict[str, str] = spec.splits.model_dump(exclude_none=True)
        if "test" not in named and self.list_of("test").is_file():
            check_inside(self.list_of("test"), self.roots, "test.txt")
            if any(is_file(self.root / label.format(name)) for name in read_list(self.list_of("test"))):
                named["test"] = "test"
        return named

    def names(self, role: str, split: str) -> list[str]:
        path = self.list_of(split)
        shown = path.relative_to(self.root).as_posix()
        if not is_file(path) or ".." in path.relative_to(self.root).parts:
            present = sorted(p.stem for p in self.lists.glob("*.txt"))[:12] if self.lists.is_dir() else []
            raise CoreError(
                "dataset.missing_split",
                f"there is no {shown} for the split {role!r}",
                hint=f"{self.lists.name}/ has {', '.join(present) or 'no lists'}",
                field=f"dataset.splits.{role}",
                value=split,
            )
        check_inside(path, self.roots, shown)
        names = read_list(path)
        if not names:
            raise CoreError(
                "dataset.empty_split", f"{shown} lists no image", field=f"dataset.splits.{role}", value=split
            )
        return names

    def image(self, name: str) -> Path:
        """The file of a listed image: .jpg, or another kind of image where only that is there."""
        usual = self.root / IMAGES / f"{name}.jpg"
        if is_file(usual):
            return usual
        others = (usual.with_name(usual.name.removesuffix(".jpg") + suffix) for suffix in sorted(IMAGE_SUFFIXES))
        return next((path for path in others if is_file(path)), usual)


class VocMasks(MaskDataset):
    """An opened VOC folder with its masks: 21 classes with the background.

    Args:
        spec: splits (names of lists).
        root: resolved folder that holds JPEGImages.
        roots: folders that links may lead to; empty: anywhere.
        strict: refuse missing images and masks. Inspection opens with False and reports them.
    """

    format = "voc"

    classes_from: ClassVar[str] = "VOC's list, or classes.json,"

    def __init__(self, spec: VocDataset, root: Path, *, roots: Sequence[Path] = (), strict: bool = True) -> None:
        self._folder = _Folder(root, roots, "Segmentation")
        declared = self._folder.declared()
        ignore = declared.ignore_id if declared.ignore_id is not None else 255
        super().__init__(root, name=root.name, roots=roots, classes=declared.classes, mask_ignore_id=ignore)
        named = self._folder.roles(spec, f"{MASKS}/{{}}.png")
        self._found({role: self._list(role, split, strict) for role, split in named.items()})

    def _list(self, role: str, split: str, strict: bool) -> list[Item]:
        names = self._folder.names(role, split)
        pairs = {name: (self._folder.image(name), self.root / MASKS / f"{name}.png") for name in names}
        missing = [self.relative(image) for image, _ in pairs.values() if not is_file(image)]
        twice = sorted(name for name, times in Counter(names).items() if times > 1)
        notes = [
            Note("dataset.missing_image", role, len(missing), missing, ""),
            Note("dataset.image_twice", role, len(twice), twice, ""),
        ]
        for note in (note for note in notes if note.found):
            self.notes.append(note)
            if strict:
                refuse(note, f"{split}.txt")
        there = [(image, mask) for image, mask in sorted(pairs.values()) if is_file(image)]
        return self._pair(role, there, strict, f"masks are {MASKS}/<same name>.png")


class VocBoxes(BoxDataset):
    """An opened VOC folder with its boxes: 20 classes.

    Args:
        spec: splits (names of lists), what to do with difficult objects.
        root: resolved folder that holds JPEGImages.
        roots: folders that links may lead to; empty: anywhere.
        strict: refuse missing files and broken annotations. Inspection opens with False and reports them.
    """

    format = "voc"

    def __init__(self, spec: VocDataset, root: Path, *, roots: Sequence[Path] = (), strict: bool = True) -> None:
        super().__init__(root, name=root.name, roots=roots)
        self._folder = _Folder(root, roots, "Main")
        self._keep_difficult = spec.difficult == "keep"
        self._known = [info for info in self._folder.declared().classes if info.name != BACKGROUND]
        named = self._folder.roles(spec, "Annotations/{}.xml")
        files = {role: self._read(role, split) for role, split in named.items()}
        self._found(files, dict.fromkeys(files, root), strict=strict)

    def _colors(self) -> dict[str, tuple[int, int, int]]:
        return {info.name: info.color for info in self._known}

    def _read(self, role: str, split: str) -> BoxLabels:
        categories = {info.id: info.name for info in self._known}
        labels = BoxLabels(self._folder.list_of(split), split, "", categories)
        problems: dict[str, list[tuple[str, str]]] = defaultdict(list)
        digest, taken = hashlib.sha256(), set[str]()
        for name in self._folder.names(role, split):
            check_name(name)
            if name in taken:
                labels.twice.append(name)
                continue
            taken.add(name)
            digest.update(self._read_one(role, name, labels, problems))
        labels.digest = digest.hexdigest()
        labels.notes = notes_of(problems, role)
        return labels

    def _read_one(self, role: str, name: str, labels: BoxLabels, problems: dict[str, list[tuple[str, str]]]) -> bytes:
        """Adds an image with its objects; the bytes of its annotation file."""
        path, file = self._folder.image(name), self.root / "Annotations" / f"{name}.xml"
        shown, size, objects, content = self.relative(file), None, [], b""
        if role != "unlabelled" and not is_file(file):
            problems["dataset.missing_annotation"].append((shown, ""))
        elif role != "unlabelled":
            check_inside(file, self._roots, shown)
            content = file.read_bytes()
            try:
                found = read_annotation(file)
                size, objects = found.size, found.objects
            except AnnotationError as error:
                problems["dataset.annotation_unreadable"].append((shown, str(error)))
        height, width = size or image_size(path) or (0, 0)
        image = ListedImage(len(labels.images), self.relative(path), height, width)
        labels.images[image.id] = image
        numbers = {title: number for number, title in labels.categories.items()}
        for one in objects:
            if one.name not in numbers:
                problems["dataset.unknown_name"].append((shown, ascii(one.name)[1:-1][:40] or "no name"))
            elif one.box is None:
                labels.bad.append(image.id)
            else:
                labels.add(image, one.box, numbers[one.name], crowd=one.difficult and not self._keep_difficult)
        return name.encode() + content
