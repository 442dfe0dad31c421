"""What inspections of all formats share: looking at every file, kinds of findings, images that occur twice."""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from acamkd_core.datasets.base import Dataset, Item, Note
from acamkd_core.datasets.masks import read_image
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.inspection import ClassSummary, Finding, InspectionReport, Severity, SizeCount, SplitSummary

EXAMPLES = 10  # file names shown with a finding
Progress = Callable[[int, int], None]


@dataclass
class Seen:
    """What one item showed. `problems` are (code, detail) pairs; `counts` are pixels by raw id (0..256)."""

    role: str
    item: Item
    digest: str | None = None
    size: tuple[int, int] | None = None
    counts: np.ndarray | None = None
    grey: bool = False  # all three channels are the same
    problems: list[tuple[str, str]] = field(default_factory=list)


# Code -> (severity, sentence with {count} and {detail}, hint). An error is what loading a sample would fail on;
# what makes results doubtful is a warning, as the owner of the data may have reasons. A split that is to be scored and
# has no label at all is an error too: every student would score 0 on it.
KINDS: dict[str, tuple[Severity, str, str | None]] = {
    "dataset.unreadable": ("error", "{count} files cannot be read ({detail})", "replace or remove them"),
    "dataset.empty_file": (
        "error",
        "{count} files are empty",
        "copy them again: an interrupted copy leaves such files",
    ),
    "dataset.image_mode": ("error", "{count} images have more than 8 bits a channel", "convert them to 8 bits"),
    "dataset.mask_mode": ("error", "{count} masks are neither 8-bit ids, palette nor RGB", "save them as 8-bit PNG"),
    "dataset.missing_mask": (
        "error",
        "{count} images have no mask",
        "add the masks, or list the images as `splits.unlabelled`",
    ),
    "dataset.mask_without_image": ("warning", "{count} masks have no image: they are left out", None),
    "dataset.size_mismatch": ("error", "{count} masks have another size than their image ({detail})", None),
    "dataset.ids_outside_classes": (
        "error",
        "{count} masks hold ids that no class has: {detail}",
        "add the classes, or choose the ignore id that the masks use",
    ),
    "dataset.all_ignored": ("warning", "{count} masks hold nothing but the ignore id", "such images teach nothing"),
    "dataset.duplicate_images": ("warning", "{count} images occur twice in the split", None),
    "dataset.shared_images": (
        "warning",
        "{count} images are also in {detail}: scores on them mean nothing",
        "remove them from one of the splits",
    ),
    "dataset.missing_image": ("error", "{count} listed images do not exist", "copy them, or drop them"),
    "dataset.image_twice": ("error", "{count} images are listed twice", "list each image once"),
    "dataset.unknown_image": ("error", "{count} boxes belong to an image that is not listed (ids {detail})", None),
    "dataset.unknown_category": (
        "error",
        "{count} boxes have a category that the file does not list: {detail}",
        "add the category, or drop the boxes",
    ),
    "dataset.image_size": (
        "error",
        "{count} images have another size than the annotation file says ({detail})",
        "boxes would sit in the wrong place: scale them, or correct width and height",
    ),
    "dataset.bad_boxes": (
        "warning",
        "{count} boxes have no size, lie outside their image, or are no numbers: they are left out ({detail})",
        None,
    ),
    "dataset.boxes_outside": ("warning", "{count} boxes reach beyond their image: training cuts them", None),
    "dataset.no_boxes": ("warning", "{count} images have no box: they are background", None),
    "dataset.category_gaps": (
        "warning",
        "the category ids have gaps ({detail}): channels follow the order of the ids",
        "a foreign detector may count its channels by id",
    ),
    "dataset.missing_annotation": (
        "error",
        "{count} images have no annotation file",
        "add them, or list the images as `splits.unlabelled`",
    ),
    "dataset.annotation_unreadable": ("error", "{count} annotation files cannot be read ({detail})", None),
    "dataset.unknown_name": (
        "error",
        "{count} objects are of a class that is not known: {detail}",
        "write your classes' names into a classes.json beside JPEGImages",
    ),
    "dataset.label_line": (
        "error",
        "{count} lines of label files are not `class x y width height` ({detail})",
        "correct or remove them",
    ),
    "dataset.not_normalised": (
        "error",
        "{count} boxes have values outside 0 to 1 ({detail})",
        "YOLO's labels are fractions of the image's width and height, not pixels",
    ),
    "dataset.class_out_of_range": (
        "error",
        "{count} boxes have a class that data.yaml does not name: {detail}",
        "ids count from 0: add the names, or correct the labels",
    ),
    "dataset.duplicate_boxes": ("warning", "{count} boxes are written twice: they are taken once", None),
    "dataset.missing_label_file": ("warning", "{count} images have no label file: they are background", None),
    "dataset.label_without_image": ("warning", "{count} label files have no image: they are left out", None),
    "dataset.unknown_class": (
        "error",
        "{count} folders are of no class of the training split: {detail}",
        "all splits need the same class folders",
    ),
    "dataset.image_without_class": ("warning", "{count} images lie in no class folder: they are left out", None),
    "dataset.other_files": ("warning", "{count} files are no images by their ending: they are left out", None),
    "dataset.contradicting_labels": (
        "warning",
        "{count} images are the same as one of another class",
        "remove those of the wrong class: they can only be learnt by heart",
    ),
    "dataset.grey_images": ("warning", "{count} images are grey, most others are not", None),
    "dataset.tiny_images": (
        "warning",
        "{count} images have a side below {detail} pixels, most others are larger",
        None,
    ),
    "dataset.class_without_images": ("warning", "{count} classes have no image: {detail}", None),
    "dataset.class_without_boxes": ("warning", "{count} classes have no box: {detail}", None),
    "dataset.class_without_pixels": ("warning", "{count} classes have no pixel: {detail}", None),
    "dataset.nothing_to_score": ("error", "the split has no labelled {detail}", "label some of its images"),
    "dataset.class_never_trained": (
        "warning",
        "{count} classes are scored but never trained on: {detail}",
        "add images that show them, or drop the classes",
    ),
}


