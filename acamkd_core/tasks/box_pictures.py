"""Pictures of boxes for people. Colours of classes are the dataset's; orange is wrong, blue is better than the teacher."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from acamkd_core.tasks.pictures import BLUE, ORANGE

SHOWN = 0.3  # score from which a detection is drawn
MATCH = 0.5  # IoU from which a detection finds an object
_GREY = (150, 150, 150)
Color = tuple[int, int, int]


def draw_boxes(
    image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, palette: Sequence[Color], scores: np.ndarray | None = None
) -> np.ndarray:
    """Boxes (N x 4, pixels of `image`) in their classes' colours over a faint image, HxWx3 uint8.

    With scores only those from `SHOWN` on are drawn, the surest on top.
    """
    canvas = Image.fromarray(_faint(image))
    pen = ImageDraw.Draw(canvas)
    order = (
        list(range(len(boxes))) if scores is None else [i for i in np.argsort(scores).tolist() if scores[i] >= SHOWN]
    )
    for index in order:
        _frame(pen, boxes[index], palette[int(labels[index])], _width(image))
    return np.asarray(canvas)


def draw_errors(
    image: np.ndarray,
    truth: tuple[np.ndarray, np.ndarray],
    student: tuple[np.ndarray, np.ndarray],
    teacher: tuple[np.ndarray, np.ndarray] | None,
) -> np.ndarray:
    """Objects and what became of them: grey found, orange missed, blue found by the student alone; crosses: not there.

    Args:
        image: HxWx3 uint8.
        truth: (boxes, labels) of the objects.
        student: (boxes, labels) of the detections that count.
        teacher: the same of the teacher; None: no teacher.
    """
    canvas = Image.fromarray(_faint(image))
    pen, width = ImageDraw.Draw(canvas), _width(image)
    hits, used = found_by(truth, student)
    teacher_hits = found_by(truth, teacher)[0] if teacher is not None else None
    for index in np.nonzero(~used)[0].tolist():
        x1, y1, x2, y2 = student[0][index]
        pen.line((x1, y1, x2, y2), fill=_tuple(ORANGE), width=width)
        pen.line((x1, y2, x2, y1), fill=_tuple(ORANGE), width=width)
    for index, box in enumerate(truth[0]):
        if not hits[index]:
            _frame(pen, box, _tuple(ORANGE), width + 1)
        elif teacher_hits is not None and not teacher_hits[index]:
            _frame(pen, box, _tuple(BLUE), width)
        else:
            _frame(pen, box, _GREY, 1)
    return np.asarray(canvas)


def found_by(
    truth: tuple[np.ndarray, np.ndarray], found: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """(which objects were found, which detections found one): greedy in the order of detections, same class, IoU 0.5."""
    hits, used = np.zeros(len(truth[1]), dtype=bool), np.zeros(len(found[1]), dtype=bool)
    for index in range(len(found[1])):
        overlap = iou(found[0][index], truth[0]) * ((truth[1] == found[1][index]) & ~hits)
        if len(overlap) and overlap.max() >= MATCH:
            hits[int(overlap.argmax())] = used[index] = True
    return hits, used


def iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of one box with N boxes, shape N."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = sides.clip(min=0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    result: np.ndarray = shared / np.maximum(areas - shared, 1e-9)
    return result


def _faint(image: np.ndarray) -> np.ndarray:
    grey = image.astype(np.float32).mean(axis=2, keepdims=True)
    faint: np.ndarray = (0.5 * image + 0.3 * grey + 40).clip(0, 255).round().astype(np.uint8)
    return faint


def _width(image: np.ndarray) -> int:
    # Lists and phones show pictures about 120 pixels high: there a line has one.
    return max(1, round(int(min(image.shape[:2])) / 120))


def _frame(pen: ImageDraw.ImageDraw, box: np.ndarray, color: Color, width: int) -> None:
    x1, y1, x2, y2 = (float(value) for value in box)
    pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=color, width=width)


def _tuple(color: np.ndarray) -> Color:
    red, green, blue = (int(value) for value in color)
    return red, green, blue
