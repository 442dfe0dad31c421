"""Metric series of a job."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy.orm import Session

from acamkd_core.spec.api import MetricsAnswer, Series
from server.auth.service import CallerScope
from server.db.tables import Job
from server.jobs import repository
from server.jobs.service import find_job

XAxis = Literal["iteration", "images", "device_seconds"]


def name_patterns(names: str | None) -> list[str]:
    """`val/miou,loss/*` as a list; empty = all."""
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def _tail(series: Series, after: float) -> Series:
    keep = [index for index, at in enumerate(series.x) if at > after]
    pick: Any = lambda values: None if values is None else [values[index] for index in keep]
    return series.model_copy(
        update={"x": pick(series.x), "y": pick(series.y), "low": pick(series.low), "high": pick(series.high)}
    )


def answer_for(session: Session, job: Job, *, names: str | None, x: XAxis, points: int) -> MetricsAnswer:
    """Series of a job whose scope was checked."""
    batch = int((job.spec.get("batch") or {}).get("global_size", 1))
    series = repository.read_series(
        session, job_id=job.id, names=name_patterns(names), points=points, x=x, images_per_iteration=batch
    )
    attempts = [
        {"number": attempt.number, "iteration": attempt.resumed_from}
        for attempt in repository.list_attempts(session, job_id=job.id)
        if attempt.resumed_from is not None
    ]
    known = repository.metric_names(session, job_id=job.id)
    return MetricsAnswer(job=job.id, x=x, series=series, names=known, attempts=attempts)


def get_metrics(
    *, session: Session, caller: CallerScope, job: str, names: str | None, x: XAxis, points: int, after: int | None
) -> MetricsAnswer:
    """Series of a job. Raises CoreError `job.not_found`."""
    answer = answer_for(session, find_job(session, caller, job), names=names, x=x, points=points)
    if after is not None:
        answer.series = [_tail(series, float(after)) for series in answer.series]
    return answer
