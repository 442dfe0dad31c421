"""Pictures for people: class overlays, errors, and mask heat maps. NumPy and Pillow only.

Colour rules: masks are cividis on a fixed scale from 0 to 1, so that a collapsed mask looks flat; differences are
blue and orange around grey; classes have the dataset's palette.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

BLUE = np.array((0, 114, 178), dtype=np.float32)
ORANGE = np.array((230, 126, 0), dtype=np.float32)
IGNORED = np.array((32, 32, 32), dtype=np.float32)

# Cividis (Nunez, Anderton and Renslow, PLOS ONE 2018) at ten equal steps; the table interpolates linearly, which
# stays within a few levels of the published one.
_CIVIDIS_ANCHORS = ("00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369", "e1cc55", "fee838")


def _table(anchors: Sequence[str]) -> np.ndarray:
    colors = np.array([[int(text[i : i + 2], 16) for i in (0, 2, 4)] for text in anchors], dtype=np.float64)
    at = np.linspace(0, 1, len(anchors))
    channels = [np.interp(np.linspace(0, 1, 256), at, colors[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


CIVIDIS = _table(_CIVIDIS_ANCHORS)  # 256x3 uint8


def heat(values: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
    """A mask (HxW, values 0..1) as HxWx3 uint8 in cividis on the fixed scale 0..1.

    Values outside are clipped, NaN is shown in orange. `size` (height, width) magnifies without smoothing: a mask
    lives on the feature grid, and its cells should be seen.
    """
    finite = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0, posinf=1.0, neginf=0.0)
    picture = CIVIDIS[(np.clip(finite, 0, 1) * 255).round().astype(np.uint8)]
    picture[np.isnan(values)] = ORANGE.astype(np.uint8)
    return picture if size is None else resize_nearest(picture, size)


def resize_nearest(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An HxW or HxWx3 uint8 array at `size` (height, width), nearest neighbour."""
    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.NEAREST))


def overlay(
    image: np.ndarray, ids: np.ndarray, palette: np.ndarray, ignore_id: int, opacity: float = 0.6
) -> np.ndarray:
    """Class colours over the image's grey values; ignored pixels are dark.

    Args:
        image: HxWx3 uint8.
        ids: HxW class ids.
        palette: Kx3 uint8, one colour a class.
        ignore_id: id of pixels without a class.
        opacity: share of the class colour.
    """
    colors = np.zeros((256, 3), dtype=np.float32)
    colors[: len(palette)] = palette
    colors[ignore_id] = IGNORED
    grey = image.astype(np.float32).mean(axis=2, keepdims=True)
    mixed = (1 - opacity) * grey + opacity * colors[np.asarray(ids, dtype=np.uint8)]
    result: np.ndarray = mixed.round().astype(np.uint8)
    return result


def errors(
    image: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    ignore_id: int,
    teacher: np.ndarray | None = None,
) -> np.ndarray:
    """Where the prediction is wrong, over a faint grey image.

    Orange: wrong. With a teacher: strong orange where the teacher is right, faint orange where both are wrong, and
    blue where the student is right and the teacher is wrong.
    """
    grey = image.astype(np.float32).mean(axis=2, keepdims=True) * 0.45 + 120
    picture = np.repeat(grey, 3, axis=2)
    scored = truth != ignore_id
    wrong = (prediction != truth) & scored
    picture[~scored] = IGNORED
    if teacher is None:
        picture[wrong] = ORANGE
        return picture.round().astype(np.uint8)
    teacher_wrong = (teacher != truth) & scored
    picture[wrong & teacher_wrong] = 0.55 * picture[wrong & teacher_wrong] + 0.45 * ORANGE
    picture[wrong & ~teacher_wrong] = ORANGE
    picture[~wrong & teacher_wrong] = BLUE
    return picture.round().astype(np.uint8)
