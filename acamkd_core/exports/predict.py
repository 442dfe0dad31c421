# Copyright the acamkd authors. SPDX-License-Identifier: Apache-2.0
"""Run an exported model on an image: `python predict.py image.jpg [-o overlay.png]`.

Segmentation also takes `--mask ids.png` (class ids), detection `--json boxes.json` and `--threshold 0.5`, classification
`--json classes.json` and `--top 5` (and writes a picture only when asked for one).
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
from PIL import Image, ImageDraw, ImageOps

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
    """What the file says about its input, its classes and (detection) how to choose among candidates.

    `size` is (height, width). `aspect`: images keep their aspect ratio and are padded; then inputs have any size.
    `short_side`: images are resized to this short side, and `size` is cut out of the middle. `inside`: a second input, which
    is told height and width of the image inside the padded one.
    """

    size: tuple[int, int]
    channel_order: str
    value_range: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    task: str = "semantic_segmentation"
    selection: Selection | None = None
    aspect: Aspect | None = None
    short_side: int | None = None
    inside: str | None = None

    def fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of an image of `size` after resizing, without padding."""
        if self.aspect is None:
            return self.size
        factor = min(self.aspect.short / min(size), self.aspect.limit / max(size))
        return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


@dataclass(frozen=True)
class Aspect:
    """Resizing that keeps the aspect ratio.

    short: pixels of the shorter side. limit: most of the longer one. pad_to: sides are padded, at the right and the
    bottom, to multiples of it. color: of the padding.
    """

    short: int
    limit: int
    pad_to: int
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Selection:
    """Which candidates of a detector count.

    threshold: lowest probability. candidates: best (candidate, class) pairs of each level. iou: overlap from which a
    detection suppresses a weaker one of its class. limit: detections an image. levels: candidates of each level, or
    (stride, candidates a position) where inputs have any size.
    """

    threshold: float
    candidates: int
    iou: float
    limit: int
    levels: tuple[int | tuple[int, int], ...]

    def counts(self, size: tuple[int, int]) -> list[int]:
        """Candidates of each level for an input of (height, width)."""
        return [
            level if isinstance(level, int) else -(-size[0] // level[0]) * -(-size[1] // level[0]) * level[1]
            for level in self.levels
        ]


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
            task=str(data.get("task", "semantic_segmentation")),
            selection=_selection(data["selection"]) if data.get("task") == "detection" else None,
            aspect=_aspect(given["aspect"]) if given.get("aspect") is not None else None,
            short_side=int(given["short_side"]) if given.get("short_side") is not None else None,
            inside=str(given["inside"]) if given.get("inside") is not None else None,
        )
    except ModelFileError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelFileError(f"the file's `{METADATA_KEY}` metadata is damaged: {error!r}") from None
    if contract.channel_order not in ("rgb", "bgr"):
        raise ModelFileError(f"unknown channel order {contract.channel_order!r}")
    if contract.resize not in FILTERS:
        raise ModelFileError(f"unknown resize filter {contract.resize!r}")
    if len(contract.mean) != 3 or len(contract.std) != 3 or not all(value > 0 for value in contract.std):
        raise ModelFileError("mean and deviation need three values each, deviations above 0")
    aspect = contract.aspect
    if aspect is not None and not (1 <= aspect.short <= aspect.limit <= 1 << 16 and 1 <= aspect.pad_to <= 1 << 16):
        raise ModelFileError("the sizes to which images are resized are impossible")
    if contract.short_side is not None and not max(contract.size) <= contract.short_side <= 1 << 16:
        raise ModelFileError(f"{contract.size} cannot be cut out of images whose short side is {contract.short_side}")
    if any(not 0 <= value <= 255 for color in contract.colors for value in color):
        raise ModelFileError("class colours need values from 0 to 255")
    if not contract.classes or len(set(contract.classes)) != len(contract.classes):
        raise ModelFileError("class names are missing or not unique")
    return contract


