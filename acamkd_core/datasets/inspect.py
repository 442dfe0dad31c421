"""Looking at every image and mask of a dataset before anything trains on it."""

from __future__ import annotations

import time

import numpy as np

from acamkd_core.datasets.base import Item
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
from acamkd_core.datasets.mask_dataset import MaskDataset
from acamkd_core.datasets.masks import UNKNOWN_COLOR
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.inspection import ClassSummary, Finding, InspectionReport, SplitSummary


def inspect_masks(dataset: MaskDataset, *, progress: Progress | None = None, threads: int = 4) -> InspectionReport:
    """Decode every image and mask, and report what would spoil a training.

    Args:
        dataset: opened with `strict=False`, so that missing masks are reported rather than refused.
        progress: called with (images done, images in all) from this thread; an exception in it ends the inspection.
        threads: decoding threads (Pillow and hashing release the interpreter lock).
    """
    start = time.monotonic()
    seen = walk(dataset, lambda role, item: _look(dataset, role, item), progress, threads)
    classes = _class_summaries(dataset, seen)
    findings = [
        *_file_findings(dataset, seen),
        *sharing(dataset, seen),
        *grey_images(dataset, seen),
        *class_findings(dataset, classes, "pixels"),
        *(finding(*note) for note in dataset.notes),
    ]
    splits = [_split_summary(dataset, role, seen) for role in dataset.splits()]
    return write_up(
        dataset, seen, findings, splits=splits, classes=classes, ignore_id=dataset.mask_ignore_id, started=start
    )


def _look(dataset: MaskDataset, role: str, item: Item) -> Seen:
    entry = Seen(role, item)
    for path in (item.image, item.label):
        if path is not None and path.stat().st_size == 0:
            entry.problems.append(("dataset.empty_file", dataset.relative(path)))
    if entry.problems:
        return entry
    look_at_image(entry)
    if item.label is None:
        if role != "unlabelled":
            entry.problems.append(("dataset.missing_mask", ""))
        return entry
    try:
        ids = dataset.raw_ids(item)
    except CoreError as error:
        entry.problems.append((error.code, str(error)))
        return entry
    entry.counts = np.bincount(ids.ravel(), minlength=UNKNOWN_COLOR + 1)
    known = dataset.ignored_ids | {c.id for c in dataset.classes}
    outside = [int(value) for value in np.nonzero(entry.counts)[0] if int(value) not in known]
    if outside:
        entry.problems.append(("dataset.ids_outside_classes", " ".join(map(str, outside))))
    if entry.counts[list(dataset.ignored_ids)].sum() == ids.size:
        entry.problems.append(("dataset.all_ignored", ""))
    if entry.size is not None and entry.size != _shape(ids):
        image, mask = entry.size, _shape(ids)
        entry.problems.append(("dataset.size_mismatch", f"{image[1]}x{image[0]} and {mask[1]}x{mask[0]}"))
    return entry


def _shape(pixels: np.ndarray) -> tuple[int, int]:
    return int(pixels.shape[0]), int(pixels.shape[1])


def _file_findings(dataset: MaskDataset, seen: list[Seen]) -> list[Finding]:
    findings = []
    for (code, role), entries in by_kind(seen).items():
        details = [detail for _, detail in entries]
        detail = details[0]
        if code == "dataset.ids_outside_classes":
            values = sorted({int(word) for text in details for word in text.split()})
            words = ["a colour of no class" if value == UNKNOWN_COLOR else str(value) for value in values]
            detail = ", ".join(words[:12]) + (" ..." if len(words) > 12 else "")
        images = [entry.item.image for entry, _ in entries]
        masks = [entry.item.label for entry, _ in entries]
        of_masks = code in ("dataset.ids_outside_classes", "dataset.all_ignored", "dataset.mask_mode")
        files = [mask or image for image, mask in zip(images, masks, strict=True)] if of_masks else images
        names = details if code == "dataset.empty_file" else [dataset.relative(file) for file in files]
        findings.append(finding(code, role, len(entries), names, detail))
    return findings


def _class_summaries(dataset: MaskDataset, seen: list[Seen]) -> list[ClassSummary]:
    pixels: dict[str, np.ndarray] = {}
    images: dict[str, np.ndarray] = {}
    for entry in seen:
        if entry.counts is not None:
            pixels[entry.role] = pixels.get(entry.role, 0) + entry.counts
            images[entry.role] = images.get(entry.role, 0) + (entry.counts > 0)
    return [
        ClassSummary(
            index=index,
            id=info.id,
            name=info.name,
            color=info.color,
            pixels={role: int(counts[info.id]) for role, counts in pixels.items()},
            images={role: int(counts[info.id]) for role, counts in images.items()},
        )
        for index, info in enumerate(dataset.classes)
    ]


def _split_summary(dataset: MaskDataset, role: str, seen: list[Seen]) -> SplitSummary:
    entries = [entry for entry in seen if entry.role == role]
    counts = [entry.counts for entry in entries if entry.counts is not None]
    return SplitSummary(
        role=role,
        images=len(entries),
        labelled=len(counts),
        pixels=int(sum(c.sum() for c in counts)),
        ignored=int(sum(c[list(dataset.ignored_ids)].sum() for c in counts)),
    )
