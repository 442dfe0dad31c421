"""Paths that users name: resolved, and refused outside the configured roots."""

from __future__ import annotations

from pathlib import Path

from acamkd_core.spec.errors import CoreError
from server.settings import Settings


def inside_roots(path: str, settings: Settings, *, field: str, kind: str = "path") -> Path:
    """A user's path as an absolute one inside a root; relative paths are looked up in every root.

    Links are followed first, so a link cannot lead outside.

    Raises:
        CoreError: `path.outside_roots` or `path.missing`, with the field.
    """
    hint = "configured folders: " + (
        ", ".join(str(root) for root in settings.roots[1:])
        or "none (acamkd up --datasets DIR, or ACAMKD_DATASET_ROOTS)"
    )
    if "\0" in path or not path.strip():
        raise CoreError("path.invalid", "not a path", field=field, value=path.replace("\0", "?"))
    try:
        given = Path(path).expanduser()
        candidates = [given] if given.is_absolute() else [root / given for root in settings.roots]
        resolved = [candidate.resolve() for candidate in candidates]
    except (OSError, RuntimeError, ValueError):
        raise CoreError("path.invalid", "not a path", field=field, value=path) from None
    allowed = [one for one in resolved if any(one.is_relative_to(root) for root in settings.roots)]
    if not allowed:
        raise CoreError(
            "path.outside_roots", f"the {kind} lies outside the configured folders", hint=hint, field=field, value=path
        )
    for one in allowed:
        if one.exists():
            return one
    raise CoreError("path.missing", f"there is no such {kind}", hint=hint, field=field, value=path)
