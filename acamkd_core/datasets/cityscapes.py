"""Cityscapes (Cordts et al. 2016) as it is downloaded: `leftImg8bit/<split>/<city>/` with `gtFine/<split>/<city>/`.

Masks hold 34 label ids, of which 19 are scored; the numbers and colours are those of the dataset's public label table.
Masks that were converted to train ids (`*_labelTrainIds.png`) give the same targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from acamkd_core.datasets.base import ClassInfo, Item, Note
from acamkd_core.datasets.mask_dataset import MaskDataset, is_shown
from acamkd_core.datasets.paths import check_inside
from acamkd_core.spec.datasets import CityscapesDataset
from acamkd_core.spec.errors import CoreError

IMAGES = "leftImg8bit"
LABEL_IDS = 34  # 0..33; the table's -1 (license plate) is drawn by no tool, some write it as 255
IGNORE = 255
# Label id, name, colour of the 19 scored classes; their train id is the position.
CLASSES: tuple[tuple[int, str, tuple[int, int, int]], ...] = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)


def find_part(root: Path, part: str) -> Path:
    """The folder `leftImg8bit` or `gtFine`, also where each archive was unpacked into a folder of its own."""
    unpacked = root / f"{part}_trainvaltest" / part
    return unpacked if unpacked.is_dir() and not (root / part).is_dir() else root / part


class Cityscapes(MaskDataset):
    """An opened Cityscapes folder.

    There is a test split only where it is asked for: the published masks of Cityscapes' test images are empty.

    Args:
        spec: splits, fine or coarse masks, label ids or train ids.
        root: resolved folder of the dataset.
        roots: folders that links may lead to; empty: anywhere.
        strict: refuse missing masks. Inspection opens with False and reports them.
    """

    format = "cityscapes"

    classes_from: ClassVar[str] = "Cityscapes' label table"

    def __init__(self, spec: CityscapesDataset, root: Path, *, roots: Sequence[Path] = (), strict: bool = True) -> None:
        self._images = find_part(root, IMAGES)
        self._masks = find_part(root, spec.annotations)
        for folder in (self._images, self._masks):
            check_inside(folder, roots, folder.name)
        kind = spec.labels or self._kind(spec)
        self._ending = f"_{spec.annotations}_{kind}.png"
        raw = kind == "labelIds"
        classes = [ClassInfo(i if raw else position, name, color) for position, (i, name, color) in enumerate(CLASSES)]
        scored = {info.id for info in classes}
        super().__init__(
            root,
            name=root.name,
            roots=roots,
            classes=classes,
            mask_ignore_id=IGNORE,
            also_ignored=[i for i in range(LABEL_IDS) if i not in scored] if raw else (),
        )
        named = spec.splits.model_dump(exclude_none=True)
        self._found({role: self._list(role, split, strict) for role, split in named.items()})

    def _kind(self, spec: CityscapesDataset) -> str:
        """Train ids where nothing else is there: label ids are what the archives hold, and need no other script."""
        where = self._masks / spec.splits.train
        if any(where.rglob("*_labelIds.png")) or not any(where.rglob("*_labelTrainIds.png")):
            return "labelIds"
        return "labelTrainIds"

    def _list(self, role: str, split: str, strict: bool) -> list[Item]:
        where, masks = self._images / split, self._masks / split
        check_inside(where, self._roots, f"split {split!r}")
        check_inside(masks, self._roots, f"masks of the split {split!r}")
        images = sorted(p for p in where.rglob(f"*_{IMAGES}.png") if is_shown(p, where)) if where.is_dir() else []
        if not images:
            present = sorted(p.name for p in self._images.iterdir() if p.is_dir()) if self._images.is_dir() else []
            raise CoreError(
                "dataset.empty_split" if where.is_dir() else "dataset.missing_split",
                f"there is no {IMAGES}/{split}/<city>/*_{IMAGES}.png for the split {role!r}",
                hint=f"{IMAGES}/ has {', '.join(present) or 'no folders'}",
                field=f"dataset.splits.{role}",
                value=split,
            )
        pairs = [(image, masks / image.relative_to(where).parent / self._mask_name(image)) for image in images]
        if role != "unlabelled" and masks.is_dir():
            alone = set(masks.rglob(f"*{self._ending}")) - {mask for _, mask in pairs}
            if alone:
                self.notes.append(
                    Note("dataset.mask_without_image", role, len(alone), [self.relative(mask) for mask in alone], "")
                )
        hint = f"masks are {self._masks.name}/{split}/<city>/*{self._ending}"
        return self._pair(role, pairs, strict, hint)

    def _mask_name(self, image: Path) -> str:
        return image.name.removesuffix(f"_{IMAGES}.png") + self._ending
