"""The two kinds of files of a YOLO dataset: `data.yaml` with names and splits, and one text file of boxes an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from acamkd_core.spec.errors import CoreError

MAX_BYTES = 500_000  # of data.yaml
SLACK = 0.01  # of the image: rounding of the tools that write labels; more is a mistake


@dataclass(frozen=True)
class YoloData:
    """A checked `data.yaml`. splits: what its keys (`train`, `val`, `test` and others) name; `base`: its `path`."""

    names: list[str]
    base: str | None
    splits: dict[str, list[str]]


@dataclass(frozen=True)
class Line:
    """One object: class, and x1 y1 x2 y2 as fractions of the image."""

    category: int
    box: tuple[float, float, float, float]


def read_data(path: Path) -> YoloData:
    """Read a `data.yaml`.

    Raises:
        CoreError: `dataset.classes_invalid`, naming the file and what is wrong.
    """
    try:
        content = path.read_bytes()
        if len(content) > MAX_BYTES:
            raise _invalid(path, f"has {len(content)} bytes: that is no data.yaml")
        text = content.decode("utf-8-sig")
        # Aliases let a small file unfold to gigabytes (merge keys of merge keys); no data.yaml needs them.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise _invalid(path, "uses YAML aliases")
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise _invalid(path, f"cannot be read as YAML: {str(error)[:200]}") from None
    if not isinstance(data, dict):
        raise _invalid(path, "is no mapping")
    splits = {str(key): _places(value) for key, value in data.items() if key not in ("names", "nc", "path")}
    base = data.get("path")
    return YoloData(
        names=_names(path, data),
        base=base if isinstance(base, str) and base else None,
        splits={key: places for key, places in splits.items() if places},
    )


def read_line(text: str) -> Line | str:
    """One line of a label file: `class cx cy w h`, or `class` and an outline (x y, three times or more), whose box is
    taken. What is wrong with it otherwise."""
    try:
        values = [float(word) for word in text.split()]
    except ValueError:
        return "dataset.label_line"
    if len(values) < 5 or not values[0].is_integer() or (len(values) > 5 and (len(values) < 7 or len(values) % 2 == 0)):
        return "dataset.label_line"
    category, numbers = int(values[0]), values[1:]
    if not all(-SLACK <= value <= 1 + SLACK for value in numbers):  # NaN is none of it either
        return "dataset.not_normalised"
    if len(numbers) > 4:
        return Line(category, (min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])))
    x, y, width, height = numbers
    return Line(category, (x - width / 2, y - height / 2, x + width / 2, y + height / 2))


def _places(value: Any) -> list[str]:
    entries = value if isinstance(value, list) else [value]
    return [entry for entry in entries if isinstance(entry, str) and entry]


def _names(path: Path, data: dict[Any, Any]) -> list[str]:
    names = data.get("names")
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise _invalid(path, "needs names for the ids 0 to K-1, without gaps")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not 1 <= len(names) <= 10_000:
        raise _invalid(path, "needs `names`: a list, or a mapping of ids to names")
    for name in names:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            # YAML reads a bare `on`, `no` or `7` as something else than text.
            raise _invalid(path, f"has a name that is no text of one line: {ascii(name)[:80]}", value=ascii(name)[:80])
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise _invalid(path, f"uses the name {twice[0]!r} twice", value=twice[0])
    if data.get("nc") is not None and data["nc"] != len(names):
        raise _invalid(path, f"says nc: {str(data['nc'])[:20]}, and has {len(names)} names", value=str(data["nc"])[:20])
    return names


def _invalid(path: Path, message: str, value: Any = None) -> CoreError:
    return CoreError(
        "dataset.classes_invalid",
        f"{path.name} {message}",
        hint="example: {train: images/train, val: images/val, names: {0: car, 1: bus}}; quote names such as 'no' or '7'",
        field="dataset.root",
        value=value,
    )
