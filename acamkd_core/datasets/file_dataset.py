"""Images in files: what masks and boxes share of a dataset that lies in a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acamkd_core.datasets.base import ClassInfo, Item, Note
from acamkd_core.spec.errors import CoreError


class FileDataset:
    """An opened dataset whose images are files.

    Args:
        root: resolved folder of the dataset.
        name: shown to users.
        roots: folders that links may lead to; empty: anywhere.

    Attributes:
        format: of the spec's formats, the one that it is read by.
        notes: what listing the files showed; for inspection.
    """

    format: str
    task: str
    classes: list[ClassInfo]

    def __init__(self, root: Path, *, name: str, roots: Sequence[Path]) -> None:
        self.root = root
        self.name = name
        self.digest = ""
        self.notes: list[Note] = []
        self._roots = tuple(roots)
        self._items: dict[str, list[Item]] = {}

    def splits(self) -> dict[str, int]:
        """Number of images per role."""
        return {role: len(items) for role, items in self._items.items()}

    def items(self, split: str) -> list[Item]:
        """Files of a role, sorted by path."""
        if split not in self._items:
            raise CoreError(
                "dataset.missing_split", f"{self.name} has no split {split!r}", hint=f"it has {', '.join(self._items)}"
            )
        return self._items[split]

    def fingerprint(self) -> str:
        """See `base.Dataset`."""
        lines = [f"{self.root} {self.format} {self.task} {self.digest}", repr(self.classes), repr(self._facts())]
        pairs = ((item.image, item.label) for items in self._items.values() for item in items)
        lines += [f"{path} {_state(path)}" for path in sorted({path for pair in pairs for path in pair if path})]
        return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()

    def _facts(self) -> Any:
        """What opening showed beyond files and classes."""
        return self.notes

    def relative(self, path: Path) -> str:
        """A file's name as users know it: relative to the dataset's folder."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name


def _state(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "missing"
    return f"{found.st_size} {found.st_mtime_ns}"
