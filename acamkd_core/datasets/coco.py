"""Boxes in COCO's JSON (Lin et al. 2014): `images`, `annotations` with `bbox` as x, y, width, height, and `categories`.

Category ids may have gaps (COCO itself: 80 classes with ids up to 90): channel k is the k-th id in rising order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from acamkd_core.datasets.box_dataset import BoxDataset
from acamkd_core.datasets.box_labels import BoxLabels
from acamkd_core.datasets.coco_file import read_coco
from acamkd_core.datasets.paths import check_inside, is_file
from acamkd_core.spec.datasets import CocoDataset
from acamkd_core.spec.errors import CoreError

ANNOTATIONS = (
    "annotations/{split}.json",
    "annotations/instances_{split}.json",
    "boxes/{split}.json",
    "{split}/_annotations.coco.json",
)
FOLDERS = ("images/{split}", "{split}", "images")


class CocoFolder(BoxDataset):
    """An opened COCO folder. Opening reads the annotation files and checks that images exist; pixels come with `load`.

    Args:
        spec: where annotation files and images are.
        root: resolved folder of the dataset.
        roots: folders that links may lead to; empty: anywhere.
        strict: refuse missing images and foreign ids. Inspection opens with False and reports them.
    """

    format = "coco"

    def __init__(
        self,
        spec: CocoDataset,
        root: Path,
        *,
        roots: Sequence[Path] = (),
        strict: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(root, name=name or root.name, roots=roots)
        files = {role: self._read(spec, role, split) for role, split in self._roles(spec).items()}
        folders = {role: self._folder(spec, file) for role, file in files.items()}
        self._found(files, folders, strict=strict, skip_empty=spec.empty_images == "skip")

    def _roles(self, spec: CocoDataset) -> dict[str, str]:
        roles = {"train": spec.splits.train, "val": spec.splits.val}
        if spec.splits.test is not None:
            roles["test"] = spec.splits.test
        elif any((self.root / pattern.format(split="test")).is_file() for pattern in self._patterns(spec)):
            roles["test"] = "test"
        if spec.splits.unlabelled is not None:
            roles["unlabelled"] = spec.splits.unlabelled
        return roles

    @staticmethod
    def _patterns(spec: CocoDataset) -> tuple[str, ...]:
        return (spec.annotation_file,) if spec.annotation_file is not None else ANNOTATIONS

    def _read(self, spec: CocoDataset, role: str, split: str) -> BoxLabels:
        tried = [pattern.format(split=split) for pattern in self._patterns(spec)]
        for name in tried:
            path = self.root / name
            if path.is_file() and self._inside_root(path):
                check_inside(path, self._roots, name)
                return read_coco(path, split, labelled=role != "unlabelled")
        raise CoreError(
            "dataset.missing_split",
            f"there is no annotation file for the split {role!r}",
            hint=f"looked for {', '.join(tried)}; dataset.splits names the splits, e.g. {{train: train2017, val: valid}}",
            field=f"dataset.splits.{role}",
            value=split,
        )

    def _folder(self, spec: CocoDataset, file: BoxLabels) -> Path:
        patterns = (spec.image_folder,) if spec.image_folder is not None else FOLDERS
        candidates = [self.root / pattern.format(split=file.split) for pattern in patterns]
        candidates += [file.path.parent] if spec.image_folder is None else []
        first = next(iter(file.images.values()), None)
        for folder in candidates:
            if first is not None and self._inside_root(folder / first.file_name) and is_file(folder / first.file_name):
                return folder
        return next((folder for folder in candidates if folder.is_dir()), candidates[0])
