"""Which terms make no sense for a task: known before anything is built, so that a job is refused at submit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from acamkd_core.spec.archs import (
    CROSSED_LEVELS,
    ENTRY_LEVELS,
    FAMILY_TASKS,
    NECK_LEVELS,
    Arch,
    TimmArch,
    entry_levels,
)
from acamkd_core.spec.base import set_default
from acamkd_core.spec.errors import ErrorInfo
from acamkd_core.spec.methods import MethodTerm
from acamkd_core.spec.tasks import TaskName
from acamkd_core.spec.timm_models import classifier_levels

NEEDS_BOXES = frozenset({"fgd"})
HAVE_BOXES = frozenset({"detection"})
BEFORE_HEAD = frozenset({"c2", "c3", "c4", "c5"})
THROUGH_TEACHER = frozenset({"maskd", "freekd"})

NEEDS_POSITIONS = frozenset({"acam", "cankd", "cwd", "fgd", "freekd", "maskd", "mgd"})
"""Methods that tell positions of a map apart; a classifier's class scores have a single one."""

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
    if term.method == "crosskd" and task not in HAVE_BOXES:
        return ErrorInfo(
            code="method.other_head",
            message=f"crosskd crosses the heads of detectors, and {task.replace('_', ' ')} has none",
            hint="cankd, pkd, mgd and cwd compare features of any task",
            field="method",
            value=term.method,
        )
    if task == "classification" and term.method in NEEDS_POSITIONS:
        for field, names in (("at", term.at), ("teacher_at", term.teacher_at or ())):
            if "logits" in names:
                return ErrorInfo(
                    code="method.needs_positions",
                    message=f"{term.method} tells positions of a map apart, and a classifier's logits have one",
                    hint="take a map, e.g. c5; logit, feature_mse and pkd compare class scores",
                    field=field,
                    value="logits",
                )
    if term.method == "logit" and task not in HAVE_BOXES and set(term.at) != {"logits"}:
        return ErrorInfo(
            code="distill.level",
            message="logit distillation compares logits only",
            hint="cwd, pkd, mgd and feature_mse compare features",
            field="at",
            value=", ".join(term.at),
        )
    return None


def default_levels(term: MethodTerm, task: TaskName, arch: Arch | None) -> tuple[str, ...] | None:
    """Where a term looks that does not say it: a detector's pyramid, a classifier's last map for methods that need positions.

    Methods that go on through the teacher leave out what a teacher of the student's family cannot be entered at.
    None: class scores, the default of all methods.
    """
    if arch is not None and (neck := NECK_LEVELS.get(arch.family)) is not None:
        entries = ENTRY_LEVELS[arch.family] if term.method in THROUGH_TEACHER else neck
        # Where none can be entered (SSDLite's), only a teacher of another family can do, and it decides.
        return tuple(name for name in neck if name in entries) or neck
    if isinstance(arch, TimmArch) and term.method in NEEDS_POSITIONS:
        return tuple(classifier_levels(arch.backbone))[-1:] or None
    return ("c5",) if task == "classification" and term.method in NEEDS_POSITIONS else None


def settle(terms: Sequence[MethodTerm], task: TaskName, student: Arch | None, teacher: Arch | None) -> None:
    """Fills in, in place, what terms leave open and the networks decide: where they look, and the papers' numbers there.

    A spec does it as far as it knows the networks; who knows more (a file's header, a server's job) does it again.
    """
    for term in terms:
        if "at" not in term.model_fields_set and (levels := default_levels(term, task, student)) is not None:
            set_default(term, "at", levels)
        for name, value in term.papers(student, teacher).items() if student is not None else ():
            if name not in term.model_fields_set:
                set_default(term, name, value)


def other_head(term: MethodTerm, student: Arch, teacher: Arch | None) -> ErrorInfo | None:
    """Why the predictions of the two heads cannot be compared, for CrossKD and for a detector's logits; None when they can.

    CrossKD sends the student's head features through the teacher's head; logits are compared candidate by candidate.

    `teacher`: None for a graph of another runtime, which is run whole.
    """
    crossed = term.method == "crosskd"
    if not crossed and not (term.method == "logit" and FAMILY_TASKS[student.family] in HAVE_BOXES):
        return None
    *others, last = CROSSED_LEVELS
    families = f"{', '.join(others)} and {last}"

    def refused(message: str, hint: str, field: str, value: str | int) -> ErrorInfo:
        return ErrorInfo(code="method.other_head", message=message, hint=hint, field=field, value=value)

    if teacher is None or teacher.family not in CROSSED_LEVELS:
        name: str = "a graph of another runtime" if teacher is None else teacher.family
        message = f"crosskd enters the teacher's head between its convolutions, and {name} has no such place"
        if not crossed:
            message = (
                f"logit compares the scores of a dense head's candidates, of {families}, and the teacher is {name}"
            )
        hint = f"{families} teachers with a student of the same family; cankd, pkd, mgd and cwd compare features"
        return refused(message, hint, "method", term.method)
    if student.family != teacher.family:
        message = f"{term.method} needs two heads of one kind: the student is a {student.family}, the teacher a {teacher.family}"
        hint = f"a student of family {teacher.family}, or cankd and pkd, which compare pyramids of different families"
        return refused(message, hint, "method", term.method)
    levels = CROSSED_LEVELS[teacher.family]
    for field, names in (("at", term.at), ("teacher_at", term.teacher_at or ())):
        for name in names:
            if name not in levels:
                hint = f"take {', '.join(levels)}; cankd, pkd, mgd and cwd compare features of any level"
                return refused(f"no head looks at {name!r}, so there is nothing to compare", hint, field, name)
    if not crossed and term.teacher_at is not None and term.teacher_at != term.at:
        hint = "leave teacher_at out"
        return refused("logit compares candidates of the same level", hint, "teacher_at", ", ".join(term.teacher_at))
    depth = min(getattr(student, "head_depth", 0), getattr(teacher, "head_depth", 0))
    if term.method == "crosskd" and term.stage is not None and term.stage > depth:
        message = f"crosskd leaves the student's head behind stage {term.stage}, and the shallower head has {depth}"
        return refused(message, f"a stage from 0 to {depth}", "stage", term.stage)
    return None


