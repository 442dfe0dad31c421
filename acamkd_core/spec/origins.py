"""A submitted spec with every value filled in, and where each comes from: given, default or automatic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from acamkd_core.spec.api import FieldOrigin
from acamkd_core.spec.job import InspectSpec, JobSpec


def _is_branch(value: Any) -> bool:
    return isinstance(value, BaseModel) or (
        isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(item, BaseModel) for item in value)
    )


def _leaves(value: Any, path: str, given: bool, automatic: bool) -> Iterator[FieldOrigin]:
    """Leaves below `value`. A list of numbers is one leaf: it is read and written as one value."""
    if isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            child = getattr(value, name)
            # "automatic:" in a description is the spec's promise that an absent value is found out.
            found_out = "automatic" in (info.description or "").lower()
            below = given and name in value.model_fields_set
            yield from _leaves(child, f"{path}.{name}" if path else name, below, found_out)
    elif _is_branch(value):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}.{index}", given, False)
    else:
        plain = list(value) if isinstance(value, tuple) else value
        origin = "given" if given and not (automatic and value is None) else "automatic" if automatic else "default"
        yield FieldOrigin.model_validate({"path": path, "value": plain, "origin": origin})


def count_given(submitted: Any) -> int:
    """Values that the user wrote: leaves of the submitted mapping, a list of plain values being one."""
    if isinstance(submitted, dict):
        return sum(count_given(value) for value in submitted.values()) or 1
    if isinstance(submitted, list) and any(isinstance(item, (dict, list)) for item in submitted):
        return sum(count_given(item) for item in submitted)
    return 1


def origins_of(spec: JobSpec | InspectSpec, *, automatic_paths: frozenset[str] = frozenset()) -> list[FieldOrigin]:
    """Every leaf of a spec with its origin.

    Args:
        automatic_paths: leaves that the server filled in itself (the job's name, a registered dataset's folder).
    """
    leaves = list(_leaves(spec, "", True, False))
    for leaf in leaves:
        if leaf.path in automatic_paths:
            leaf.origin = "automatic"
    return leaves


def resolve(
    spec: JobSpec | InspectSpec, *, automatic_paths: frozenset[str] = frozenset()
) -> tuple[dict[str, Any], list[FieldOrigin]]:
    """The frozen spec as plain data, and the origin of each of its leaves."""
    return spec.model_dump(mode="json"), origins_of(spec, automatic_paths=automatic_paths)
