"""Which level of the teacher every level of the student is compared with, where a job does not say it.

The rule, for each level of `at`:

1. the teacher's level of the same name, where the sizes of both are within a factor of 4;
2. else its level of the same stride, the last of the forward pass: a pyramid's before the backbone's below it;
3. else its level of the nearest stride within that factor: the student's map is resized;
4. else there is none. Class scores (`logits`) are compared with class scores only, features with features.

MasKD and FreeKD train masks through the rest of the teacher: levels that it cannot be entered at do not count, and each
teaches one level of the student, nearer ones first. Heads are compared at the same levels: CrossKD and `logit` go by name.

A job that names `at` is refused where a level has no partner. One that does not is distilled at those of the default levels
that have one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from acamkd_core.spec.base import set_default
from acamkd_core.spec.errors import ErrorInfo
from acamkd_core.spec.fit import MAX_RESIZE, THROUGH_TEACHER, apart, stride_words
from acamkd_core.spec.methods import MethodTerm

BY_NAME = frozenset({"crosskd", "logit"})
LOGITS = "logits"


@dataclass(frozen=True)
class Pairing:
    """What a term compares: levels of the student, of the teacher in the same order, and default levels without a partner."""

    at: tuple[str, ...]
    teacher_at: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def enter(self, term: MethodTerm) -> dict[str, tuple[str, ...]]:
        """Writes the pairs into the term, where they still count as left out; returns what has changed, by field."""
        changed: dict[str, tuple[str, ...]] = {}
        if self.at != term.at:
            changed["at"] = self.at
        if self.teacher_at != (term.teacher_at or self.at):
            changed["teacher_at"] = self.teacher_at
        for name, value in changed.items():
            set_default(term, name, value)
        return changed

    def words(self) -> str:
        """What was left out, and why."""
        names = ", ".join(self.left_out)
        return f"left out of the levels compared by default, as the teacher has no partner for them: {names}"


@dataclass(frozen=True)
class Shape:
    """A level as far as it is known."""

    name: str
    channels: int | None = None
    stride: int | None = None

    def cells(self, size: tuple[int, int] | None) -> list[str]:
        """Height and width of the map of an input of this size; empty where they are not known, or are no map's."""
        return [str(-(-side // self.stride)) for side in size] if size is not None and self.stride else []

    def words(self, size: tuple[int, int] | None) -> str:
        """`p4 256x20x20`."""
        return f"{self.name} {'x'.join([str(self.channels), *self.cells(size)])}" if self.channels else self.name


def pair_up(
    term: MethodTerm,
    student: Mapping[str, int | None],
    teacher: Mapping[str, int | None],
    *,
    given: bool,
    entries: tuple[str, ...] | None = None,
) -> Pairing | ErrorInfo:
    """The levels that a term compares; a problem with its `field` inside the term where one finds no partner.

    Args:
        term: one entry of `distill`; the pairs of one that says `teacher_at` are its own.
        student: level to stride in the order of the forward pass; None where the stride is not known before the run.
            Levels that it does not have are paired by name: to refuse them is another check's matter.
        teacher: as `student`.
        given: whether the job names `at` itself.
        entries: the teacher's levels that it can be entered at; None: all.
    """
    if term.teacher_at is not None or term.method in BY_NAME:
        return Pairing(term.at, term.teacher_at or term.at)
    open_to = [name for name in teacher if entries is None or term.method not in THROUGH_TEACHER or name in entries]
    found: dict[str, str] = {}
    for name in term.at:
        # A level that the job names is refused for what it is, not replaced by another one.
        same = name in (teacher if given else open_to)
        if name not in student or (same and _factor(student[name], teacher[name]) <= MAX_RESIZE):
            found[name] = name
    missing = [name for name in term.at if name not in found]
    for limit in (1.0, MAX_RESIZE):
        for name in [one for one in missing if one not in found]:
            taken = set(found.values()) if term.method in THROUGH_TEACHER else set()
            others = {one: teacher[one] for one in open_to if one not in taken}
            if (partner := _nearest(name, student[name], others, limit)) is not None:
                found[name] = partner
    alone = tuple(name for name in term.at if name not in found)
    if alone and (given or not found):
        return _refusal(term, alone[0], student[alone[0]], {one: teacher[one] for one in open_to})
    at = tuple(name for name in term.at if name in found)
    return Pairing(at, tuple(found[name] for name in at), alone)


def pair_words(own: Shape, other: Shape, size: tuple[int, int] | None) -> str:
    """`m1 576x20x20 <- p4 256x20x20, adapter to 256`; the student's side alone where both have the same name and stride.

    Args:
        own: the student's level.
        other: the teacher's.
        size: height and width of the networks' input; None where it is not known.
    """
    resized = _factor(own.stride, other.stride) != 1.0
    words = own.words(size)
    if resized or own.name != other.name:
        words += f" <- {other.words(size)}"
    if own.name == other.name == LOGITS or (own.channels and own.channels == other.channels):
        words += ", no adapter"
    elif own.channels and other.channels:
        words += f", adapter to {other.channels}"
    if resized:
        words += f", {own.name} -> {'x'.join(other.cells(size)) or f'stride {other.stride}'}"
    return words


def _factor(first: int | None, second: int | None) -> float:
    """As `apart`; strides that are not known yet are no reason against a pair of one name."""
    return 1.0 if first is None or second is None else apart(first, second)


def _nearest(name: str, stride: int | None, teacher: Mapping[str, int | None], limit: float) -> str | None:
    """The last of the teacher's levels of this kind whose stride is the nearest, within a factor; None where there is none."""
    if stride is None:
        return None
    alike = {
        one: apart(stride, other)
        for one, other in teacher.items()
        if other is not None and (one == LOGITS) == (name == LOGITS) and apart(stride, other) <= limit
    }
    return min(reversed(alike), key=alike.__getitem__, default=None)


def _refusal(term: MethodTerm, name: str, stride: int | None, teacher: Mapping[str, int | None]) -> ErrorInfo:
    kind = "class scores" if name == LOGITS else "feature level"
    own = repr(name) if stride is None else f"{name!r} ({stride_words(stride)})"
    entered = " that it can be entered at" if term.method in THROUGH_TEACHER else ""
    known = ", ".join(f"{one} ({stride_words(other)})" if other is not None else one for one, other in teacher.items())
    return ErrorInfo(
        code="distill.no_partner",
        message=f"the teacher has no {kind}{entered} within a factor of {MAX_RESIZE:g} of the student's {own}",
        hint=f"its levels{entered}: {known or 'none'}",
        field="at",
        value=name,
    )
