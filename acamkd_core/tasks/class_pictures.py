"""Pictures of classified images for people: the image, and below it names with bars. Orange is wrong, blue beats the teacher."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from acamkd_core.tasks.pictures import BLUE, ORANGE

WIDTH = 192  # small images are magnified to this, so that names can be read
ROW = 16  # pixels a line of text
SHOWN = 3  # classes a picture names
_PAPER, _INK, _BAR = (250, 250, 250), (30, 30, 30), (205, 205, 205)
Color = tuple[int, int, int]


def magnified(image: np.ndarray) -> np.ndarray:
    """HxWx3 uint8 at least `WIDTH` wide: by a whole factor and without smoothing, so that its pixels stay what they are."""
    factor = max(1, -(-WIDTH // image.shape[1]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def captioned(image: np.ndarray, rows: Sequence[tuple[str, float | None, Color]]) -> np.ndarray:
    """The image over `SHOWN` lines: for each row (class, probability, colour of its mark) a bar as long as its probability.

    The result has the same size whatever the rows are.
    """
    height, width = image.shape[:2]
    canvas = Image.new("RGB", (width, height + SHOWN * ROW), _PAPER)
    canvas.paste(Image.fromarray(image), (0, 0))
    pen = ImageDraw.Draw(canvas)
    for index, (name, share, color) in enumerate(rows[:SHOWN]):
        top = height + index * ROW
        if share is not None:
            pen.rectangle((6, top + 1, 6 + round(share * (width - 7)), top + ROW - 2), fill=_BAR)
        pen.rectangle((0, top + 1, 3, top + ROW - 2), fill=color)
        number = "" if share is None else f"{100 * share:.0f} % "
        pen.text((8, top + 2), number + name, fill=_INK)
    return np.asarray(canvas)


def verdict(image: np.ndarray, truth: int, prediction: int, teacher: int | None) -> np.ndarray:
    """A faint image in a frame: orange where the prediction is wrong, blue where only the teacher is, grey where all is well."""
    grey = image.astype(np.float32).mean(axis=2, keepdims=True)
    faint = (0.5 * image + 0.3 * grey + 40).clip(0, 255).round().astype(np.uint8)
    color: Color = (150, 150, 150)
    if prediction != truth:
        color = _tuple(ORANGE)
    elif teacher is not None and teacher != truth:
        color = _tuple(BLUE)
    canvas = Image.fromarray(faint)
    ImageDraw.Draw(canvas).rectangle((0, 0, canvas.width - 1, canvas.height - 1), outline=color, width=6)
    return np.asarray(canvas)


def _tuple(color: np.ndarray) -> Color:
    return int(color[0]), int(color[1]), int(color[2])
