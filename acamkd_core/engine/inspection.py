"""Looking at a dataset before anything trains on it: the inspection job, and the check at the start of every run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from acamkd_core.datasets.base import Dataset
from acamkd_core.datasets.contact_sheet import contact_sheet
from acamkd_core.datasets.inspection_cache import inspect_cached
from acamkd_core.datasets.registry import open_dataset
from acamkd_core.engine.parts import Emit, Run
from acamkd_core.engine.result import JobResult
from acamkd_core.spec.errors import CoreError, ErrorInfo
from acamkd_core.spec.events import AlarmEvent, ExportEvent, InspectionEvent, ProgressEvent, StageEvent
from acamkd_core.spec.inspection import InspectionReport
from acamkd_core.spec.job import InspectSpec


class _Stopped(Exception):
    pass


def run_inspection(spec: InspectSpec, run: Run, *, emit: Emit, should_stop: Callable[[], bool]) -> JobResult:
    """Decodes every file of a dataset; the report is an event, the contact sheet a file. Findings are no failure."""
    emit(StageEvent(stage="data"))
    dataset = open_dataset(spec.dataset, roots=run.roots or (), cache=run.cache, strict=False, task=spec.task)

    def tell(done: int, total: int, rate: float) -> None:
        emit(
            ProgressEvent(
                iteration=done, iterations=total, epoch=0.0, iterations_per_second=rate, images_per_second=rate,
                device_seconds=0.0, data_wait=0.0, eta_seconds=(total - done) / rate,
            )
        )  # fmt: skip

    try:
        report = _inspect(dataset, run.cache, tell, should_stop, again=spec.again)
    except _Stopped:
        return JobResult("stopped", "stopped")
    if spec.preview_images:
        path = run.folder / "exports" / "contact_sheet.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(dataset, path, images=spec.preview_images)
        emit(ExportEvent(format="png", path="exports/contact_sheet.png", bytes=path.stat().st_size))
        report = report.model_copy(update={"contact_sheet": "exports/contact_sheet.png"})
    emit(InspectionEvent(report=report.model_dump(mode="json")))
    emit(StageEvent(stage="done"))
    return JobResult("succeeded", "done")


def check_dataset(
    dataset: Dataset, run: Run, *, emit: Emit, should_stop: Callable[[], bool]
) -> InspectionReport | None:
    """Inspects a dataset before hours are spent on it, unless these very files were inspected before.

    Returns None when `should_stop` asked to end.

    Raises:
        CoreError: the first finding that would spoil a training, with its count and files.
    """
    try:
        # Not as progress: that counts iterations of the training to come.
        report = _inspect(
            dataset,
            run.cache,
            lambda done, total, _: emit(StageEvent(stage="data", detail=f"{done} of {total} files")),
            should_stop,
        )
    except _Stopped:
        return None
    for finding in report.findings:
        if finding.severity == "error":
            raise CoreError(
                finding.code,
                f"{finding.message}: {', '.join(finding.files[:3])}" if finding.files else finding.message,
                hint=finding.hint,
                field=finding.field or "dataset",
                value=finding.value,
            )
        info = ErrorInfo(
            code=finding.code, message=finding.message, hint=finding.hint, field="dataset", value=finding.count
        )
        emit(AlarmEvent(iteration=0, severity="warning", info=info))
    return report


def _inspect(
    dataset: Dataset,
    cache: Path,
    tell: Callable[[int, int, float], None],
    should_stop: Callable[[], bool],
    *,
    again: bool = False,
) -> InspectionReport:
    """The report; `tell` gets (files done, files in all, files a second) about once a second."""
    started = told = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal told
        if should_stop():
            raise _Stopped
        now = time.monotonic()
        if now - told >= 1.0 or done == total:
            told = now
            tell(done, total, done / max(now - started, 1e-3))

    return inspect_cached(dataset, cache, again=again, progress=progress)