def headless_placebo(term: MethodTerm, teacher: str) -> ErrorInfo | None:
    """The first level that a teacher of this family has without its head, where an untrained head changes nothing."""
    if term.placebo != "random_head":
        return None
    if teacher in ("onnx", "pt2"):
        return ErrorInfo(
            code="method.no_placebo",
            message="a teacher that is run as a whole has no head that could be drawn anew",
            hint="placebo: other_image works with any teacher",
            field="placebo",
            value=term.placebo,
        )
    if term.method in ("crosskd", "logit"):
        return None
    for name in term.teacher_at or term.at:
        before = name != "logits" if teacher == "timm" else name in BEFORE_HEAD or name in NECK_LEVELS.get(teacher, ())
        if before:
            return ErrorInfo(
                code="method.no_placebo",
                message=f"{name!r} does not come out of the teacher's head: with an untrained head it stays what it is",
                hint="take a level that the head makes (logits), or placebo: other_image",
                field="placebo",
                value=term.placebo,
            )
    return None


def no_way_on(term: MethodTerm, family: str, backbone: str = "") -> ErrorInfo | None:
    """The first level from which a teacher of this kind cannot go on though the method needs it; None when all fit.

    MasKD and FreeKD train tokens through the rest of the teacher; `entry_levels` says why some networks cannot go on.
    """
    entries = entry_levels(family, backbone)
    if term.method not in THROUGH_TEACHER or entries is None:
        return None
    # A classifier's scores have no positions, which these methods need.
    places = [one for one in entries if one != "logits" or FAMILY_TASKS.get(family) != "classification"]
    for name in term.teacher_at or term.at:
        if name not in entries:
            return ErrorInfo(
                code="method.no_way_on",
                message=f"{term.method} trains its tokens through the rest of the teacher, which cannot go on from {name!r}",
                hint=f"take {', '.join(places) or 'another family of teachers'}; acam, pkd, cwd and mgd work at any level",
                field=_named(term),
                value=name,
            )
    return None


def far_levels(term: MethodTerm, student: Mapping[str, int], teacher: Mapping[str, int]) -> ErrorInfo | None:
    """The first pair whose strides differ too much, as a problem with its `field` inside the term; None when all fit.

    Args:
        term: one entry of `distill`; pairs with a level that one side does not have are left out.
        student: stride of each of the student's levels.
        teacher: stride of each of the teacher's levels, in the student's pixels.
    """
    for own, other in zip(term.at, term.teacher_at or term.at, strict=False):
        if own not in student or other not in teacher:
            continue
        a, b = student[own], teacher[other]
        if apart(a, b) > MAX_RESIZE:
            near = sorted(teacher, key=lambda name: apart(a, teacher[name]))
            alike = [name for name in near if apart(a, teacher[name]) <= MAX_RESIZE]
            return ErrorInfo(
                code="distill.far_levels",
                message=f"the student's {own!r} has {stride_words(a)}, the teacher's {other!r} {stride_words(b)}: more than a factor of "
                f"{MAX_RESIZE:g} apart",
                hint=f"nearest teacher levels: {', '.join(alike) or 'none within that factor'}",
                field=_named(term),
                value=other,
            )
    return None


def _named(term: MethodTerm) -> str:
    """The field that says which of the teacher's levels are compared, where the job has one: pairs may be automatic."""
    return "teacher_at" if term.teacher_at and "teacher_at" in term.model_fields_set else "at"


def apart(first: int, second: int) -> float:
    """Factor between the sizes of two maps; a stride of 0 is one position for the whole image, no map at all."""
    if first == second:
        return 1.0
    return max(first / second, second / first) if first and second else math.inf


def stride_words(stride: int) -> str:
    """A stride, as messages say it."""
    return f"stride {stride}" if stride else "one position for the whole image"
