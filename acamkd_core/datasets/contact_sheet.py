"""A picture of a dataset: images with their class colours, and the legend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from acamkd_core.datasets.base import Boxes, ClassInfo, Dataset, Item
from acamkd_core.spec.errors import CoreError

_GAP, _LEGEND = 6, 22
_BACKGROUND = (250, 250, 250)


def contact_sheet(dataset: Dataset, path: Path, *, images: int = 12, split: str = "train", cell: int = 240) -> Path:
    """Write a PNG with evenly spread images of a split: left the image, right its labels over it.

    Files that cannot be decoded appear as a crossed-out cell: a broken dataset still gets its sheet.

    Args:
        dataset: an opened dataset.
        path: the PNG to write.
        images: number of images.
        split: role of the split.
        cell: width of one picture in pixels.
    """
    items = dataset.items(split)
    spread = np.linspace(0, len(items) - 1, min(images, len(items))).round().astype(int)
    pairs = [_pair(dataset, items[index], cell) for index in spread]
    columns = 3 if len(pairs) > 2 else max(1, len(pairs))
    rows = -(-len(pairs) // columns)
    height = max((pair.height for pair in pairs), default=cell)
    width = 2 * cell
    # Names of classes stand on classified images; there may be a thousand.
    named = dataset.task == "classification"
    legend_rows = [] if named else _legend_rows(dataset, columns * (width + _GAP) - _GAP)
    sheet = Image.new(
        "RGB",
        (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP + len(legend_rows) * _LEGEND),
        _BACKGROUND,
    )
    for number, pair in enumerate(pairs):
        row, column = divmod(number, columns)
        sheet.paste(pair, (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)))
    draw = ImageDraw.Draw(sheet)
    for number, entries in enumerate(legend_rows):
        y = rows * (height + _GAP) + _GAP + number * _LEGEND
        for x, name, color in entries:
            draw.rectangle((x, y + 3, x + 14, y + 15), fill=color)
            draw.text((x + 19, y + 3), name, fill=(30, 30, 30))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def _pair(dataset: Dataset, item: Item, cell: int) -> Image.Image:
    try:
        sample = dataset.load(item)
    except CoreError:
        pair = Image.new("RGB", (2 * cell, cell * 3 // 4), (230, 230, 230))
        ImageDraw.Draw(pair).line((0, 0, *pair.size), fill=(200, 60, 40), width=3)
        return pair
    size = (cell, max(1, round(cell * sample.image.shape[0] / sample.image.shape[1])))
    pair = Image.new("RGB", (2 * cell, size[1]), _BACKGROUND)
    image = Image.fromarray(sample.image)
    pair.paste(image.resize(size, Image.Resampling.BILINEAR), (0, 0))
    if isinstance(sample.target, np.integer):
        pair.paste(_with_class(image, dataset.classes[int(sample.target)], size), (cell, 0))
    elif isinstance(sample.target, Boxes):
        pair.paste(_with_boxes(image, sample.target, dataset, size), (cell, 0))
    elif sample.target is not None:
        colors = np.full((256, 3), 32, dtype=np.uint8)
        colors[: len(dataset.classes)] = [c.color for c in dataset.classes]
        if dataset.ignore_id is not None:
            colors[dataset.ignore_id] = 32
        over = Image.blend(image, Image.fromarray(colors[sample.target]), 0.65)
        pair.paste(over.resize(size, Image.Resampling.NEAREST), (cell, 0))
    return pair


def _with_class(image: Image.Image, info: ClassInfo, size: tuple[int, int]) -> Image.Image:
    """The image at `size` (width, height) under its class's name."""
    picture = image.resize(size, Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 0, size[0], _LEGEND), fill=_BACKGROUND)
    pen.rectangle((4, 4, 18, 16), fill=info.color)
    pen.text((23, 4), info.name, fill=(30, 30, 30))
    return picture


def _with_boxes(image: Image.Image, target: Boxes, dataset: Dataset, size: tuple[int, int]) -> Image.Image:
    """The image at `size` (width, height) with its boxes; crowds are crossed out, as they are not trained on."""
    picture = image.resize(size, Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(picture)
    factor = size[0] / image.width, size[1] / image.height
    for box, label, crowd in zip(target.boxes.tolist(), target.labels.tolist(), target.crowd.tolist(), strict=True):
        x1, y1, x2, y2 = (value * factor[index % 2] for index, value in enumerate(box))
        color = dataset.classes[label].color
        pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=color, width=2)
        if crowd:
            pen.line((x1, y1, x2, y2), fill=color)
    return picture


def _legend_rows(dataset: Dataset, width: int) -> list[list[tuple[int, str, tuple[int, int, int]]]]:
    rows: list[list[tuple[int, str, tuple[int, int, int]]]] = [[]]
    x = _GAP
    for info in dataset.classes:
        wide = 34 + 7 * len(info.name)
        if x + wide > width and rows[-1]:
            rows.append([])
            x = _GAP
        rows[-1].append((x, info.name, info.color))
        x += wide
    return rows
