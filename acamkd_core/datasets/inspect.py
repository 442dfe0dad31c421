"""Looking at every file of a dataset before anything trains on it."""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from acamkd_core.datasets.base import Item
from acamkd_core.datasets.mask_folder import MaskFolder
from acamkd_core.datasets.masks import UNKNOWN_COLOR, read_image
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.inspection import ClassSummary, Finding, InspectionReport, Severity, SizeCount, SplitSummary

EXAMPLES = 10  # file names shown with a finding
Progress = Callable[[int, int], None]


@dataclass
class _Seen:
    """What one item showed. `problems` are (code, detail) pairs; `counts` are pixels by raw id (0..256)."""

    role: str
    item: Item
    digest: str | None = None
    size: tuple[int, int] | None = None
    counts: np.ndarray | None = None
    problems: list[tuple[str, str]] = field(default_factory=list)


# Code -> (severity, sentence with {count} and {detail}, hint). An error is what loading a sample would fail on;
# what makes results doubtful is a warning, as the owner of the data may have reasons. A split that is to be scored and
# has no labelled pixel is an error too: every student would score 0 on it.
_KINDS: dict[str, tuple[Severity, str, str | None]] = {
    "dataset.unreadable": ("error", "{count} files cannot be read ({detail})", "replace or remove them"),
    "dataset.empty_file": (
        "error",
        "{count} files are empty",
        "copy them again: an interrupted copy leaves such files",
    ),
    "dataset.image_mode": ("error", "{count} images have more than 8 bits a channel", "convert them to 8 bits"),
    "dataset.mask_mode": ("error", "{count} masks are neither 8-bit ids, palette nor RGB", "save them as 8-bit PNG"),
    "dataset.missing_mask": ("error", "{count} images have no mask", "add masks/<split>/<same name>.png"),
    "dataset.size_mismatch": ("error", "{count} masks have another size than their image ({detail})", None),
    "dataset.ids_outside_classes": (
        "error",
        "{count} masks hold ids that classes.json does not name: {detail}",
        "add the classes, or choose the ignore id that the masks use",
    ),
    "dataset.all_ignored": ("warning", "{count} masks hold nothing but the ignore id", "such images teach nothing"),
    "dataset.duplicate_images": ("warning", "{count} images occur twice in the split", None),
    "dataset.shared_images": (
        "warning",
        "{count} images are also in {detail}: scores on them mean nothing",
        "remove them from one of the splits",
    ),
    "dataset.class_without_pixels": ("warning", "{count} classes have no pixel: {detail}", None),
    "dataset.nothing_to_score": ("error", "the split has no labelled pixel", "label some of its images"),
    "dataset.class_never_trained": (
        "warning",
        "{count} classes are scored but have no training pixel: {detail}",
        "add images that show them, or drop the classes",
    ),
}


def inspect_dataset(dataset: MaskFolder, *, progress: Progress | None = None, threads: int = 4) -> InspectionReport:
    """Decode every image and mask, and report what would spoil a training.

    Args:
        dataset: opened with `strict=False`, so that missing masks are reported rather than refused.
        progress: called with (images done, images in all) from this thread; an exception in it ends the inspection.
        threads: decoding threads (Pillow and hashing release the interpreter lock).
    """
    start = time.monotonic()
    work = [(role, item) for role in dataset.splits() for item in dataset.items(role)]
    seen: list[_Seen] = []
    pool = ThreadPoolExecutor(max_workers=max(1, threads))
    try:
        for entry in pool.map(lambda job: _look(dataset, *job), work):
            seen.append(entry)
            if progress is not None:
                progress(len(seen), len(work))
    finally:
        pool.shutdown(cancel_futures=True)  # a caller that stops (by raising in `progress`) waits for no more files
    classes = _class_summaries(dataset, seen)
    findings = [*_file_findings(dataset, seen), *_sharing(dataset, seen), *_class_findings(dataset, classes)]
    findings.sort(key=lambda finding: (finding.severity != "error", finding.code))
    sizes = Counter(entry.size for entry in seen if entry.size is not None)
    return InspectionReport(
        name=dataset.name,
        digest=dataset.digest,
        task=dataset.task,
        ignore_id=dataset.mask_ignore_id,
        findings=findings,
        splits=[_split_summary(dataset, role, seen) for role in dataset.splits()],
        classes=classes,
        sizes=[SizeCount(height=h, width=w, count=n) for (h, w), n in sizes.most_common(20)],
        seconds=round(time.monotonic() - start, 3),
    )


