"""A small VOC2012 below a VOCdevkit: palette masks with the border of 255, and XML boxes counted from 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.acamkd_core.datasets.factories import save

FRAMES = {"train": ("2007_000032", "2007_000039", "2007_000063"), "val": ("2007_000033", "2007_000042")}
# Name, id in the challenge's list, colour it is painted with; first pixel and size (x, y, width, height), from 0.
OBJECTS = (("aeroplane", 1, (250, 20, 20), (4, 6, 12, 10)), ("person", 15, (20, 250, 20), (30, 9, 8, 20)))

HEAD = (
    "<annotation><folder>VOC2012</folder><filename>{name}.jpg</filename>"
    "<size><width>{width}</width><height>{height}</height><depth>3</depth></size><segmented>1</segmented>"
)
OBJECT = (
    "<object><name>{name}</name><pose>Left</pose><truncated>0</truncated><difficult>{difficult}</difficult>"
    "<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>"
    "<part><name>head</name><bndbox><xmin>31</xmin><ymin>10</ymin><xmax>34</xmax><ymax>13</ymax></bndbox></part></object>"
)


def write_voc(root: Path, size: tuple[int, int] = (40, 60)) -> Path:
    """The VOC2012 folder: three training and two validation images with two objects each, the second one difficult in
    the first image; lists of a test split whose labels are withheld."""
    home = root / "VOCdevkit" / "VOC2012"
    for number, name in enumerate((*FRAMES["train"], *FRAMES["val"])):
        pixels = np.random.default_rng(number).integers(90, 150, (*size, 3), dtype=np.uint8)
        ids, entries = np.zeros(size, dtype=np.uint8), []
        for index, (title, value, color, (x, y, width, height)) in enumerate(OBJECTS):
            pixels[y : y + height, x : x + width] = color
            ids[y - 1 : y + height + 1, x - 1 : x + width + 1] = 255  # the border that the challenge leaves out
            ids[y : y + height, x : x + width] = value
            hard = int(number == 0 and index == 1)
            entries.append(OBJECT.format(name=title, difficult=hard, x1=x + 1, y1=y + 1, x2=x + width, y2=y + height))
        # Without loss, so that boxes can be held against pixels; what a file is, is told by its content.
        save(home / "JPEGImages" / f"{name}.png", pixels)
        (home / "JPEGImages" / f"{name}.png").rename(home / "JPEGImages" / f"{name}.jpg")
        write_mask(home / "SegmentationClass" / f"{name}.png", ids)
        text = HEAD.format(name=name, width=size[1], height=size[0]) + "".join(entries) + "</annotation>\n"
        (home / "Annotations").mkdir(exist_ok=True)
        (home / "Annotations" / f"{name}.xml").write_text(text)
    for kind in ("Segmentation", "Main"):
        (home / "ImageSets" / kind).mkdir(parents=True)
        for split, names in {**FRAMES, "test": ("2008_000006",)}.items():
            (home / "ImageSets" / kind / f"{split}.txt").write_text("\n".join(names) + "\n")
    return home


def write_mask(path: Path, ids: np.ndarray) -> None:
    """Ids as a palette image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.frombytes("P", (ids.shape[1], ids.shape[0]), ids.tobytes())
    picture.putpalette([component for index in range(256) for component in (index, 255 - index, 7)])
    picture.save(path)
