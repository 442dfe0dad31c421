"""Decoding of images and masks with Pillow: RGB pixels, raw ids, and the way from raw ids to network channels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from acamkd_core.datasets.base import ClassInfo
from acamkd_core.spec.errors import CoreError

MAX_PIXELS = 100_000_000  # a picture larger than this is a mistake or an attack
UNKNOWN_COLOR = 256  # raw id of an RGB mask pixel whose colour no class has
# Told by content, whatever a file is called. Pillow knows many more, some of which start other programs (EPS).
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")


def unreadable(path: Path, error: Exception | str) -> CoreError:
    """The error of a file that Pillow cannot decode."""
    return CoreError(
        "dataset.unreadable",
        f"{path.name} cannot be read: {error}",
        hint="replace or remove it; `acamkd datasets inspect` lists all such files",
        field="dataset",
        value=str(path),
    )


def read_image(path: Path) -> np.ndarray:
    """An image file as HxWx3 uint8 RGB; grey becomes three equal channels, an alpha channel is left out.

    Raises:
        CoreError: `dataset.unreadable`, or `dataset.image_mode` for more than 8 bits a channel: Pillow would cut all that
            is above 255 to white.
    """
    picture = _decode(path)
    if picture.mode[0] in "IF":
        raise CoreError(
            "dataset.image_mode",
            f"image {path.name} has mode {picture.mode}; 8 bits a channel are read",
            hint="convert it: which values become black and white is a decision about your data",
            field="dataset",
            value=str(path),
        )
    return np.asarray(picture.convert("RGB"))


def image_size(path: Path) -> tuple[int, int] | None:
    """Height and width from the header of an image file; None where there is no readable one."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            return picture.height, picture.width
    except Exception:  # see `_decode`
        return None


def is_turned(path: Path) -> bool:
    """Whether a readable image asks its viewers to turn or mirror it (EXIF orientation), which nothing here does.

    Read from the file's header; Pillow itself turns TIFFs.
    """
    with Image.open(path, formats=FORMATS) as picture:
        try:
            return "exif" in picture.info and picture.getexif().get(ExifTags.Base.Orientation, 1) != 1
        except Exception:  # damaged EXIF data turns no picture
            return False


def read_ids(path: Path, classes: list[ClassInfo], ignore_id: int) -> np.ndarray:
    """A mask file as HxW uint16 raw ids; `UNKNOWN_COLOR` where an RGB mask has a colour that no class has.

    Grey masks (L) hold ids, palette masks (P) hold ids as palette indexes, masks of one bit the ids 0 and 1, RGB masks
    hold the classes' colours
    (black and white mean `ignore_id` unless a class uses them).

    Raises:
        CoreError: `dataset.unreadable`, or `dataset.mask_mode` for 16-bit and other masks.
    """
    picture = _decode(path)
    if picture.mode in ("L", "P", "1"):
        return np.asarray(picture).astype(np.uint16)
    if picture.mode in ("RGB", "RGBA"):
        return _ids_from_colors(np.asarray(picture.convert("RGB")), classes, ignore_id)
    raise CoreError(
        "dataset.mask_mode",
        f"mask {path.name} has mode {picture.mode}; 8-bit ids (L), a palette (P) or class colours (RGB) are read",
        hint="save it as 8-bit PNG",
        field="dataset",
        value=str(path),
    )


def train_ids(classes: list[ClassInfo], ignore_id: int, also_ignored: Iterable[int] = ()) -> tuple[np.ndarray, int]:
    """The table from raw ids (0..256) to channels, and the ignore id that targets use.

    Ids 0..K-1 stay as they are. Others (gaps, or an ignore id below K) move to the class's position, and ignored
    pixels to 255. Entries of -1 are ids that no class has.
    """
    plain = [c.id for c in classes] == list(range(len(classes)))
    target_ignore = ignore_id if plain else 255
    table = np.full(257, -1, dtype=np.int16)
    table[[ignore_id, *also_ignored]] = target_ignore
    for position, info in enumerate(classes):
        table[info.id] = position
    return table, target_ignore


def _decode(path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise unreadable(path, f"{picture.width}x{picture.height} pixels are too many")
            picture.load()
            return picture.copy() if picture.mode == "P" else picture
    except (CoreError, MemoryError):
        raise
    except Exception as error:  # a damaged header leads Pillow's readers into nearly any error, TypeError among them
        raise unreadable(path, error) from None


def _ids_from_colors(rgb: np.ndarray, classes: list[ClassInfo], ignore_id: int) -> np.ndarray:
    packed = rgb.astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
    known = {0x000000: ignore_id, 0xFFFFFF: ignore_id}
    known |= {(c.color[0] << 16) | (c.color[1] << 8) | c.color[2]: c.id for c in classes}
    colors, inverse = np.unique(packed, return_inverse=True)
    ids = np.array([known.get(int(color), UNKNOWN_COLOR) for color in colors], dtype=np.uint16)
    return ids[inverse].reshape(packed.shape)
