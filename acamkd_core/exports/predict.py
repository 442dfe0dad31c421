# Copyright the acamkd authors. SPDX-License-Identifier: Apache-2.0
"""Segment an image with an exported model: `python predict.py image.jpg [-o overlay.png] [--mask ids.png]`.

Needs onnxruntime, Pillow and NumPy, nothing else. Preprocessing, class names and colours come from the ONNX file
(metadata entry `acamkd`). This file stands alone: the same text is shipped beside every exported model and is what
the verification gate runs, so what was verified is what you run.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

METADATA_KEY = "acamkd"
FORMAT_VERSION = 1
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


class ModelFileError(ValueError):
    """The model file, or the image, cannot be used. The message says what is wrong."""


@dataclass(frozen=True)
class Contract:
    """What the file says about its input and its classes; `size` is (height, width)."""

    size: tuple[int, int]
    channel_order: str
    value_range: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]


def parse_contract(text: str) -> Contract:
    """The metadata entry as a `Contract`. Raises ModelFileError naming what is missing or impossible."""
    try:
        data = json.loads(text)
        if data["format_version"] != FORMAT_VERSION:
            raise ModelFileError(
                f"the file has metadata version {data['format_version']}, this reader {FORMAT_VERSION}"
            )
        given = data["input"]
        contract = Contract(
            size=(int(given["size"][0]), int(given["size"][1])),
            channel_order=str(given["channel_order"]),
            value_range=float(given["range"]),
            mean=tuple(float(value) for value in given["mean"]),
            std=tuple(float(value) for value in given["std"]),
            resize=str(given["resize"]),
            classes=tuple(str(entry["name"]) for entry in data["classes"]),
            colors=tuple((int(r), int(g), int(b)) for r, g, b in (entry["color"] for entry in data["classes"])),
        )
    except ModelFileError:
        raise
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ModelFileError(f"the file's `{METADATA_KEY}` metadata is damaged: {error!r}") from None
    if contract.channel_order not in ("rgb", "bgr"):
        raise ModelFileError(f"unknown channel order {contract.channel_order!r}")
    if contract.resize not in FILTERS:
        raise ModelFileError(f"unknown resize filter {contract.resize!r}")
    if len(contract.mean) != 3 or len(contract.std) != 3 or not all(value > 0 for value in contract.std):
        raise ModelFileError("mean and deviation need three values each, deviations above 0")
    if any(not 0 <= value <= 255 for color in contract.colors for value in color):
        raise ModelFileError("class colours need values from 0 to 255")
    if not contract.classes or len(set(contract.classes)) != len(contract.classes):
        raise ModelFileError("class names are missing or not unique")
    return contract


def read_image(path: Path, *, upright: bool = False) -> np.ndarray:
    """An image file as HxWx3 uint8 RGB.

    Args:
        path: any file that Pillow reads.
        upright: turn by the camera's orientation tag. Datasets do not: masks fit the pixels as they are stored.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode[0] in "IF":
                raise ModelFileError(f"{path} has more than 8 bits a channel ({picture.mode}); convert it first")
            return np.asarray((ImageOps.exif_transpose(picture) if upright else picture).convert("RGB"))
    except ModelFileError:
        raise
    except FileNotFoundError:
        raise ModelFileError(f"there is no file {path}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ModelFileError(f"{path} is no readable image: {error}") from None


class Segmenter:
    """An exported model, loaded: image in, class ids out.

    Args:
        path: the ONNX file.
        threads: CPU threads; 0 lets onnxruntime choose.

    Raises:
        ModelFileError: no such file, no ONNX, or metadata that is missing or does not fit the graph.
    """

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        import onnxruntime

        if not path.is_file():
            raise ModelFileError(f"there is no model file {path}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no base class
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelFileError(f"{path.name} is no loadable ONNX file: {first_line}") from None
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if text is None:
            raise ModelFileError(f"{path.name} carries no `{METADATA_KEY}` metadata; it was not exported by acamkd")
        self.contract = parse_contract(text)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or tuple(inputs[0].shape[1:]) != (3, *self.contract.size):
            shapes = ", ".join(str(given.shape) for given in inputs)
            raise ModelFileError(f"the graph eats {shapes}, its metadata says 3 x {self.contract.size}")
        if len(outputs) != 1 or outputs[0].shape[1] != len(self.contract.classes):
            shapes = ", ".join(str(given.shape) for given in outputs)
            raise ModelFileError(f"the graph returns {shapes}, its metadata names {len(self.contract.classes)} classes")
        self._input_name = inputs[0].name

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """HxWx3 uint8 RGB to what the network eats: 1x3xhxw float32 at the file's size."""
        contract = self.contract
        height, width = contract.size
        if image.shape[:2] != (height, width):
            image = np.asarray(Image.fromarray(image).resize((width, height), FILTERS[contract.resize]))
        pixels = image.astype(np.float32).transpose(2, 0, 1) / np.float32(255)
        if contract.channel_order == "bgr":
            pixels = pixels[::-1]
        mean = np.asarray(contract.mean, dtype=np.float32)[:, None, None]
        std = np.asarray(contract.std, dtype=np.float32)[:, None, None]
        return np.ascontiguousarray((pixels * np.float32(contract.value_range) - mean) / std)[None]

    def logits(self, image: np.ndarray) -> np.ndarray:
        """Class scores, K x h x w float32, at the file's size."""
        scores: np.ndarray = self._session.run(None, {self._input_name: self.preprocess(image)})[0][0]
        return scores

    def ids(self, image: np.ndarray) -> np.ndarray:
        """Class ids, h x w uint8, at the file's size."""
        found: np.ndarray = self.logits(image).argmax(axis=0).astype(np.uint8)
        return found


def overlay(image: np.ndarray, ids: np.ndarray, colors: tuple[tuple[int, int, int], ...]) -> Image.Image:
    """The image with the classes' colours laid over it, half transparent. `ids` at the image's size."""
    palette = np.asarray(colors, dtype=np.float32)
    return Image.fromarray((0.5 * image + 0.5 * palette[ids] + 0.5).astype(np.uint8))


def id_mask(ids: np.ndarray, colors: tuple[tuple[int, int, int], ...]) -> Image.Image:
    """Ids as a palette image: the pixel values are the ids, viewers show the colours."""
    mask = Image.fromarray(ids)
    mask.putpalette([value for color in colors for value in color])
    return mask


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, or 2 when something cannot be read or written."""
    parser = argparse.ArgumentParser(description="Segment an image with the model beside this file.")
    parser.add_argument("image", type=Path, help="image file that Pillow can read")
    parser.add_argument("-o", "--output", type=Path, help="overlay to write (default: <image>_overlay.png)")
    parser.add_argument("--mask", type=Path, help="also write the class ids, as a palette PNG")
    parser.add_argument("--model", type=Path, default=Path(__file__).resolve().parent / "model.onnx")
    options: Any = parser.parse_args(arguments)
    try:
        segmenter = Segmenter(options.model)
        image = read_image(options.image, upright=True)
        ids = segmenter.ids(image)
        full = np.asarray(Image.fromarray(ids).resize(image.shape[1::-1], Image.Resampling.NEAREST))
        output = options.output or options.image.with_name(options.image.stem + "_overlay.png")
        overlay(image, full, segmenter.contract.colors).save(output)
        if options.mask:
            id_mask(full, segmenter.contract.colors).save(options.mask)
    except (ModelFileError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    shares = np.bincount(ids.ravel(), minlength=len(segmenter.contract.classes)) / ids.size * 100
    for index in np.argsort(-shares, kind="stable"):
        print(f"{segmenter.contract.classes[index]:<24}{shares[index]:6.2f} %")
    print(f"overlay: {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
