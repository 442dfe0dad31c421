"""`images/<split>/*` with `masks/<split>/<same stem>.png` and a `classes.json`: the native segmentation format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from acamkd_core.datasets.base import ClassInfo, Item
from acamkd_core.datasets.classes import read_classes
from acamkd_core.datasets.mask_dataset import MaskDataset, is_shown
from acamkd_core.datasets.paths import IMAGE_SUFFIXES, check_inside
from acamkd_core.spec.datasets import MaskFolderDataset
from acamkd_core.spec.errors import CoreError


class MaskFolder(MaskDataset):
    """An opened mask folder. Opening lists files and reads `classes.json`; pixels come with `load`.

    Args:
        spec: folder names, splits, ignore id.
        root: resolved folder of the dataset.
        roots: folders that links may lead to; empty: anywhere.
        strict: refuse missing masks. Inspection opens with False and reports them.
    """

    format = "mask_folder"

    def __init__(
        self,
        spec: MaskFolderDataset,
        root: Path,
        *,
        roots: Sequence[Path] = (),
        strict: bool = True,
        name: str | None = None,
    ) -> None:
        classes_file = root / "classes.json"
        if not classes_file.is_file():
            raise CoreError(
                "dataset.classes_missing",
                f"{root.name} has no classes.json",
                hint="write the classes' names, ids and colours into it",
                field="dataset.root",
            )
        check_inside(classes_file, roots, "classes.json")
        declared = read_classes(classes_file)
        super().__init__(
            root,
            name=name or root.name,
            roots=roots,
            classes=declared.classes,
            mask_ignore_id=_ignore_id(spec, declared.ignore_id, declared.classes),
        )
        self._images = root / spec.image_folder
        self._masks = root / spec.mask_folder
        self._found({role: self._list(role, folder, strict) for role, folder in self._roles(spec).items()})

    def _roles(self, spec: MaskFolderDataset) -> dict[str, str]:
        roles = {"train": spec.splits.train, "val": spec.splits.val}
        if spec.splits.test is not None:
            roles["test"] = spec.splits.test
        # Many datasets publish the images of their test split without labels: those cannot be scored here.
        elif (self._images / "test").is_dir() and (self._masks / "test").is_dir():
            roles["test"] = "test"
        if spec.splits.unlabelled is not None:
            roles["unlabelled"] = spec.splits.unlabelled
        return roles

    def _list(self, role: str, folder: str, strict: bool) -> list[Item]:
        where = self._images / folder
        check_inside(where, self._roots, f"split {folder!r}")
        if not where.is_dir():
            present = sorted(p.name for p in self._images.iterdir() if p.is_dir()) if self._images.is_dir() else []
            raise CoreError(
                "dataset.missing_split",
                f"there is no folder {self._images.name}/{folder} for the split {role!r}",
                hint=f"{self._images.name}/ has {', '.join(present) or 'no folders'}",
                field=f"dataset.splits.{role}",
                value=folder,
            )
        files = sorted(p for p in where.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and is_shown(p, where))
        if not files:
            raise CoreError(
                "dataset.empty_split",
                f"{self._images.name}/{folder} holds no images",
                hint="known endings: " + " ".join(sorted(IMAGE_SUFFIXES)),
                field=f"dataset.splits.{role}",
                value=folder,
            )
        pairs = [(file, self._masks / folder / file.relative_to(where).with_suffix(".png")) for file in files]
        return self._pair(role, pairs, strict, f"masks are {self._masks.name}/{folder}/<same name>.png")


def _ignore_id(spec: MaskFolderDataset, declared: int | None, classes: list[ClassInfo]) -> int:
    ignore = spec.ignore_id if spec.ignore_id is not None else declared if declared is not None else 255
    for info in classes:
        if info.id == ignore:
            raise CoreError(
                "dataset.ignore_is_class",
                f"ignore id {ignore} is the id of the class {info.name!r}",
                hint="choose an id that no class has",
                field="dataset.ignore_id",
                value=ignore,
            )
    return ignore
