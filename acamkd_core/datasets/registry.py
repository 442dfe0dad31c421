"""From a dataset spec to an opened dataset: the one place that knows every format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from acamkd_core.datasets.base import Dataset
from acamkd_core.datasets.box_dataset import BoxDataset
from acamkd_core.datasets.cityscapes import IMAGES, Cityscapes, find_part
from acamkd_core.datasets.coco import ANNOTATIONS, CocoFolder
from acamkd_core.datasets.findings import Progress
from acamkd_core.datasets.image_folder import ImageFolder, is_image_folder
from acamkd_core.datasets.inspect import inspect_masks
from acamkd_core.datasets.inspect_boxes import inspect_boxes
from acamkd_core.datasets.inspect_labels import inspect_labels
from acamkd_core.datasets.mask_dataset import MaskDataset
from acamkd_core.datasets.mask_folder import MaskFolder
from acamkd_core.datasets.paths import check_inside, resolve_root
from acamkd_core.datasets.scenes import open_scenes
from acamkd_core.datasets.split_names import named_splits
from acamkd_core.datasets.voc import IMAGES as JPEG_IMAGES
from acamkd_core.datasets.voc import MASKS as VOC_MASKS
from acamkd_core.datasets.voc import VocBoxes, VocMasks, find_voc
from acamkd_core.datasets.yolo import DATA_FILES, Yolo, find_data_file
from acamkd_core.spec.datasets import (
    AutoDataset,
    CityscapesDataset,
    CocoDataset,
    DatasetSpec,
    FolderDataset,
    ImageFolderDataset,
    MaskFolderDataset,
    RegisteredDataset,
    ScenesDataset,
    VocDataset,
    YoloDataset,
)
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.inspection import InspectionReport
from acamkd_core.spec.tasks import TaskName


def open_dataset(
    spec: DatasetSpec,
    *,
    roots: Sequence[Path] = (),
    cache: Path | None = None,
    strict: bool = True,
    task: TaskName | None = None,
) -> MaskDataset | BoxDataset | ImageFolder:
    """Open a dataset: files are listed and classes read, no pixel is decoded. Scenes are generated when missing.

    Args:
        spec: the spec's `dataset`.
        roots: folders that datasets may lie in; empty: anywhere (a user's own machine).
        cache: where generated datasets are kept; needed for `scenes` without a root.
        strict: refuse missing masks and images at once; inspection uses False, to report them all.
        task: which labels to take where a dataset has several kinds (scenes have masks and boxes); None: masks first.

    Raises:
        CoreError: `dataset.*`, naming the field of the spec and what was looked for.
    """
    if isinstance(spec, ScenesDataset):
        if spec.root is not None:
            # The folder may not exist yet: its parent has to lie inside the roots.
            parent = resolve_root(str(Path(spec.root).parent), roots)
            return open_scenes(spec, parent / Path(spec.root).name, roots=roots, boxes=task == "detection")
        if cache is None:
            raise CoreError("dataset.no_cache", "scenes need a folder to be generated into", field="dataset.root")
        return open_scenes(spec, cache, boxes=task == "detection")
    if isinstance(spec, RegisteredDataset):
        raise CoreError(
            "dataset.not_resolved",
            f"dataset:{spec.name} is known to a server only",
            hint="submit the job to the server, or give a folder",
            field="dataset.name",
            value=spec.name,
        )
    root = resolve_root(spec.root, roots)
    if isinstance(spec, AutoDataset):
        spec = detect(spec, root, task)
    if isinstance(spec, CocoDataset):
        return CocoFolder(spec, root, roots=roots, strict=strict)
    if isinstance(spec, VocDataset):
        return _open_voc(spec, root, roots, strict, task)
    if isinstance(spec, YoloDataset):
        return Yolo(spec, root, roots=roots, strict=strict)
    if isinstance(spec, CityscapesDataset):
        return Cityscapes(spec, root, roots=roots, strict=strict)
    if isinstance(spec, ImageFolderDataset):
        return ImageFolder(spec, root, roots=roots, strict=strict)
    return MaskFolder(spec, root, roots=roots, strict=strict)


def _open_voc(
    spec: VocDataset, root: Path, roots: Sequence[Path], strict: bool, task: TaskName | None
) -> MaskDataset | BoxDataset:
    folder = find_voc(root)
    if folder is None:
        raise CoreError(
            "dataset.unknown_format",
            f"there is no {JPEG_IMAGES} in {root.name}, nor in a VOC<year> folder below it",
            field="dataset.root",
            value=spec.root,
        )
    check_inside(folder, roots, folder.name)
    kind = VocBoxes if task_of(spec, root, task) == "detection" else VocMasks
    return kind(spec, folder.resolve(), roots=roots, strict=strict)


def inspect_dataset(dataset: Dataset, *, progress: Progress | None = None, threads: int = 4) -> InspectionReport:
    """Decode every file of a dataset (opened with `strict=False`) and report what would spoil a training."""
    if isinstance(dataset, BoxDataset):
        return inspect_boxes(dataset, progress=progress, threads=threads)
    if isinstance(dataset, ImageFolder):
        return inspect_labels(dataset, progress=progress, threads=threads)
    assert isinstance(dataset, MaskDataset)
    return inspect_masks(dataset, progress=progress, threads=threads)


def task_of(spec: FolderDataset, root: Path, task: TaskName | None = None) -> TaskName:
    """What a folder's labels are for; `task` decides where it has several kinds."""
    if isinstance(spec, (CocoDataset, YoloDataset)):
        return "detection"
    if isinstance(spec, ImageFolderDataset):
        return "classification"
    if isinstance(spec, VocDataset):
        if spec.labels is not None:
            return "detection" if spec.labels == "boxes" else "semantic_segmentation"
        folder = find_voc(root)
        masks = folder is not None and (folder / VOC_MASKS).is_dir()
        return task or ("semantic_segmentation" if masks else "detection")
    return "semantic_segmentation"


def detect(spec: AutoDataset, root: Path, task: TaskName | None = None) -> FolderDataset:
    """The format of a folder, as the object form of the spec.

    Raises:
        CoreError: `dataset.unknown_format`, with what was looked for and what was found.
    """
    wanted = ("images", "masks", "classes.json")
    missing = [name for name in wanted if not (root / name).exists()]

    def annotated(split: str) -> bool:
        return any((root / pattern.format(split=split)).is_file() for pattern in ANNOTATIONS)

    coco = named_splits(spec.splits, annotated)
    boxes = annotated(coco.train)
    if not missing and not (boxes and task == "detection"):
        splits = named_splits(spec.splits, lambda split: (root / "masks" / split).is_dir())
        return MaskFolderDataset(format="mask_folder", root=spec.root, splits=splits)
    if find_part(root, IMAGES).is_dir():
        return CityscapesDataset(format="cityscapes", root=spec.root, splits=spec.splits)
    if boxes:
        return CocoDataset(format="coco", root=spec.root, splits=coco)
    if find_voc(root) is not None:
        return VocDataset(format="voc", root=spec.root, splits=spec.splits)
    if find_data_file(root) is not None:
        return YoloDataset(format="yolo", root=spec.root, splits=spec.splits)
    splits = named_splits(spec.splits, lambda split: (root / split).is_dir())
    if is_image_folder(root, splits.train):
        return ImageFolderDataset(format="image_folder", root=spec.root, splits=splits)
    found = sorted(path.name for path in root.iterdir())[:12]
    raise CoreError(
        "dataset.unknown_format",
        f"no known dataset format in {root.name}: mask_folder needs {', '.join(wanted)} (missing {', '.join(missing)}); "
        f"cityscapes needs {IMAGES}; "
        f"coco needs an annotation file such as {ANNOTATIONS[0].format(split=spec.splits.train)}; voc needs {JPEG_IMAGES}; yolo needs {DATA_FILES[0]}; image_folder needs {spec.splits.train}/<class>/ with images",
        hint=f"found: {', '.join(found) or 'an empty folder'}",
        field="dataset.root",
        value=spec.root,
    )
