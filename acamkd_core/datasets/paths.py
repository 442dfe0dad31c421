"""Where datasets may lie: paths are resolved, and must stay inside the configured roots."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from acamkd_core.spec.errors import CoreError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def resolve_root(text: str, roots: Sequence[Path], field: str = "dataset.root") -> Path:
    """A dataset's folder as a real path. A relative one is looked for below each root first.

    Raises:
        CoreError: `dataset.outside_roots` or `dataset.not_found`.
    """
    path = Path(text).expanduser()
    candidates = [path] if path.is_absolute() else [*(root / path for root in roots), path]
    resolved = [candidate.resolve() for candidate in candidates]
    inside = [candidate for candidate in resolved if is_inside(candidate, roots)]
    if not inside:
        raise CoreError(
            "dataset.outside_roots",
            f"{text} lies outside the folders that datasets may come from",
            hint="allowed: " + ", ".join(str(root) for root in roots),
            field=field,
            value=text,
        )
    for candidate in inside:
        if candidate.is_dir():
            return candidate
    raise CoreError("dataset.not_found", f"there is no folder {text}", field=field, value=text)


def is_inside(path: Path, roots: Sequence[Path]) -> bool:
    """Whether a resolved path is below one of the roots; without roots everything is."""
    return not roots or any(path.is_relative_to(root.resolve()) for root in roots)


def is_file(path: Path) -> bool:
    """`Path.is_file` for names that come out of files: one that is too long for the system is no file either."""
    try:
        return path.is_file()
    except OSError:
        return False


def check_inside(path: Path, roots: Sequence[Path], shown: str) -> None:
    """Refuse a file or folder whose real place (after links) is outside the roots."""
    if not is_inside(path.resolve(), roots):
        raise CoreError(
            "dataset.outside_roots",
            f"{shown} is a link that leaves the folders that datasets may come from",
            hint="copy the file, or add the folder to the roots",
            field="dataset.root",
            value=shown,
        )


def check_name(name: str) -> None:
    """Refuses names that are no Unicode text: they could be shown nowhere, and sent nowhere."""
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", "replace")
        raise CoreError(
            "dataset.file_name", f"the name of {shown} is not UTF-8", hint="rename the file", value=shown
        ) from None