def walk(dataset: Dataset, look: Callable[[str, Item], Seen], progress: Progress | None, threads: int) -> list[Seen]:
    """`look` at every item of every split, in order, in several threads (decoding releases the interpreter lock).

    `progress` gets (images done, images in all) from this thread; an exception in it ends the inspection.
    """
    work = [(role, item) for role in dataset.splits() for item in dataset.items(role)]
    seen: list[Seen] = []
    pool = ThreadPoolExecutor(max_workers=max(1, threads))
    try:
        for entry in pool.map(lambda job: look(*job), work):
            seen.append(entry)
            if progress is not None:
                progress(len(seen), len(work))
    finally:
        pool.shutdown(cancel_futures=True)  # a caller that stops (by raising in `progress`) waits for no more files
    return seen


def look_at_image(entry: Seen) -> None:
    """Decode the image of an entry: its digest and size, or the problem."""
    try:
        entry.digest = hashlib.sha256(entry.item.image.read_bytes()).hexdigest()
        pixels = read_image(entry.item.image)
        entry.size = (int(pixels.shape[0]), int(pixels.shape[1]))
        # A coloured image usually shows it in its middle row: only grey ones are looked at whole.
        row = pixels[pixels.shape[0] // 2]
        entry.grey = bool((row == row[:, :1]).all() and (pixels == pixels[..., :1]).all())
    except (CoreError, OSError) as error:
        code = error.code if isinstance(error, CoreError) else "dataset.unreadable"
        entry.problems.append((code, str(error)))


def sharing(dataset: Dataset, seen: list[Seen]) -> list[Finding]:
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
        finding("dataset.shared_images", other, len(files), files, role) for (role, other), files in shared.items()
    ]
    return findings + [
        finding("dataset.duplicate_images", role, len(files), files, "") for role, files in twice.items() if files
    ]


def by_kind(seen: list[Seen]) -> dict[tuple[str, str], list[tuple[Seen, str]]]:
    """What was seen, by (code, role): entries with the detail of each."""
    grouped: dict[tuple[str, str], list[tuple[Seen, str]]] = defaultdict(list)
    for entry in seen:
        for code, detail in entry.problems:
            grouped[code, entry.role].append((entry, detail))
    return grouped


def class_findings(
    dataset: Dataset, classes: list[ClassSummary], counted: Literal["pixels", "boxes", "images"]
) -> list[Finding]:
    """Classes that a split lacks, and those that are scored but never trained on."""
    found = []
    counts: list[tuple[str, dict[str, int]]] = [(one.name, getattr(one, counted)) for one in classes]
    for role in dataset.splits():
        if role == "unlabelled":
            continue
        absent = [name for name, of_role in counts if not of_role.get(role, 0)]
        if len(absent) == len(classes) and role != "train":
            unit = {"pixels": "pixel", "boxes": "box", "images": "image"}[counted]
            found.append(finding("dataset.nothing_to_score", role, len(absent), [], unit))
        elif absent:
            found.append(finding(f"dataset.class_without_{counted}", role, len(absent), [], ", ".join(absent)))
    scored = [name for name, of_role in counts if not of_role.get("train", 0) and any(of_role.values())]
    if scored:
        found.append(finding("dataset.class_never_trained", "train", len(scored), [], ", ".join(scored)))
    return found


def write_up(
    dataset: Dataset,
    seen: list[Seen],
    findings: list[Finding],
    *,
    splits: list[SplitSummary],
    classes: list[ClassSummary],
    ignore_id: int | None,
    started: float,
) -> InspectionReport:
    """The report: errors first, the commonest image sizes, the seconds since `started` (monotonic)."""
    sizes = Counter(entry.size for entry in seen if entry.size is not None)
    return InspectionReport(
        name=dataset.name,
        digest=dataset.digest,
        task=dataset.task,
        ignore_id=ignore_id,
        findings=sorted(findings, key=lambda one: (one.severity != "error", one.code)),
        splits=splits,
        classes=classes,
        sizes=[SizeCount(height=h, width=w, count=n) for (h, w), n in sizes.most_common(20)],
        seconds=round(time.monotonic() - started, 3),
    )


def finding(code: str, role: str, count: int, files: list[str], detail: str) -> Finding:
    """One finding in words. `files`: names to show; `detail`: what the sentence of its kind asks for."""
    severity, sentence, hint = KINDS[code]
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


def refuse(note: Note, where: str) -> None:
    """Raises what is noted where it is an error: it would only show after hours of training, or never.

    Args:
        note: what opening a dataset showed.
        where: the file to name when the note names none.
    """
    severity, words, hint = KINDS[note.code]
    if severity == "error":
        first = note.files[0] if note.files else where
        told = words.format(count=note.found, detail=note.detail)
        raise CoreError(note.code, f"{told}: {first}", hint=hint, field=f"dataset.splits.{note.role}", value=first)
