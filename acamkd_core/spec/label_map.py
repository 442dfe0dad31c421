"""Which classes of a teacher are which of a dataset, known without torch: the job is refused, or told, before it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from acamkd_core.spec.errors import CoreError, ErrorInfo
from acamkd_core.spec.fit import THROUGH_TEACHER
from acamkd_core.spec.methods import MethodTerm
from acamkd_core.spec.problems import closest

BY_NAME = "by_name"
LabelMap = Mapping[str, str] | str
SHOWN = 8
FIELD = "teacher.label_map"


@dataclass(frozen=True)
class Matched:
    """A teacher's classes set against a dataset's.

    theirs, names: the teacher's and the dataset's classes in the order of their channels. columns: for each class of the
    dataset the teacher's channels that mean it, none or several.
    """

    theirs: tuple[str, ...]
    names: tuple[str, ...]
    columns: tuple[tuple[int, ...], ...]

    @property
    def compared(self) -> list[int]:
        """The dataset's classes that the teacher knows."""
        return [index for index, columns in enumerate(self.columns) if columns]

    @property
    def identity(self) -> bool:
        """Whether channels agree as they are."""
        return len(self.theirs) == len(self.names) and all(
            columns == (index,) for index, columns in enumerate(self.columns)
        )

    @property
    def unknown(self) -> list[str]:
        """Classes of the dataset that the teacher does not know."""
        return [name for name, columns in zip(self.names, self.columns, strict=True) if not columns]

    @property
    def unused(self) -> list[str]:
        """Classes of the teacher that the dataset does not have."""
        used = {column for columns in self.columns for column in columns}
        return [name for index, name in enumerate(self.theirs) if index not in used]

    def words(self) -> str:
        """`9 of 11 classes: road <- Road; vehicle <- car + truck; ...`"""
        pairs = [
            f"{name} <- {' + '.join(self.theirs[column] for column in columns)}"
            for name, columns in zip(self.names, self.columns, strict=True)
            if columns
        ]
        return f"{len(pairs)} of {len(self.names)} classes: {_some(pairs, '; ')}"

    def warning(self) -> ErrorInfo | None:
        """What stays unmatched on either side; None when nothing does."""
        sides = []
        if self.unknown:
            sides.append(f"the teacher does not know {_some(self.unknown)}")
        if self.unused:
            sides.append(f"the dataset has no {_some(self.unused)}")
        if not sides:
            return None
        return ErrorInfo(
            code="teacher.classes_unmatched",
            message="; ".join(sides),
            hint="unknown classes are left out of what class scores compare, and count as 0 in the teacher's score"
            if self.unknown
            else "these scores of the teacher are dropped",
            field=FIELD,
        )


def match(theirs: Sequence[str], names: Sequence[str], label_map: LabelMap | None, *, task: str) -> Matched:
    """Sets a teacher's classes against a dataset's.

    Args:
        theirs: the teacher's classes, in the order of its channels; none: they are taken for the dataset's.
        names: the dataset's.
        label_map: teacher class to dataset class, `by_name`, or None where both have to be the same.

    Raises:
        CoreError: `teacher.other_classes` without a map, with the map that would fit; `teacher.no_class_names`,
            `teacher.label_map` for a name that is not there, `teacher.nothing_matches`.
    """
    if not theirs:
        if label_map is not None:
            raise CoreError(
                "teacher.no_class_names", "the teacher's file does not name its classes, so they cannot be mapped",
                hint="give teacher.classes: their names in the order of its channels", field="teacher.classes",
            )  # fmt: skip
        theirs = names
    if label_map is None:
        if list(theirs) != list(names):
            raise CoreError(
                "teacher.other_classes", difference(theirs, names), hint=fitting(theirs, names), field="teacher",
                value=len(theirs),
            )  # fmt: skip
        return Matched(tuple(theirs), tuple(names), tuple((index,) for index in range(len(names))))
    target = _by_name(theirs, names) if isinstance(label_map, str) else _given(theirs, names, label_map)
    columns = tuple(
        tuple(column for column, theirs_name in enumerate(theirs) if target.get(theirs_name) == name) for name in names
    )
    found = Matched(tuple(theirs), tuple(names), columns)
    # One score alone has nothing to be compared with: its softmax is 1 everywhere.
    if len(found.compared) < (1 if task == "detection" else 2):
        raise CoreError(
            "teacher.nothing_matches",
            f"{len(found.compared)} of the dataset's classes are left for the teacher to teach",
            hint=f"it knows {_some(list(theirs))}; the dataset has {_some(list(names))}",
            field=FIELD,
        )
    return found


def plain(name: str) -> str:
    """A name without case, spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", name.casefold())


def difference(theirs: Sequence[str], names: Sequence[str]) -> str:
    """How two lists of classes differ, in a sentence."""
    if sorted(theirs) == sorted(names):
        return "the teacher knows the dataset's classes in another order"
    if len(theirs) != len(names):
        return f"the teacher knows {len(theirs)} classes ({_some(list(theirs))}), the dataset has {len(names)} ({_some(list(names))})"
    other = next(f"{b!r} instead of {a!r}" for a, b in zip(names, theirs, strict=True) if a != b)
    return f"the teacher knows other classes than the dataset ({other})"


def fitting(theirs: Sequence[str], names: Sequence[str]) -> str:
    """Which map would fit two lists of classes."""
    target = _by_name(theirs, names)
    known = [name for name in names if name in target.values()]
    if len(known) == len(names):
        return f"teacher.label_map: by_name fits all {len(names)} classes"
    missing = _some([name for name in names if name not in known])
    if known:
        return f"teacher.label_map: by_name fits {len(known)} of {len(names)} classes; without {missing}, or {{teacher class: dataset class}} for those"
    return f"teacher.label_map: {{teacher class: dataset class}} for {missing}; or train a teacher on this dataset"


def mapped_misfit(term: MethodTerm, task: str, matched: Matched) -> ErrorInfo | None:
    """Why a term cannot work with a teacher whose classes are mapped, with its `field` inside the term; None when it can."""
    if matched.identity:
        return None
    if term.method == "crosskd" or (term.method == "logit" and task == "detection"):
        message = f"{term.method} compares the class scores of two heads, and the teacher's are of other classes"
    elif term.method in THROUGH_TEACHER and (task == "detection" or matched.unknown):
        message = f"{term.method} trains its tokens on the dataset's labels, and the teacher does not know all of them"
    else:
        return None
    return ErrorInfo(
        code="method.other_classes",
        message=message,
        hint="acam, cwd, pkd and mgd need no labels that the teacher knows",
        field="method",
        value=term.method,
    )


def _by_name(theirs: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    exact = set(names)
    alike = {plain(name): name for name in reversed(names)}
    return {name: name if name in exact else alike[plain(name)] for name in theirs if plain(name) in alike}


def _given(theirs: Sequence[str], names: Sequence[str], label_map: Mapping[str, str]) -> dict[str, str]:
    for theirs_name, name in label_map.items():
        for value, known, whose in ((theirs_name, theirs, "teacher"), (name, names, "dataset")):
            if value not in known:
                raise CoreError(
                    "teacher.label_map", f"the {whose} has no class {value!r}", hint=closest(value, known), field=FIELD,
                    value=value,
                )  # fmt: skip
    return dict(label_map)


def _some(names: list[str], separator: str = ", ") -> str:
    return separator.join(names[:SHOWN]) + (f"{separator}and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
