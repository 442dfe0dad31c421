"""Which terms make no sense for a task: known before anything is built, so that a job is refused at submit."""

from __future__ import annotations

from collections.abc import Mapping

from acamkd_core.spec.archs import ENTRY_LEVELS
from acamkd_core.spec.errors import ErrorInfo
from acamkd_core.spec.methods import MethodTerm

NEEDS_BOXES = frozenset({"fgd"})
HAVE_BOXES = frozenset({"detection"})
THROUGH_TEACHER = frozenset({"maskd", "freekd"})

MAX_RESIZE = 4.0
"""Largest factor between the two maps of a pair; beyond it they are two different levels."""


def misfit_of(term: MethodTerm, task: str) -> ErrorInfo | None:
    """Why a term cannot work on a task, with its `field` inside the term; None when it can."""
    if term.method in NEEDS_BOXES and task not in HAVE_BOXES:
        return ErrorInfo(
            code="method.needs_boxes",
            message=f"{term.method} weighs positions by the boxes of objects, and {task.replace('_', ' ')} has no boxes",
            hint="maskd and acam find positions without boxes; mgd, pkd and cwd need none",
            field="method",
            value=term.method,
        )
    if term.method == "logit" and task in HAVE_BOXES:
        return ErrorInfo(
            code="method.no_class_map",
            message=f"logit compares one map of class scores, and {task.replace('_', ' ')} has none",
            hint="cwd, pkd, mgd and feature_mse compare features",
            field="method",
            value=term.method,
        )
    if term.method == "logit" and set(term.at) != {"logits"}:
        return ErrorInfo(
            code="distill.level",
            message="logit distillation compares logits only",
            hint="cwd, pkd, mgd and feature_mse compare features",
            field="at",
            value=", ".join(term.at),
        )
    return None


def no_way_on(term: MethodTerm, family: str) -> ErrorInfo | None:
    """The first level from which a teacher of this family cannot go on though the method needs it; None when all fit.

    MasKD and FreeKD train tokens through the rest of the teacher; `ENTRY_LEVELS` says why some families cannot go on.
    """
    entries = ENTRY_LEVELS.get(family)
    if term.method not in THROUGH_TEACHER or entries is None:
        return None
    for name in term.teacher_at or term.at:
        if name not in entries:
            return ErrorInfo(
                code="method.no_way_on",
                message=f"{term.method} trains its tokens through the rest of the teacher, which cannot go on from {name!r}",
                hint=f"take {', '.join(entries) or 'another family of teachers'}; acam, pkd, cwd and mgd work at any level",
                field="teacher_at" if term.teacher_at else "at",
                value=name,
            )
    return None


def far_levels(term: MethodTerm, student: Mapping[str, int], teacher: Mapping[str, int]) -> ErrorInfo | None:
    """The first pair whose strides differ too much, as a problem with its `field` inside the term; None when all fit.

    Args:
        term: one entry of `distill`; pairs with a level that one side does not have are left out.
        student: stride of each of the student's levels.
        teacher: stride of each of the teacher's levels.
    """
    for own, other in zip(term.at, term.teacher_at or term.at, strict=False):
        if own not in student or other not in teacher:
            continue
        a, b = student[own], teacher[other]
        if max(a / b, b / a) > MAX_RESIZE:
            near = sorted(teacher, key=lambda name: max(a / teacher[name], teacher[name] / a))
            alike = [name for name in near if max(a / teacher[name], teacher[name] / a) <= MAX_RESIZE]
            return ErrorInfo(
                code="distill.far_levels",
                message=f"the student's {own!r} has stride {a}, the teacher's {other!r} {b}: more than a factor of "
                f"{MAX_RESIZE:g} apart",
                hint=f"nearest teacher levels: {', '.join(alike) or 'none within that factor'}",
                field="teacher_at" if term.teacher_at else "at",
                value=other,
            )
    return None