def _look(dataset: MaskFolder, role: str, item: Item) -> _Seen:
    entry = _Seen(role, item)
    for path in (item.image, item.label):
        if path is not None and path.stat().st_size == 0:
            entry.problems.append(("dataset.empty_file", dataset.relative(path)))
    if entry.problems:
        return entry
    try:
        entry.digest = hashlib.sha256(item.image.read_bytes()).hexdigest()
        entry.size = _shape(read_image(item.image))
    except (CoreError, OSError) as error:
        code = error.code if isinstance(error, CoreError) else "dataset.unreadable"
        entry.problems.append((code, str(error)))
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
    known = {*(c.id for c in dataset.classes), dataset.mask_ignore_id}
    outside = [int(value) for value in np.nonzero(entry.counts)[0] if int(value) not in known]
    if outside:
        entry.problems.append(("dataset.ids_outside_classes", " ".join(map(str, outside))))
    if entry.counts[dataset.mask_ignore_id] == ids.size:
        entry.problems.append(("dataset.all_ignored", ""))
    if entry.size is not None and entry.size != _shape(ids):
        image, mask = entry.size, _shape(ids)
        entry.problems.append(("dataset.size_mismatch", f"{image[1]}x{image[0]} and {mask[1]}x{mask[0]}"))
    return entry


def _shape(pixels: np.ndarray) -> tuple[int, int]:
    return int(pixels.shape[0]), int(pixels.shape[1])


def _file_findings(dataset: MaskFolder, seen: list[_Seen]) -> list[Finding]:
    grouped: dict[tuple[str, str], list[tuple[_Seen, str]]] = defaultdict(list)
    for entry in seen:
        for code, detail in entry.problems:
            grouped[code, entry.role].append((entry, detail))
    findings = []
    for (code, role), entries in grouped.items():
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
        findings.append(_finding(code, role, len(entries), names, detail))
    return findings


def _sharing(dataset: MaskFolder, seen: list[_Seen]) -> list[Finding]:
    """Images with the same bytes: across splits (a leak), and within one (a warning)."""
    places: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for entry in seen:
        if entry.digest is not None:
            places[entry.digest][entry.role].append(entry.item.image)
    shared: dict[tuple[str, str], list[str]] = defaultdict(list)
    twice: dict[str, list[str]] = defaultdict(list)
    for roles in places.values():
        names = list(roles)
        for number, role in enumerate(names):
            twice[role] += [dataset.relative(path) for path in roles[role][1:]]
            for other in names[number + 1 :]:
                shared[role, other] += [dataset.relative(path) for path in roles[other]]
    findings = [
        _finding("dataset.shared_images", other, len(files), files, role) for (role, other), files in shared.items()
    ]
    return findings + [
        _finding("dataset.duplicate_images", role, len(files), files, "") for role, files in twice.items() if files
    ]


def _class_findings(dataset: MaskFolder, classes: list[ClassSummary]) -> list[Finding]:
    findings = []
    for role in dataset.splits():
        if role == "unlabelled":
            continue
        absent = [c.name for c in classes if c.pixels.get(role, 0) == 0]
        if len(absent) == len(classes) and role != "train":
            findings.append(_finding("dataset.nothing_to_score", role, len(absent), [], ""))
        elif absent:
            findings.append(_finding("dataset.class_without_pixels", role, len(absent), [], ", ".join(absent)))
    scored = [c.name for c in classes if not c.pixels.get("train", 0) and any(c.pixels.values())]
    if scored:
        findings.append(_finding("dataset.class_never_trained", "train", len(scored), [], ", ".join(scored)))
    return findings


def _class_summaries(dataset: MaskFolder, seen: list[_Seen]) -> list[ClassSummary]:
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


def _split_summary(dataset: MaskFolder, role: str, seen: list[_Seen]) -> SplitSummary:
    entries = [entry for entry in seen if entry.role == role]
    counts = [entry.counts for entry in entries if entry.counts is not None]
    return SplitSummary(
        role=role,
        images=len(entries),
        labelled=len(counts),
        pixels=int(sum(c.sum() for c in counts)),
        ignored=int(sum(c[dataset.mask_ignore_id] for c in counts)),
    )


def _finding(code: str, role: str, count: int, files: list[str], detail: str) -> Finding:
    severity, sentence, hint = _KINDS[code]
    message = f"{role}: " + sentence.format(count=count, detail=detail)
    return Finding(
        code=code,
        message=message,
        hint=hint,
        severity=severity,
        split=role,
        count=count,
        files=sorted(files)[:EXAMPLES],
    )
