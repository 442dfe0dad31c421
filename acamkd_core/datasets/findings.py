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
from acamkd_core.datasets.finding_kinds import in_words
from acamkd_core.datasets.masks import is_turned, read_image
from acamkd_core.datasets.worst_files import worst_files
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.inspection import (
    ClassSummary,
    Finding,
    InspectionReport,
    ObjectSizes,
    SizeCount,
    SplitSummary,
)

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
        if is_turned(entry.item.image):
            entry.problems.append(("dataset.exif_rotated", ""))
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


def grey_images(dataset: Dataset, seen: list[Seen]) -> list[Finding]:
    """Grey images (one channel, or three equal ones) of a dataset that is mostly in colour, split by split."""
    decoded = [entry for entry in seen if entry.size is not None]
    grey: dict[str, list[str]] = defaultdict(list)
    for entry in decoded:
        if entry.grey:
            grey[entry.role].append(dataset.relative(entry.item.image))
    if sum(map(len, grey.values())) > len(decoded) / 2:
        return []
    return [finding("dataset.grey_images", role, len(files), files, "") for role, files in grey.items()]


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
        if len(absent) == len(classes):
            unit = {"pixels": "pixel", "boxes": "box", "images": "image"}[counted]
            code = "dataset.nothing_to_learn" if role == "train" else "dataset.nothing_to_score"
            found.append(finding(code, role, len(absent), [], unit))
        elif absent:
            found.append(finding(f"dataset.class_without_{counted}", role, len(absent), [], ", ".join(absent)))
    scored = [name for name, of_role in counts if not of_role.get("train", 0) and any(of_role.values())]
    if 0 < len(scored) < len(classes):  # all of them: nothing to learn, said above
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
    object_sizes: list[ObjectSizes] | None = None,
) -> InspectionReport:
    """The report: errors first, the commonest image sizes, the worst files, the seconds since `started` (monotonic)."""
    sizes = Counter(entry.size for entry in seen if entry.size is not None)
    return InspectionReport(
        name=dataset.name,
        digest=dataset.digest,
        format=dataset.format,
        task=dataset.task,
        ignore_id=ignore_id,
        findings=[
            one.model_copy(update={"files": list(dict.fromkeys(one.files))[:EXAMPLES]})
            for one in sorted(findings, key=lambda one: (one.severity != "error", one.code))
        ],
        splits=splits,
        classes=classes,
        sizes=[SizeCount(height=h, width=w, count=n) for (h, w), n in sizes.most_common(20)],
        object_sizes=object_sizes or [],
        worst_files=worst_files(findings),
        seconds=round(time.monotonic() - started, 3),
    )


def finding(code: str, role: str, count: int, files: list[str], detail: str) -> Finding:
    """One finding in words.

    Args:
        code: of its kind.
        role: of the split.
        count: how many files, boxes or classes.
        files: all of them, as often as they have the mistake; `write_up` keeps a few.
        detail: what the sentence of its kind asks for.
    """
    severity, sentence, hint = in_words(code, count, detail)
    return Finding(
        code=code,
        message=f"{role}: {sentence}",
        hint=hint,
        severity=severity,
        split=role,
        count=count,
        files=sorted(files),
    )


def refuse(note: Note, where: str) -> None:
    """Raises what is noted where it is an error: it would only show after hours of training, or never.

    Args:
        note: what opening a dataset showed.
        where: the file to name when the note names none.
    """
    severity, told, hint = in_words(note.code, note.found, note.detail)
    if severity == "error":
        first = note.files[0] if note.files else where
        raise CoreError(note.code, f"{told}: {first}", hint=hint, field=f"dataset.splits.{note.role}", value=first)
