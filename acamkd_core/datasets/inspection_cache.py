"""Reports of inspections, kept by what was looked at: an unchanged dataset is decoded once, however often it is used."""

from __future__ import annotations

import contextlib
import hashlib
import time
from pathlib import Path

from acamkd_core.datasets.base import Dataset
from acamkd_core.datasets.findings import Progress
from acamkd_core.datasets.registry import inspect_dataset
from acamkd_core.spec.inspection import InspectionReport

RULES = 2  # of what inspections find: reports by earlier rules are not read


def inspect_cached(
    dataset: Dataset, cache: Path, *, again: bool = False, progress: Progress | None = None
) -> InspectionReport:
    """The kept report of these very files, or a new one, which is kept.

    Args:
        dataset: opened, with `strict=False` where everything is to be reported.
        cache: folder that holds `inspections`.
        again: decode every file whatever is kept.
        progress: as of `inspect_dataset`; not called for a kept report.
    """
    # Taken before a file is read: what changes meanwhile gets another name.
    seen = hashlib.sha256(f"{RULES} {dataset.fingerprint()}".encode()).hexdigest()[:32]
    kept = cache / "inspections" / f"{seen}.json"
    if kept.is_file() and not again:
        return InspectionReport.model_validate_json(kept.read_bytes())
    report = inspect_dataset(dataset, progress=progress)
    with contextlib.suppress(OSError):  # a report that cannot be kept is still a report
        kept.parent.mkdir(parents=True, exist_ok=True)
        aside = kept.with_suffix(f".{time.time_ns()}.part")
        aside.write_text(report.model_dump_json(), encoding="utf-8")
        aside.replace(kept)
    return report
