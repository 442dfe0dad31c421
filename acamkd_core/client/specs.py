"""From a file, a mapping or a `JobSpec` to the mapping that is submitted."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.job import InspectSpec, JobSpec
from acamkd_core.spec.models import SOURCES
from acamkd_core.spec.patch import apply_set, given_form
from acamkd_core.spec.yaml_text import load_json, load_yaml

SpecSource = str | Path | Mapping[str, Any] | JobSpec | InspectSpec
_SCHEMES = tuple(f"{name}:" for name in (*SOURCES, "dataset"))


def read_spec_file(path: str | Path) -> dict[str, Any]:
    """A spec file (YAML, or JSON by its suffix) as a mapping.

    Raises:
        CoreError: `spec.no_file`, `spec.unreadable`, `spec.yaml`, `spec.json`, `spec.not_an_object`.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CoreError(
            "spec.no_file", f"there is no file {path}", hint="`acamkd init` writes a first job.yaml", value=str(path)
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CoreError("spec.unreadable", f"{path} cannot be read: {error}", value=str(path)) from None
    return load_json(text) if path.suffix == ".json" else load_yaml(text)


def load_spec(source: SpecSource, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The submitted form of a spec, with `changes` (dotted path to value) applied. Raises CoreError, SpecInvalid."""
    if isinstance(source, (str, Path)):
        data = read_spec_file(source)
    elif isinstance(source, (JobSpec, InspectSpec)):
        data = given_form(source)
        # `kind` selects the class, and is a given field even where the object was built without naming it.
        data["kind"] = source.kind
    else:
        data = json.loads(json.dumps(source))  # a copy of plain data; tuples become lists, as in a file
    return apply_set(data, changes) if changes else data


def anchor_paths(spec: Mapping[str, Any], folder: Path, *, must_exist: bool) -> dict[str, Any]:
    """A copy in which relative dataset and weights paths start at `folder`: the job file's own.

    Args:
        must_exist: change only paths that lead to something there (a server may know other folders by that name).
    """
    data: dict[str, Any] = copy.deepcopy(dict(spec))

    def anchored(value: Any) -> Any:
        if not isinstance(value, str) or value.startswith(_SCHEMES) or not value:
            return value
        path = Path(value).expanduser()
        full = path if path.is_absolute() else folder / path
        return str(full.resolve()) if not must_exist or full.exists() else value

    if isinstance(data.get("dataset"), str) and data["dataset"] != "scenes":
        data["dataset"] = anchored(data["dataset"])
    elif isinstance(data.get("dataset"), dict) and "root" in data["dataset"]:
        data["dataset"]["root"] = anchored(data["dataset"]["root"])
    if isinstance(data.get("teacher"), str):
        data["teacher"] = anchored(data["teacher"])
    # A student that is a word is a preset; with a path in it, it is a file.
    if isinstance(data.get("student"), str) and "/" in data["student"]:
        data["student"] = anchored(data["student"])
    for role in ("teacher", "student"):
        for field in ("weights", "backbone_weights"):
            model = data.get(role)
            if not isinstance(model, dict):
                continue
            if isinstance(model.get(field), str):
                model[field] = anchored(model[field])
            elif isinstance(model.get(field), dict) and "file" in model[field]:
                model[field]["file"] = anchored(model[field]["file"])
    return data
