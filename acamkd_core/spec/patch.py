"""`--set a.b=c`: change single fields of a spec by dotted path. Shared by CLI, SDK, retry, rerun and studies."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from acamkd_core.spec.errors import CoreError, SpecInvalid
from acamkd_core.spec.job import InspectSpec, JobSpec, parse_job


def _refuse(path: str, message: str, hint: str | None = None) -> CoreError:
    return CoreError("patch.unknown_path", message, field=path, hint=hint)


def _step(node: Any, key: str, path: str) -> Any:
    """The child of `node` under `key`; a missing key of a mapping becomes an empty mapping."""
    if isinstance(node, dict):
        child = node.get(key)
        if child is None:
            child = node[key] = {}
        return child
    if isinstance(node, list):
        return node[_index(node, key, path)]
    raise _refuse(path, f"{key!r} goes into a value that has no fields")


def _index(node: list[Any], key: str, path: str) -> int:
    if not key.isdigit() or int(key) >= len(node):
        raise _refuse(path, f"{key!r} is no index of a list of {len(node)}", "list indexes start at 0")
    return int(key)


def _expand_short_forms(spec: dict[str, Any], given: Any, full: Any, path: list[str]) -> None:
    """Writes short forms on the way (`teacher: job:x`, `distill: acam`) as objects, so that the path can go into them.

    `given` is the spec's object form with the given fields only, `full` the one with defaults: a list that was not
    given (exports) is written out, because its items have no other address; a mapping that was not given stays out.
    """
    node: Any = spec
    for key in path[:-1]:
        if isinstance(node, dict):
            known = given.get(key) if isinstance(given, dict) else None
            complete = full.get(key) if isinstance(full, dict) else None
            if isinstance(complete, (str, int, float)):
                raise _refuse(".".join(path), f"{key!r} is a single value and has no fields")
            if known is None and isinstance(complete, list):
                known = complete
            if isinstance(known, (dict, list)) and not isinstance(node.get(key), type(known)):
                node[key] = copy.deepcopy(known)
            elif isinstance(known, list) and isinstance(node.get(key), list) and len(known) == len(node[key]):
                node[key] = [
                    a if isinstance(a, dict) else copy.deepcopy(b) for a, b in zip(node[key], known, strict=True)
                ]
            node, given, full = node.get(key), known, complete
        elif isinstance(node, list) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
            given = given[int(key)] if isinstance(given, list) and int(key) < len(given) else None
            full = full[int(key)] if isinstance(full, list) and int(key) < len(full) else None
        else:
            return


def given_form(spec: JobSpec | InspectSpec) -> dict[str, Any]:
    """A spec in object form with only the fields that were given."""
    return spec.model_dump(mode="json", exclude_unset=True)


def apply_set(spec: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a submitted spec with `changes` (dotted path to value) applied; list items by index (`distill.0.at`).

    The result is checked as a whole: an unknown field or a bad value is refused under the path that was given.

    Raises:
        CoreError: `patch.unknown_path` when a path leads nowhere.
        SpecInvalid: when the changed spec is not a valid one.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(spec))
    parsed = parse_job(changed) if changes else None
    for path, value in changes.items():
        keys = path.split(".")
        if not path or any(not key for key in keys):
            raise _refuse(path, f"{path!r} is not a dotted path", "e.g. optimizer.lr or distill.0.weight")
        if len(keys) > 1 and parsed is not None:
            _expand_short_forms(changed, given_form(parsed), parsed.model_dump(mode="json"), keys)
        node: Any = changed
        for key in keys[:-1]:
            node = _step(node, key, path)
        last = keys[-1]
        if isinstance(node, list):
            node[_index(node, last, path)] = copy.deepcopy(value)
        elif isinstance(node, dict):
            node[last] = copy.deepcopy(value)
        else:
            raise _refuse(path, f"{last!r} goes into a value that has no fields")
    try:
        parse_job(changed)
    except SpecInvalid as error:
        for problem in error.problems:
            if problem.code == "spec.unknown_key" and problem.field is not None:
                for path in changes:
                    if path == problem.field or path.startswith(problem.field + "."):
                        raise _refuse(path, f"there is no field {problem.field!r}", problem.hint) from None
        raise
    return changed
