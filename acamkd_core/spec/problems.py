"""Mistakes in a spec in the user's words: the path as written, what was wrong, and what was probably meant.

Everything here is read off the models themselves, so a new method, family or format needs no line of its own.
"""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from acamkd_core.spec.errors import ErrorInfo

SHOWN = 12  # known words listed when none is close


def closest(word: object, known: Iterable[object]) -> str:
    """`did you mean 'x'?`, or the known words where none is close."""
    names = [str(name) for name in known]
    near = difflib.get_close_matches(str(word), names, n=2, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(repr(name) for name in near)}?"
    return f"known: {', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}"


@dataclass(frozen=True)
class _Words:
    """A place that holds one of a few words."""

    words: tuple[object, ...]


@dataclass(frozen=True)
class _Union:
    """A place that holds one of several models, told apart by a word in them."""

    members: tuple[type[BaseModel], ...]


# What lies at a place of a spec: a model, one of those above, or a plain type.
_Place = Any


def problems_of(error: ValidationError, root: type[BaseModel]) -> list[ErrorInfo]:
    """All mistakes that pydantic found in a `root`. A value that fits no branch of a union is one mistake."""
    found: list[ErrorInfo] = []
    for item in error.errors(include_url=False):
        problem = _problem(item, root)
        if problem not in found:
            found.append(problem)
    return found


def _problem(item: Any, root: type[BaseModel]) -> ErrorInfo:
    """One entry of pydantic's `errors()` as an `ErrorInfo`.

    Args:
        item: the entry; its location holds tags of unions, which users never wrote.
        root: the model that was validated.
    """
    path, holder = _walk(item["loc"], root)
    value, context = item.get("input"), item.get("ctx", {})
    code, message, hint = "spec.invalid", item["msg"].removeprefix("Value error, "), context.get("hint")
    match item["type"]:
        case "extra_forbidden":
            code, message = "spec.unknown_key", f"unknown key {item['loc'][-1]!r}"
            hint = _other_key(str(item["loc"][-1]), path, holder, root)
        case "missing":
            code, message = "spec.missing", f"{item['loc'][-1]!r} is missing"
        case "union_tag_invalid":
            name = context["discriminator"].strip("'")
            known, value = [tag.strip("'\" ") for tag in context["expected_tags"].split(",")], context["tag"]
            path, message, hint = [*path, name], f"unknown {name} {value!r}", closest(value, known)
        case "union_tag_not_found":
            name = context["discriminator"].strip("'")
            code, path, message = "spec.missing", [*path, name], f"{name!r} is missing"
            hint = closest("", _tags(holder.members)) if isinstance(holder, _Union) else None
        case "literal_error" if isinstance(value, (str, int, float)) and isinstance(holder, _Words):
            message, hint = f"unknown value {value!r}", closest(value, holder.words)
    if named := context.get("field"):
        path = [*path, named]
    value = context.get("value", value) if item["type"] == "refused" else value
    return ErrorInfo(
        code=code,
        message=message,
        hint=hint,
        field=".".join(str(part) for part in path) or None,
        # JSON knows no infinity: an answer that repeats one could not be sent.
        value=str(value) if isinstance(value, float) and not math.isfinite(value)
        else value if isinstance(value, (str, int, float, type(None))) else None,
    )  # fmt: skip


def _is_model(place: _Place) -> TypeGuard[type[BaseModel]]:
    return isinstance(place, type) and issubclass(place, BaseModel)


def _walk(location: Sequence[str | int], root: type[BaseModel]) -> tuple[list[str | int], _Place]:
    """The location without the tags of unions, and what the models say of the place (for an unknown key: its holder)."""
    path: list[str | int] = []
    place: _Place = root
    for number, part in enumerate(location):
        if isinstance(place, _Union):
            # The part after a union of models is the tag of the member that was tried.
            place = next((member for member in place.members if part in _tags((member,))), None)
            continue
        if isinstance(place, _Words):
            continue  # `literal[...]`: which branch of a union of words was tried
        path.append(part)
        if _is_model(place):
            if part not in place.model_fields:
                return path + list(location[number + 1 :]), place
            place = _place_of(place.model_fields[str(part)].annotation)
        else:
            place = _place_of(next((arg for arg in get_args(place) if arg is not Ellipsis), None))
    return path, place


def _place_of(annotation: Any) -> _Place:
    """An annotation without `Annotated` and `None`."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is Literal:
        return _Words(get_args(annotation))
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    members = [_place_of(member) for member in get_args(annotation) if member is not type(None)]
    if len(members) == 1:
        return members[0]
    if all(isinstance(member, _Words) for member in members):
        return _Words(tuple(word for member in members for word in member.words))
    flat = [one for member in members for one in (member.members if isinstance(member, _Union) else (member,))]
    return _Union(tuple(flat)) if all(_is_model(one) for one in flat) else annotation


def _tags(members: tuple[type[BaseModel], ...]) -> list[str]:
    """The words that select a member of a union: its first field that is one word, as `method` or `format` are."""
    found: list[str] = []
    for member in members:
        places = [_place_of(field.annotation) for field in member.model_fields.values()]
        words = [place.words for place in places if isinstance(place, _Words)]
        found += next(([str(one[0])] for one in words if len(one) == 1 and isinstance(one[0], str)), [])
    return found


def _other_key(key: str, path: list[str | int], holder: _Place, root: type[BaseModel]) -> str | None:
    """What may have been meant by an unknown key: a name beside it, the same name elsewhere, or one of those here."""
    if not _is_model(holder):
        return None
    near = difflib.get_close_matches(key, holder.model_fields, n=2, cutoff=0.6)
    if near:
        return closest(key, near)
    here = ".".join(str(part) for part in path)
    elsewhere = [known for known in _paths(root) if known.rpartition(".")[2] == key and known != here]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere[:3])}?"
    return closest(key, holder.model_fields)


@lru_cache(maxsize=8)
def _paths(root: type[BaseModel]) -> tuple[str, ...]:
    """Every path that a spec can have, with `0` for items of lists; unions give the paths of all members."""
    found: dict[str, None] = {}

    def visit(place: _Place, path: str) -> None:
        for model in place.members if isinstance(place, _Union) else [place]:
            if _is_model(model):
                for name, field in model.model_fields.items():
                    below = f"{path}.{name}" if path else name
                    found[below] = None
                    visit(_place_of(field.annotation), below)
            elif get_origin(model) is tuple:
                visit(_place_of(get_args(model)[0]), f"{path}.0")

    visit(root, "")
    return tuple(found)