def _selection(data: dict[str, Any]) -> Selection:
    return Selection(
        threshold=float(data["threshold"]),
        candidates=int(data["candidates"]),
        iou=float(data["iou"]),
        limit=int(data["limit"]),
        levels=tuple(
            (max(1, int(level["stride"])), int(level["each"])) if isinstance(level, dict) else int(level)
            for level in data["levels"]
        ),
    )


def _aspect(data: dict[str, Any]) -> Aspect:
    red, green, blue = data["pad_color"]
    return Aspect(int(data["short"]), int(data["max"]), int(data["pad_to"]), (int(red), int(green), int(blue)))


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


def open_file(path: Path, threads: int = 0) -> tuple[Any, Contract]:
    """(onnxruntime's session, what the file says). Raises ModelFileError."""
    import onnxruntime

    if not path.is_file():
        raise ModelFileError(f"there is no model file {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelFileError(f"{path.name} is no loadable ONNX file: {first_line}") from None
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ModelFileError(f"{path.name} carries no `{METADATA_KEY}` metadata; it was not exported by acamkd")
    return session, parse_contract(text)


class Model:
    """An exported model, loaded; `Segmenter`, `Detector` and `Classifier` say what its outputs mean.

    Args:
        path: the ONNX file.
        threads: CPU threads; 0 lets onnxruntime choose.
        opened: what `open_file` has returned for it.

    Raises:
        ModelFileError: no such file, no ONNX, or metadata that is missing or does not fit the graph.
    """

    task: str

    def __init__(self, path: Path, *, threads: int = 0, opened: tuple[Any, Contract] | None = None) -> None:
        self._session, self.contract = opened or open_file(path, threads)
        if self.contract.task != self.task:
            raise ModelFileError(f"{path.name} is made for {self.contract.task}, not for {self.task}")
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        named = [one.name for one in inputs[1:]] == ([self.contract.inside] if self.contract.inside is not None else [])
        eaten = tuple(inputs[0].shape[1:]) if inputs and named else ()
        free = len(eaten) == 3 and eaten[0] == 3 and not any(isinstance(side, int) for side in eaten[1:])
        if not free if self.contract.aspect is not None else eaten != (3, *self.contract.size):
            shapes = ", ".join(str(given.shape) for given in inputs)
            said = "any size" if self.contract.aspect is not None else str(self.contract.size)
            raise ModelFileError(f"the graph eats {shapes}, its metadata says 3 x {said}")
        problem = self._unfit([tuple(output.shape) for output in outputs])
        if problem is not None:
            raise ModelFileError(problem)
        self._input_name = inputs[0].name

    def _unfit(self, shapes: list[tuple[Any, ...]]) -> str | None:
        """Why outputs of these shapes cannot be what the metadata says; None when they can."""
        raise NotImplementedError

    def run(self, image: np.ndarray) -> list[np.ndarray]:
        """The graph's outputs for an HxWx3 uint8 RGB image, without the batch's dimension."""
        return self._outputs(image, self.preprocess(image))

    def _outputs(self, image: np.ndarray, fed: np.ndarray) -> list[np.ndarray]:
        """The same, with what `preprocess` made of the image."""
        inputs = {self._input_name: fed}
        if self.contract.inside is not None:
            inputs[self.contract.inside] = np.array([self.contract.fitted(image.shape[:2])], dtype=np.float32)
        return [found[0] for found in self._session.run(None, inputs)]

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """HxWx3 uint8 RGB to what the network eats: 1x3xhxw float32, resized (and padded) as the file says."""
        contract = self.contract
        height, width = contract.fitted((image.shape[0], image.shape[1]))
        if contract.short_side is not None:
            image = middle(image, contract.size, contract.short_side, FILTERS[contract.resize])
        if image.shape[:2] != (height, width):
            image = np.asarray(Image.fromarray(image).resize((width, height), FILTERS[contract.resize]))
        if contract.aspect is not None:
            step = contract.aspect.pad_to
            padded = np.empty((-(-height // step) * step, -(-width // step) * step, 3), dtype=np.uint8)
            padded[:] = contract.aspect.color
            padded[:height, :width] = image
            image = padded
        pixels = image.astype(np.float32).transpose(2, 0, 1) / np.float32(255)
        if contract.channel_order == "bgr":
            pixels = pixels[::-1]
        mean = np.asarray(contract.mean, dtype=np.float32)[:, None, None]
        std = np.asarray(contract.std, dtype=np.float32)[:, None, None]
        return np.ascontiguousarray((pixels * np.float32(contract.value_range) - mean) / std)[None]


def middle(image: np.ndarray, size: tuple[int, int], short_side: int, filter: Image.Resampling) -> np.ndarray:
    """The middle (height, width) of an HxWx3 image after its short side was resized to `short_side`, as torchvision does."""
    shape = image.shape[:2]
    height, width = (int(short_side * side / min(shape)) if side > min(shape) else short_side for side in shape)
    if shape != (height, width):
        image = np.asarray(Image.fromarray(image).resize((width, height), filter))
    top, left = round((height - size[0]) / 2), round((width - size[1]) / 2)
    return image[top : top + size[0], left : left + size[1]]


class Segmenter(Model):
    """A segmentation model: image in, class ids out."""

    task = "semantic_segmentation"

    def _unfit(self, shapes: list[tuple[Any, ...]]) -> str | None:
        names = len(self.contract.classes)
        if len(shapes) != 1 or shapes[0][1] != names:
            return f"the graph returns {', '.join(map(str, shapes))}, its metadata names {names} classes"
        return None

    def logits(self, image: np.ndarray) -> np.ndarray:
        """Class scores, K x h x w float32, at the file's size."""
        return self.run(image)[0]

    def ids(self, image: np.ndarray) -> np.ndarray:
        """Class ids, h x w uint8, at the file's size."""
        found: np.ndarray = self.logits(image).argmax(axis=0).astype(np.uint8)
        return found


class Detector(Model):
    """A detection model: image in; boxes, scores and labels out."""

    task = "detection"

    def _unfit(self, shapes: list[tuple[Any, ...]]) -> str | None:
        assert self.contract.selection is not None
        names, told = len(self.contract.classes), ", ".join(map(str, shapes))
        if self.contract.aspect is not None:
            # How many candidates there are is known with each image only.
            if [shape[2:] for shape in shapes] not in ([(names,), (4,)], [(names,), (names, 4)]):
                return f"the graph returns {told}, its metadata says {names} classes"
            return None
        candidates = sum(self.contract.selection.counts(self.contract.size))
        scores = (candidates, names)
        if [shape[1:] for shape in shapes] not in ([scores, (candidates, 4)], [scores, (*scores, 4)]):
            return f"the graph returns {told}, its metadata says {candidates} candidates and {names} classes"
        return None

    def detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is in an HxWx3 uint8 RGB image, by falling score.

        Returns:
            boxes D x 4 float64 (x1 y1 x2 y2 in pixels of `image`), scores D float64, labels D int64.
        """
        rule = self.contract.selection
        assert rule is not None
        fed = self.preprocess(image)
        scores, boxes = self._outputs(image, fed)
        counts = rule.counts((fed.shape[2], fed.shape[3]))
        if len(scores) != sum(counts):
            raise ModelFileError(f"the graph returns {len(scores)} candidates, its metadata says {sum(counts)}")
        height, width = self.contract.fitted((image.shape[0], image.shape[1]))
        # What lies beyond is padding.
        boxes = np.clip(boxes, 0, np.array([width, height] * 2, dtype=boxes.dtype))
        boxes, kept, labels = select(scores, boxes, rule, counts)
        factors = np.array([image.shape[1] / width, image.shape[0] / height] * 2)
        return boxes.astype(np.float64) * factors, kept.astype(np.float64), labels


class Classifier(Model):
    """A classification model: image in, probabilities of the classes out."""

    task = "classification"

    def _unfit(self, shapes: list[tuple[Any, ...]]) -> str | None:
        names = len(self.contract.classes)
        if [shape[1:] for shape in shapes] != [(names,)]:
            return f"the graph returns {', '.join(map(str, shapes))}, its metadata names {names} classes"
        return None

    def scores(self, image: np.ndarray) -> np.ndarray:
        """Class scores of an HxWx3 uint8 RGB image, K float32."""
        return self.run(image)[0]

    def classify(self, image: np.ndarray, top: int = 5) -> list[tuple[str, float]]:
        """The `top` surest classes of an HxWx3 uint8 RGB image with their probabilities, by falling probability."""
        scores = self.scores(image).astype(np.float64)
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        return [(self.contract.classes[k], float(shares[k])) for k in np.argsort(-shares, kind="stable")[:top]]


def select(
    scores: np.ndarray, boxes: np.ndarray, rule: Selection, counts: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Detections among candidates: threshold, best of each level, suppression of doubles in each class.

    Args:
        scores: A x K probabilities.
        boxes: A x 4, or A x K x 4 where each class has its own.
        rule: limits.
        counts: candidates of each level; they sum to A.

    Returns:
        boxes D x 4, scores D, labels D int64, by falling score.
    """
    classes = scores.shape[1]
    flat = scores.reshape(-1)
    chosen, start = [], 0
    for count in counts:
        index = np.nonzero(flat[start * classes : (start + count) * classes] > rule.threshold)[0] + start * classes
        chosen.append(index[np.argsort(-flat[index], kind="stable")[: rule.candidates]])
        start += count
    index = np.concatenate(chosen)
    index = index[np.argsort(-flat[index], kind="stable")]
    found = boxes[index // classes] if boxes.ndim == 2 else boxes.reshape(-1, 4)[index]
    labels = index % classes
    keep = np.zeros(len(index), dtype=bool)
    for label in np.unique(labels):
        members = np.nonzero(labels == label)[0]
        keep[members[suppress(found[members], rule.iou, rule.limit)]] = True
    keep = np.nonzero(keep)[0][: rule.limit]
    return found[keep], flat[index[keep]], labels[keep].astype(np.int64)


def suppress(boxes: np.ndarray, iou: float, limit: int) -> np.ndarray:
    """Positions of boxes (by falling score) that no kept stronger one overlaps by more than `iou`; `limit` at most."""
    alive = np.ones(len(boxes), dtype=bool)
    kept: list[int] = []
    for index in range(len(boxes)):
        if alive[index]:
            kept.append(index)
            if len(kept) == limit:
                break
            alive &= ~(overlaps(boxes[index : index + 1], boxes)[0] > iou)
    return np.array(kept, dtype=np.int64)


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of each pair of boxes, N x M; NaN for two empty boxes."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    area = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    with np.errstate(invalid="ignore"):
        result: np.ndarray = shared / (area[0][:, None] + area[1][None, :] - shared)
    return result


def load(path: Path, *, threads: int = 0) -> Segmenter | Detector | Classifier:
    """The model in a file, whichever its task. Raises ModelFileError as `Model` does."""
    opened = open_file(path, threads)
    for kind in (Segmenter, Detector, Classifier):
        if kind.task == opened[1].task:
            return kind(path, opened=opened)
    raise ModelFileError(f"{path.name} is made for {opened[1].task}, which this reader does not know")


def overlay(image: np.ndarray, ids: np.ndarray, colors: tuple[tuple[int, int, int], ...]) -> Image.Image:
    """The image with the classes' colours laid over it, half transparent. `ids` at the image's size."""
    palette = np.asarray(colors, dtype=np.float32)
    return Image.fromarray((0.5 * image + 0.5 * palette[ids] + 0.5).astype(np.uint8))


def draw(
    image: np.ndarray, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, contract: Contract
) -> Image.Image:
    """The image with its boxes, each with its class and score."""
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    width = max(1, round(min(image.shape[:2]) / 200))
    for box, score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True):
        x1, y1, x2, y2 = box
        pen.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=contract.colors[label], width=width)
        pen.text((x1 + width + 1, y1 + width), f"{contract.classes[label]} {score:.2f}", fill=contract.colors[label])
    return picture


def id_mask(ids: np.ndarray, colors: tuple[tuple[int, int, int], ...]) -> Image.Image:
    """Ids as a palette image: the pixel values are the ids, viewers show the colours."""
    mask = Image.fromarray(ids)
    mask.putpalette([value for color in colors for value in color])
    return mask


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, or 2 when something cannot be read or written."""
    parser = argparse.ArgumentParser(description="Run the model beside this file on an image.")
    parser.add_argument("image", type=Path, help="image file that Pillow can read")
    parser.add_argument(
        "-o", "--output", type=Path, help="picture to write (default: <image>_overlay.png; classification: none)"
    )
    parser.add_argument("--mask", type=Path, help="segmentation: also write the class ids, as a palette PNG")
    parser.add_argument("--json", type=Path, help="detection: also write the boxes; classification: the classes")
    parser.add_argument("--threshold", type=float, default=0.3, help="detection: lowest score to show (default 0.3)")
    parser.add_argument("--top", type=int, default=5, help="classification: number of classes to show (default 5)")
    parser.add_argument("--model", type=Path, default=Path(__file__).resolve().parent / "model.onnx")
    options: Any = parser.parse_args(arguments)
    output = options.output or options.image.with_name(options.image.stem + "_overlay.png")
    try:
        model = load(options.model)
        image = read_image(options.image, upright=True)
        if isinstance(model, Classifier):
            output = options.output
            lines = _classify(model, image, output, options.json, options.top)
        elif isinstance(model, Detector):
            lines = _detect(model, image, output, options.json, options.threshold)
        else:
            lines = _segment(model, image, output, options.mask)
    except (ModelFileError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join([*lines, *([f"overlay: {output}"] if output else [])]))
    return 0


def _segment(model: Segmenter, image: np.ndarray, output: Path, mask: Path | None) -> list[str]:
    """Writes the pictures; returns a line for each class, the largest first."""
    ids = model.ids(image)
    full = np.asarray(Image.fromarray(ids).resize(image.shape[1::-1], Image.Resampling.NEAREST))
    overlay(image, full, model.contract.colors).save(output)
    if mask:
        id_mask(full, model.contract.colors).save(mask)
    shares = np.bincount(ids.ravel(), minlength=len(model.contract.classes)) / ids.size * 100
    order = np.argsort(-shares, kind="stable")
    return [f"{model.contract.classes[index]:<24}{shares[index]:6.2f} %" for index in order]


def _detect(model: Detector, image: np.ndarray, output: Path, table: Path | None, threshold: float) -> list[str]:
    """Writes picture and table; returns a line for each object, the surest first."""
    boxes, scores, labels = model.detect(image)
    shown = scores >= threshold
    boxes, scores, labels = boxes[shown], scores[shown], labels[shown]
    draw(image, boxes, scores, labels, model.contract).save(output)
    names = [model.contract.classes[label] for label in labels]
    rows = [
        {"class": name, "score": round(score, 4), "box": [round(value, 2) for value in box]}
        for name, score, box in zip(names, scores.tolist(), boxes.tolist(), strict=True)
    ]
    if table:
        table.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return [f"{row['class']:<24}{row['score']:6.2f}  {row['box']}" for row in rows] or ["nothing found"]


def _classify(model: Classifier, image: np.ndarray, output: Path | None, table: Path | None, top: int) -> list[str]:
    """Writes table and picture where asked; returns a line for each class, the surest first."""
    found = model.classify(image, max(1, top))
    if output:
        picture = Image.fromarray(image)
        name, share = found[0]
        pen = ImageDraw.Draw(picture)
        pen.rectangle((0, 0, picture.width, 14), fill=model.contract.colors[model.contract.classes.index(name)])
        pen.text((3, 1), f"{name} {100 * share:.1f} %", fill=(255, 255, 255))
        picture.save(output)
    if table:
        rows = [{"class": name, "probability": round(share, 6)} for name, share in found]
        table.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return [f"{name:<24}{100 * share:6.2f} %" for name, share in found]


if __name__ == "__main__":
    sys.exit(main())
