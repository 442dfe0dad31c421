"""The dataset `scenes`: procedural street scenes, written once as a mask folder, then opened as one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from acamkd_core.datasets.box_dataset import BoxDataset
from acamkd_core.datasets.coco import CocoFolder
from acamkd_core.datasets.mask_folder import MaskFolder
from acamkd_core.datasets.scenes_canvas import CLASSES, THINGS
from acamkd_core.datasets.scenes_write import Written, write_all
from acamkd_core.spec.datasets import CocoDataset, MaskFolderDataset, ScenesDataset, Splits
from acamkd_core.spec.errors import CoreError

GENERATOR = 2  # raise it whenever a pixel changes: it is part of the folder's name
MARKER = "complete.json"


def open_scenes(
    spec: ScenesDataset, folder: Path, *, roots: Sequence[Path] = (), boxes: bool = False
) -> MaskFolder | BoxDataset:
    """The scenes of a spec, generated below `folder` unless they are there: as a mask folder, or with their boxes.

    Raises:
        CoreError: `dataset.missing_split` for a split that the generator does not make.
    """
    counts = split_counts(spec)
    for role, name in spec.splits.model_dump(exclude_none=True).items():
        if name not in counts:
            raise CoreError(
                "dataset.missing_split",
                f"scenes have no split {name!r}",
                hint=f"they have {', '.join(counts)}",
                field=f"dataset.splits.{role}",
                value=name,
            )
    root = generate(spec, folder)
    splits = spec.splits
    if "unlabelled" in counts and splits.unlabelled is None:
        splits = splits.model_copy(update={"unlabelled": "unlabelled"})
    inside = (*roots, folder) if roots else ()
    pixels = json.loads((root / MARKER).read_text(encoding="utf-8"))["digest"]
    if boxes:
        named = Splits(**splits.model_copy(update={"unlabelled": None}).model_dump())
        as_boxes = CocoDataset(
            format="coco",
            root=str(root),
            splits=named,
            annotation_file="boxes/{split}.json",
            image_folder="images/{split}",
        )
        found = CocoFolder(as_boxes, root.resolve(), roots=inside, name="scenes")
        found.digest = hashlib.sha256(f"boxes {pixels}".encode()).hexdigest()[:12]
        return found
    as_folder = MaskFolderDataset(format="mask_folder", root=str(root), splits=Splits(**splits.model_dump()))
    dataset = MaskFolder(as_folder, root.resolve(), roots=inside, name="scenes")
    # The digest over pixels: file sizes depend on the zlib of the machine that wrote them.
    dataset.digest = pixels[:12]
    return dataset


def split_counts(spec: ScenesDataset) -> dict[str, int]:
    """Images per generated split."""
    counts = {"train": spec.train_images, "val": spec.val_images, "test": spec.test_images}
    return counts | ({"unlabelled": spec.unlabelled_images} if spec.unlabelled_images else {})


def generate(spec: ScenesDataset, folder: Path) -> Path:
    """Write the scenes into `folder/scenes-<key>` and return it; a complete folder is reused.

    Safe when several processes do it at once: each writes aside and renames, the first one wins, and all of them
    write the same bytes. The marker holds a digest over every pixel and is written last.
    """
    counts = split_counts(spec)
    recipe = {"generator": GENERATOR, "counts": counts, "size": list(spec.size), "seed": spec.seed}
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
    final = folder / f"scenes-{key}"
    if (final / MARKER).is_file():
        return final
    folder.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".scenes-{key}-", dir=folder))
    try:
        digest = _write(aside, spec, counts)
        (aside / MARKER).write_text(json.dumps(recipe | {"digest": digest}, indent=1), encoding="utf-8")
        aside.chmod(0o755)  # mkdtemp makes it private; a worker may run as another user
        try:
            os.rename(aside, final)
        except OSError:
            # Another process was first. A folder without its marker is no product of the rename: make room.
            if not (final / MARKER).is_file():
                shutil.rmtree(final, ignore_errors=True)
                os.rename(aside, final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return final


def _write(root: Path, spec: ScenesDataset, counts: dict[str, int]) -> str:
    """Write everything but the marker; returns the digest over all pixels and boxes, in order."""
    (root / "boxes").mkdir()
    for split in counts:
        (root / "images" / split).mkdir(parents=True)
        if split != "unlabelled":
            (root / "masks" / split).mkdir(parents=True)
    written = write_all(root, counts, spec.seed, spec.size)
    digest = hashlib.sha256()
    for split in counts:
        entries = [written[split, index] for index in range(counts[split])]
        for entry in entries:
            digest.update(entry.digest.encode())
        if split != "unlabelled":
            text = json.dumps(_coco(entries, spec.size))
            (root / "boxes" / f"{split}.json").write_text(text, encoding="utf-8")
            digest.update(text.encode())
    classes = [{"id": i, "name": name, "color": list(color)} for i, (name, color) in enumerate(CLASSES)]
    about = {"name": "scenes", "classes": classes, "ignore_index": 255}
    (root / "classes.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    return digest.hexdigest()


def _coco(scenes: list[Written], size: tuple[int, int]) -> dict[str, list[dict[str, object]]]:
    """Boxes in COCO's layout; category ids are class ids plus one, as COCO counts from one."""
    height, width = size
    annotations: list[dict[str, object]] = []
    for number, scene in enumerate(scenes):
        for kind, x, y, w, h in scene.boxes:
            box = [x, y, w, h]
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": kind + 1,
                                "bbox": box, "area": w * h, "iscrowd": 0})  # fmt: skip
    return {
        "images": [
            {"id": number, "file_name": scene.name, "height": height, "width": width}
            for number, scene in enumerate(scenes)
        ],
        "categories": [{"id": kind + 1, "name": CLASSES[kind][0]} for kind in THINGS],
        "annotations": annotations,
    }
