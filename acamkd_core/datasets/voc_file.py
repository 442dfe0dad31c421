"""The files of a Pascal VOC folder: lists of image names, and one XML file of boxes an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from acamkd_core.spec.errors import CoreError

MAX_BYTES = 5_000_000  # of an annotation file
MAX_DEPTH = 40


class AnnotationError(Exception):
    """An annotation file that cannot be read, in words."""


@dataclass(frozen=True)
class VocObject:
    """One object; `box` is x1 y1 x2 y2 in pixels from 0, None where it has none or its numbers are none."""

    name: str
    box: tuple[float, float, float, float] | None
    difficult: bool


@dataclass(frozen=True)
class VocAnnotation:
    """The content of an annotation file; `size` is height and width, None where it states none."""

    size: tuple[int, int] | None
    objects: list[VocObject]


def read_list(path: Path) -> list[str]:
    """The image names of an `ImageSets` list.

    Raises:
        CoreError: `dataset.outside_root` for a name that leads out of the dataset's folder.
    """
    names = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    for name in names:
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise CoreError(
                "dataset.outside_root",
                f"{path.name} names an image outside of the dataset's folder",
                field="dataset.root",
                value=name[:200],
            )
    return [name for name in names if name]


def read_annotation(path: Path) -> VocAnnotation:
    """Read an annotation file. VOC counts pixels from 1 and includes the last one: x from xmin - 1 to xmax.

    Raises:
        AnnotationError: it is no XML, or declares a document type (which could make it unfold to gigabytes).
    """
    root = _parse(path)
    size = root.find("size")
    stated = (_number(size, "height"), _number(size, "width")) if size is not None else (None, None)
    objects = []
    for entry in root.findall("object"):  # direct children only: a `part` of a person is no object of its own
        box = entry.find("bndbox")
        edges = [_number(box, edge) for edge in ("xmin", "ymin", "xmax", "ymax")] if box is not None else [None]
        numbers = [edge for edge in edges if edge is not None]
        whole = len(numbers) == 4
        objects.append(
            VocObject(
                name=(entry.findtext("name") or "").strip(),
                box=(numbers[0] - 1, numbers[1] - 1, numbers[2], numbers[3]) if whole else None,
                difficult=(entry.findtext("difficult") or "").strip() == "1",
            )
        )
    height, width = stated
    # Some tools write a size of 0 x 0: nothing is stated then.
    known = height is not None and width is not None and 1 <= height < 1e6 and 1 <= width < 1e6
    return VocAnnotation((int(height), int(width)) if known and height and width else None, objects)


def _number(parent: Element | None, tag: str) -> float | None:
    text = parent.findtext(tag) if parent is not None else None
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _parse(path: Path) -> Element:
    """A document tree from expat itself: the standard library's reader would take entities."""
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise AnnotationError(f"more than {MAX_DEPTH} elements inside each other")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise AnnotationError("it declares a document type")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        content = path.read_bytes()
        if len(content) > MAX_BYTES:
            raise AnnotationError(f"{len(content)} bytes are too many")
        parser.Parse(content, True)
        return builder.close()
    except (OSError, expat.ExpatError, ValueError, LookupError) as error:
        raise AnnotationError(str(error)[:120]) from None
