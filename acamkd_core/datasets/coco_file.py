"""One annotation file of COCO's format, read and checked entry by entry: it is foreign input."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from acamkd_core.datasets.box_labels import BoxLabels, ListedImage
from acamkd_core.spec.errors import CoreError

MAX_SIDE = 1_000_000  # pixels; a stated side of more is no side of an image


def read_coco(path: Path, split: str, *, labelled: bool = True) -> BoxLabels:
    """Read an annotation file.

    Args:
        path: the file.
        split: its name, for messages.
        labelled: it must have `annotations`; False takes images only: COCO publishes its unlabelled ones without that
            list.

    Raises:
        CoreError: `dataset.annotations_invalid`, naming the file and the entry.
    """
    try:
        content = path.read_bytes()
        data = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no JSON, no UTF-8, numbers of 5,000 digits
        raise _invalid(path, f"cannot be read as JSON: {error}") from None
    if not isinstance(data, dict):
        raise _invalid(path, "is no JSON object", value=ascii(data)[:80])
    if not labelled:
        data["annotations"] = []
    for key in ("images", "annotations", "categories"):
        if key not in data:
            raise _invalid(path, f"has no list `{key}`", value=", ".join(map(ascii, data))[:80])
        if not isinstance(data[key], list):
            raise _invalid(path, f"has `{key}` that is no list", value=ascii(data[key])[:80])
    file = BoxLabels(path, split, hashlib.sha256(content).hexdigest(), _categories(path, data["categories"]))
    names: set[str] = set()
    for entry in data["images"]:
        image = _image(path, entry)
        if image.id in file.images or image.file_name in names:
            file.twice.append(image.file_name)
            continue
        names.add(image.file_name)
        file.images[image.id] = image
    for entry in data["annotations"]:
        _add(path, file, entry)
    return file


def _categories(path: Path, entries: list[Any]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for entry in entries:
        number, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        if not isinstance(number, int) or isinstance(number, bool) or not isinstance(name, str) or not _is_text(name):
            raise _invalid(path, "has a category without an id or a name", value=ascii(entry)[:80])
        if number in categories or name in categories.values():
            raise _invalid(path, f"has the category {name!r} ({number}) twice", value=number)
        categories[number] = name
    if not 1 <= len(categories) <= 10_000:
        raise _invalid(path, f"names {len(categories)} categories", value=len(categories))
    return categories


def _image(path: Path, entry: Any) -> ListedImage:
    try:
        image = ListedImage(int(entry["id"]), str(entry["file_name"]), int(entry["height"]), int(entry["width"]))
    except (KeyError, TypeError, ValueError, OverflowError):  # OverflowError: Infinity, which Python's JSON reads
        raise _invalid(path, "has an image without id, file_name, height or width", value=ascii(entry)[:80]) from None
    if not _is_text(image.file_name) or not (1 <= image.height < MAX_SIDE and 1 <= image.width < MAX_SIDE):
        raise _invalid(path, f"has an impossible image {image.file_name!a:.80}", value=ascii(entry)[:80])
    return image


def _add(path: Path, file: BoxLabels, entry: Any) -> None:
    try:
        number, category = int(entry["image_id"]), int(entry["category_id"])
        crowd = bool(entry.get("iscrowd", 0))
        given = entry["bbox"]
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _invalid(
            path, "has an annotation without image_id, category_id or bbox", value=ascii(entry)[:80]
        ) from None
    image = file.images.get(number)
    if image is None:
        file.unknown_images.append(number)
        return
    if category not in file.categories:
        file.unknown_categories.append(category)
        return
    try:
        x, y, width, height = (float(value) for value in given)
        area = float(entry["area"]) if entry.get("area") is not None else width * height
    except (TypeError, ValueError, OverflowError):
        file.bad.append(number)
        return
    file.add(image, (x, y, x + width, y + height), category, crowd=crowd, area=area)


def _is_text(name: str) -> bool:
    """Whether a name can be shown and sent: JSON can hold halves of characters, which no encoding has."""
    return bool(name) and name == name.encode(errors="ignore").decode()


def _invalid(path: Path, message: str, value: Any = None) -> CoreError:
    return CoreError(
        "dataset.annotations_invalid",
        f"{path.name} {message}",
        hint='COCO\'s layout: {"images": [...], "annotations": [{"image_id": 1, "category_id": 1, "bbox": [x, y, w, h]}], '
        '"categories": [{"id": 1, "name": "car"}]}',
        field="dataset.root",
        value=value,
    )
