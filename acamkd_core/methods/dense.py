"""What methods share that compare the predictions of two dense heads, candidate by candidate."""

from __future__ import annotations

from torch import Tensor

from acamkd_core import ranks
from acamkd_core.methods.base import StepContext
from acamkd_core.models.base import DenseHead
from acamkd_core.spec.errors import CoreError


def dense_heads(ctx: StepContext, method: str) -> tuple[DenseHead, DenseHead, list[Tensor]]:
    """(the student's head, the teacher's, boxes of each image in pixels of the teacher's input).

    Raises:
        CoreError: `method.other_head` (a job is refused before; see `spec.fit`), `method.needs_boxes`.
    """
    own, other, boxes = ctx.student_head, ctx.teacher_head, ctx.teacher_boxes()
    if not (isinstance(own, DenseHead) and isinstance(other, DenseHead) and type(own) is type(other)):
        raise CoreError(
            "method.other_head",
            f"{method} compares the predictions of two heads, and a {type(own).__name__} and a {type(other).__name__} have "
            "no candidates in common",
            hint="take a student of the teacher's family, retinanet, fcos or reppoints; pkd and cankd compare pyramids",
            field="method",
            value=method,
        )
    if boxes is None:
        raise CoreError("method.needs_boxes", f"{method} needs the boxes of objects", field="method", value=method)
    return own, other, boxes


def over_all(mass: float) -> float:
    """What a sum over this process's candidates is divided by: the mean over processes is then the whole batch's quotient.

    Args:
        mass: this process's part of what the heads' own loss is divided by.
    """
    return max(1.0, ranks.total(mass)) / ranks.world()


def matched(student_NAK: Tensor, teacher_NAK: Tensor) -> tuple[Tensor, Tensor]:
    """Both class scores, once it is sure that they are of the same candidates and classes.

    Raises:
        CoreError: `method.other_candidates`.
    """
    if student_NAK.shape != teacher_NAK.shape:
        (_, own, classes), (_, other, known) = student_NAK.shape, teacher_NAK.shape
        raise CoreError(
            "method.other_candidates",
            f"the student scores {own} candidates in {classes} classes, the teacher {other} in {known}",
            hint="both need the same classes and levels of the same size: leave teacher_at out",
            field="method",
            value="logit",
        )
    return student_NAK, teacher_NAK
