"""Looking at every image and box before anything trains on it."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np

from acamkd_core.datasets.base import Item
from acamkd_core.datasets.box_dataset import BoxDataset
from acamkd_core.datasets.box_labels import BoxLabels
from acamkd_core.datasets.findings import (
    Progress,
    Seen,
    by_kind,
    class_findings,
    finding,
    grey_images,
    look_at_image,
    sharing,
    walk,
    write_up,
)
from acamkd_core.datasets.paths import is_file
from acamkd_core.spec.inspection import ClassSummary, Finding, InspectionReport, ObjectSizes, SplitSummary

SIDES = [0, 8, 16, 32, 64, 96, 192, 384]  # pixels, with COCO's 32 and 96 among them


def inspect_boxes(dataset: BoxDataset, *, progress: Progress | None = None, threads: int = 4) -> InspectionReport:
    """Decode every image, and report what of images and boxes would spoil a training.

    Args:
        dataset: opened with `strict=False`, so that missing images are reported rather than refused.
        progress: called with (images done, images in all) from this thread; an exception in it ends the inspection.
        threads: decoding threads.
    """
    start = time.monotonic()
    seen = walk(dataset, lambda role, item: _look(dataset, role, item), progress, threads)
    classes = _class_summaries(dataset)
    findings = [
        *_image_findings(dataset, seen),
        *sharing(dataset, seen),
        *grey_images(dataset, seen),
        *class_findings(dataset, classes, "boxes"),
        *(one for role, file in dataset.files.items() for one in _file_findings(dataset, role, file)),
    ]
    splits = [_split_summary(dataset, role) for role in dataset.splits()]
    return write_up(
        dataset,
        seen,
        findings,
        splits=splits,
        classes=classes,
        ignore_id=None,
        started=start,
        object_sizes=_object_sizes(dataset),
    )


def _look(dataset: BoxDataset, role: str, item: Item) -> Seen:
    entry = Seen(role, item)
    if not is_file(item.image):
        entry.problems.append(("dataset.missing_image", ""))
    elif item.image.stat().st_size == 0:
        entry.problems.append(("dataset.empty_file", dataset.relative(item.image)))
    else:
        look_at_image(entry)
        stated = dataset.stated_size(item)
        if entry.size is not None and stated is not None and stated != entry.size:
            detail = f"{entry.size[1]}x{entry.size[0]}, not {stated[1]}x{stated[0]}"
            entry.problems.append(("dataset.image_size", detail))
        if role != "unlabelled" and len(dataset.boxes(item)) == 0:
            entry.problems.append(("dataset.no_boxes", ""))
    return entry


def _image_findings(dataset: BoxDataset, seen: list[Seen]) -> list[Finding]:
    return [
        finding(code, role, len(found), [dataset.relative(entry.item.image) for entry, _ in found], found[0][1])
        for (code, role), found in by_kind(seen).items()
    ]


def _file_findings(dataset: BoxDataset, role: str, file: BoxLabels) -> list[Finding]:
    def names(ids: list[int]) -> list[str]:
        return [dataset.image_name(role, number) for number in ids]

    def some(ids: list[int]) -> str:
        return ", ".join(map(str, sorted(set(ids))[:8]))

    found = []
    if file.twice:
        found.append(finding("dataset.image_twice", role, len(file.twice), file.twice, ""))
    if file.unknown_images:
        found.append(finding("dataset.unknown_image", role, len(file.unknown_images), [], some(file.unknown_images)))
    if file.unknown_categories:
        detail = some(file.unknown_categories)
        found.append(finding("dataset.unknown_category", role, len(file.unknown_categories), [], detail))
    if file.bad:
        told = f"in {len(set(file.bad))} images"
        found.append(finding("dataset.bad_boxes", role, len(file.bad), names(file.bad), told))
    if file.outside:
        found.append(finding("dataset.boxes_outside", role, len(file.outside), names(file.outside), ""))
    found += [finding(*note) for note in file.notes]
    ids = sorted(file.categories)
    if role == "train" and ids[-1] - ids[0] + 1 != len(ids):
        detail = f"{len(ids)} categories with ids from {ids[0]} to {ids[-1]}"
        found.append(finding("dataset.category_gaps", role, len(ids), [], detail))
    return found


def _class_summaries(dataset: BoxDataset) -> list[ClassSummary]:
    boxes: dict[str, Counter[int]] = {role: Counter() for role in dataset.splits()}
    images: dict[str, Counter[int]] = {role: Counter() for role in dataset.splits()}
    for role in dataset.splits():
        for item in dataset.items(role):
            found = dataset.boxes(item)
            labels = found.labels[~found.crowd].tolist()  # nothing is trained on a crowd, and none is scored
            boxes[role].update(labels)
            images[role].update(set(labels))
    return [
        ClassSummary(
            index=index,
            id=info.id,
            name=info.name,
            color=info.color,
            pixels={},
            boxes={role: counts[index] for role, counts in boxes.items()},
            images={role: counts[index] for role, counts in images.items()},
        )
        for index, info in enumerate(dataset.classes)
    ]


def _object_sizes(dataset: BoxDataset) -> list[ObjectSizes]:
    roles = [role for role in dataset.splits() if role != "unlabelled"]
    counts = {}
    for role in roles:
        found = [dataset.boxes(item) for item in dataset.items(role)]
        areas = np.concatenate([boxes.area[~boxes.crowd] for boxes in found])
        counts[role] = np.histogram(np.sqrt(np.maximum(areas, 0)), bins=[*SIDES, np.inf])[0].tolist()
    return [
        ObjectSizes(side=side, below=below, boxes={role: counts[role][at] for role in roles})
        for at, (side, below) in enumerate(zip(SIDES, [*SIDES[1:], None], strict=True))
    ]


def _split_summary(dataset: BoxDataset, role: str) -> SplitSummary:
    items = dataset.items(role)
    labelled = [item for item in items if item.label is not None]
    found = [dataset.boxes(item) for item in labelled]
    return SplitSummary(
        role=role,
        images=len(items),
        labelled=len(labelled),
        pixels=0,
        ignored=0,
        boxes=sum(len(one) for one in found),
        crowd=sum(int(one.crowd.sum()) for one in found),
    )
