"""Looking at every image of a classification dataset before anything trains on it."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict

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
from acamkd_core.datasets.image_folder import ImageFolder
from acamkd_core.spec.inspection import ClassSummary, Finding, InspectionReport, SplitSummary

TINY, LARGE = 32, 64  # pixels of a short side: an image below the first is odd where half of all reach the second


def inspect_labels(dataset: ImageFolder, *, progress: Progress | None = None, threads: int = 4) -> InspectionReport:
    """Decode every image, and report what of images and classes would spoil a training.

    Args:
        dataset: opened with `strict=False`, so that foreign classes are reported rather than refused.
        progress: called with (images done, images in all) from this thread; an exception in it ends the inspection.
        threads: decoding threads.
    """
    start = time.monotonic()
    seen = walk(dataset, lambda role, item: _look(dataset, role, item), progress, threads)
    classes = _class_summaries(dataset)
    findings = [
        *(
            finding(code, role, len(found), [dataset.relative(entry.item.image) for entry, _ in found], found[0][1])
            for (code, role), found in by_kind(seen).items()
        ),
        *sharing(dataset, seen),
        *_contradictions(dataset, seen),
        *grey_images(dataset, seen),
        *_tiny_images(dataset, seen),
        *class_findings(dataset, classes, "images"),
        *_notes(dataset),
    ]
    splits = [_split_summary(dataset, role) for role in dataset.splits()]
    return write_up(dataset, seen, findings, splits=splits, classes=classes, ignore_id=None, started=start)


def _look(dataset: ImageFolder, role: str, item: Item) -> Seen:
    entry = Seen(role, item)
    if item.image.stat().st_size == 0:
        entry.problems.append(("dataset.empty_file", dataset.relative(item.image)))
    else:
        look_at_image(entry)
    return entry


def _notes(dataset: ImageFolder) -> list[Finding]:
    """What listing the files showed, one finding a kind and split: foreign files are noted folder by folder."""
    merged: dict[tuple[str, str], tuple[int, list[str], str]] = {}
    for code, role, count, files, detail in dataset.notes:
        before = merged.get((code, role), (0, [], detail))
        merged[code, role] = (before[0] + count, before[1] + files, detail)
    return [finding(code, role, *rest) for (code, role), rest in merged.items()]


def _contradictions(dataset: ImageFolder, seen: list[Seen]) -> list[Finding]:
    """Images of one split with the same bytes and several classes."""
    places: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for entry in seen:
        if entry.digest is not None and entry.item.label is not None:
            places[entry.role, entry.digest].append(entry.item)
    found: dict[str, list[str]] = defaultdict(list)
    for (role, _), items in places.items():
        if len({dataset.position(item) for item in items}) > 1:
            found[role] += [dataset.relative(item.image) for item in items]
    return [finding("dataset.contradicting_labels", role, len(files), files, "") for role, files in found.items()]


def _tiny_images(dataset: ImageFolder, seen: list[Seen]) -> list[Finding]:
    """Tiny images among large ones, split by split."""
    sides = [(entry, min(entry.size)) for entry in seen if entry.size is not None]
    if not sides or statistics.median(side for _, side in sides) < LARGE:
        return []
    tiny: dict[str, list[str]] = defaultdict(list)
    for entry, side in sides:
        if side < TINY:
            tiny[entry.role].append(dataset.relative(entry.item.image))
    return [finding("dataset.tiny_images", role, len(files), files, str(TINY)) for role, files in tiny.items()]


def _class_summaries(dataset: ImageFolder) -> list[ClassSummary]:
    images = {
        role: Counter(dataset.position(item) for item in dataset.items(role) if item.label is not None)
        for role in dataset.splits()
    }
    return [
        ClassSummary(
            index=index,
            id=info.id,
            name=info.name,
            color=info.color,
            pixels={},
            images={role: counts[index] for role, counts in images.items()},
        )
        for index, info in enumerate(dataset.classes)
    ]


def _split_summary(dataset: ImageFolder, role: str) -> SplitSummary:
    items = dataset.items(role)
    labelled = sum(item.label is not None for item in items)
    return SplitSummary(role=role, images=len(items), labelled=labelled, pixels=0, ignored=0)
