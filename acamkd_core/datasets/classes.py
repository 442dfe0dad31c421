"""`classes.json`: names, ids, colours and the ignore id of a dataset."""

from __future__ import annotations

import colorsys
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acamkd_core.datasets.base import ClassInfo
from acamkd_core.spec.errors import CoreError


@dataclass(frozen=True)
class ClassFile:
    """The content of a valid `classes.json`; `ignore_id` is None where the file names none."""

    name: str | None
    classes: list[ClassInfo]
    ignore_id: int | None


def automatic_color(index: int) -> tuple[int, int, int]:
    """A colour for a class without one: golden-ratio steps around the hue circle, so that neighbours differ."""
    hue = (0.61803398875 * index) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.65, 0.9 if index % 2 else 0.7)
    return round(red * 255), round(green * 255), round(blue * 255)


def read_classes(path: Path) -> ClassFile:
    """Read and check a `classes.json`.

    The file is an object with `classes` (and `ignore_index` or `ignore_id`, `name`), or the bare list. A class is a
    name, or an object with `name` and optionally `id` and `color`; ids default to the position.

    Raises:
        CoreError: `dataset.classes_invalid`, naming the file and the entry.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))  # editors on Windows begin a file with a mark
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise _invalid(path, f"cannot be read as JSON: {error}") from None
    entries = data.get("classes") if isinstance(data, dict) else data
    if not isinstance(entries, list) or not entries:
        raise _invalid(path, "needs a non-empty list `classes`")
    if len(entries) > 255:
        raise _invalid(path, f"names {len(entries)} classes; 8-bit masks hold at most 255", value=len(entries))
    classes = [_class(path, position, entry) for position, entry in enumerate(entries)]
    for what, values in (("id", [str(c.id) for c in classes]), ("name", [c.name for c in classes])):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise _invalid(path, f"uses the {what} {', '.join(twice)} twice", value=twice[0])
    ignore = _ignore(path, data) if isinstance(data, dict) else None
    if ignore is not None and ignore in {c.id for c in classes}:
        raise _invalid(path, f"ignore id {ignore} is also the id of a class", value=ignore)
    name = data.get("name") if isinstance(data, dict) else None
    return ClassFile(name if isinstance(name, str) else None, sorted(classes, key=lambda c: c.id), ignore)


def _class(path: Path, position: int, entry: Any) -> ClassInfo:
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"]:
        raise _invalid(path, f"class {position} has no name", value=str(entry)[:80])
    if not entry["name"].isprintable() or not entry["name"].strip():
        # It will be a line of labels.txt, a cell of the model card and the name of a metric.
        raise _invalid(path, f"class {position} needs a name of one printable line", value=ascii(entry["name"])[:80])
    number = entry.get("id", position)
    if not _is_byte(number):
        raise _invalid(path, f"class {entry['name']!r} needs an id from 0 to 255", value=str(number)[:80])
    color = entry.get("color", entry.get("colour"))
    if color is None:
        color = automatic_color(position)
    if not isinstance(color, (list, tuple)) or len(color) != 3 or not all(_is_byte(part) for part in color):
        raise _invalid(path, f"class {entry['name']!r} needs a colour of three numbers from 0 to 255")
    return ClassInfo(number, entry["name"], (color[0], color[1], color[2]))


def _ignore(path: Path, data: dict[str, Any]) -> int | None:
    value = data.get("ignore_index", data.get("ignore_id"))
    if value is not None and not _is_byte(value):
        raise _invalid(path, "ignore_index must be from 0 to 255", value=str(value)[:80])
    return value


def _is_byte(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _invalid(path: Path, message: str, value: Any = None) -> CoreError:
    return CoreError(
        "dataset.classes_invalid",
        f"{path.name} {message}",
        hint='example: {"classes": [{"id": 0, "name": "road", "color": [128, 64, 128]}], "ignore_index": 255}',
        field="dataset.root",
        value=value,
    )
