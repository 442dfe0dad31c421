"""Images with a mask each: what every format of masks shares, whatever its folders look like."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from acamkd_core.datasets.base import ClassInfo, Item, Sample
from acamkd_core.datasets.file_dataset import FileDataset
from acamkd_core.datasets.masks import UNKNOWN_COLOR, read_ids, read_image, train_ids, unreadable
from acamkd_core.datasets.paths import check_inside, check_name
from acamkd_core.spec.errors import CoreError


class MaskDataset(FileDataset):
    """An opened dataset with masks. A format says in its constructor which classes there are and where files lie:
    it calls this one, then `_found` with the items of every role.

    Class ids that are not 0..K-1 are moved to the class's position in `classes` (see `masks.train_ids`), so that
    targets are channels of the network; `ignore_id` is the id that targets use, `mask_ignore_id` the one on disk.

    Args:
        root, name, roots: as of `FileDataset`.
        classes: in rising order of ids.
        mask_ignore_id: id on disk that is neither trained nor scored.
        also_ignored: further ids on disk of that kind (Cityscapes has 15).
    """

    task = "semantic_segmentation"
    classes_from: ClassVar[str] = "classes.json"  # where a user would look a class up

    def __init__(
        self,
        root: Path,
        *,
        name: str,
        roots: Sequence[Path],
        classes: list[ClassInfo],
        mask_ignore_id: int,
        also_ignored: Iterable[int] = (),
    ) -> None:
        super().__init__(root, name=name, roots=roots)
        self.classes = classes
        self.mask_ignore_id = mask_ignore_id
        self.ignored_ids = frozenset({mask_ignore_id, *also_ignored})
        self._table, self.ignore_id = train_ids(classes, mask_ignore_id, also_ignored)

    def load(self, item: Item) -> Sample:
        """Pixels of one item.

        Raises:
            CoreError: `dataset.unreadable`, `dataset.size_mismatch`, `dataset.ids_outside_classes`.
        """
        image = read_image(item.image)
        if item.label is None:
            return Sample(image, None)
        raw = read_ids(item.label, self.classes, self.mask_ignore_id)
        if raw.shape != image.shape[:2]:
            raise CoreError(
                "dataset.size_mismatch",
                f"{item.image.name} is {image.shape[1]}x{image.shape[0]}, its mask {raw.shape[1]}x{raw.shape[0]}",
                hint="`acamkd datasets inspect` lists all such files",
                field="dataset",
                value=self.relative(item.image),
            )
        target = self._table[raw]
        if target.min() < 0:
            outside = sorted({int(value) for value in raw[target < 0]})
            shown = ", ".join("a colour of no class" if v == UNKNOWN_COLOR else str(v) for v in outside[:8])
            raise CoreError(
                "dataset.ids_outside_classes",
                f"mask {item.label.name} holds {shown}, which no class in {self.classes_from} has",
                hint="add the class, or make it the ignore id",
                field="dataset",
                value=self.relative(item.label),
            )
        return Sample(image, target.astype(np.uint8))

    def raw_ids(self, item: Item) -> np.ndarray:
        """The mask of a labelled item as on disk: HxW uint16 ids, unchecked. For inspection."""
        if item.label is None:
            raise unreadable(item.image, "it has no mask")
        return read_ids(item.label, self.classes, self.mask_ignore_id)

    def _found(self, items: dict[str, list[Item]]) -> None:
        """Takes the items of every role, and gives them a digest."""
        self._items = items
        self.digest = self._digest()

    def _pair(self, role: str, pairs: list[tuple[Path, Path]], strict: bool, hint: str) -> list[Item]:
        """Images with the masks that belong to them, checked; `hint` says where masks are looked for."""
        items, seen = [], dict[Path, Path]()
        for file, label in pairs:
            if label in seen:
                raise CoreError(
                    "dataset.duplicate_stem",
                    f"{self.relative(file)} and {self.relative(seen[label])} would share one mask",
                    value=self.relative(file),
                )
            seen[label] = file
            check_name(self.relative(file))
            check_inside(file, self._roots, self.relative(file))
            has_label = role != "unlabelled" and label.is_file()
            if has_label:
                check_inside(label, self._roots, self.relative(label))
            items.append(Item(file, label if has_label else None))
        missing = [self.relative(item.image) for item in items if item.label is None]
        if strict and role != "unlabelled" and missing:
            raise CoreError(
                "dataset.missing_mask",
                f"{len(missing)} of {len(items)} images of the split {role!r} have no mask: {', '.join(missing[:3])}",
                hint=f"{hint}; images without masks belong into `splits.unlabelled`",
                field=f"dataset.splits.{role}",
                value=missing[0],
            )
        return items

    def _digest(self) -> str:
        lines = [json.dumps([[c.id, c.name, list(c.color)] for c in self.classes]), f"ignore {self.mask_ignore_id}"]
        for role, items in sorted(self._items.items()):
            for item in items:
                label = f"{item.label.stat().st_size}" if item.label else "-"
                lines.append(f"{role} {self.relative(item.image)} {item.image.stat().st_size} {label}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def is_shown(path: Path, folder: Path) -> bool:
    """A file that a user put there: not `._00.png` (macOS), nor anything in `.ipynb_checkpoints`."""
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
