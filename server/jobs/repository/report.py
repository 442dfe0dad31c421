"""What a running attempt says, written in batches under its fence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from server.db.base import utcnow
from server.db.tables import Job, JobEvent, JobLog, MetricPoint
from server.jobs.repository.events import EventItem, record_events
from server.jobs.repository.locks import fenced_job

MAX_LINE = 8_000


@dataclass
class Report:
    """One batch of a child's events.

    Attributes:
        points: (name, step, value); None or non-finite values are stored as NULL.
        logs: (time, level, text).
        events: (kind, data) for the stream; `metrics`, `log` and `progress` are added by `write_report` itself.
        progress: fields of ProgressInfo that are new.
        metrics: figures of the job row that are new (val/miou, best/miou, test/miou ...).
        facts: merged into the job's facts, one level deep (dataset, profile, pairs, automatic, iteration_seconds).
        spec: the resolved spec, once the automatic values are known; origins likewise.
    """

    points: list[tuple[str, int, float | None]] = field(default_factory=list)
    logs: list[tuple[datetime, str, str]] = field(default_factory=list)
    events: list[EventItem] = field(default_factory=list)
    progress: Mapping[str, Any] | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] | None = None
    origins: list[Any] | None = None


def write_report(session: Session, *, job_id: str, attempt: int, report: Report) -> None:
    """Writes a batch in one transaction. Metric points are upserted by (job, name, step). Raises Fenced."""
    job = fenced_job(session, job_id, attempt)
    events = list(report.events)
    if report.progress is not None:
        job.progress = {**job.progress, **report.progress, "reported_at": utcnow().isoformat()}
        events.append(("progress", job.progress))
    if report.points:
        _upsert_points(session, job, report.points)
        names = sorted({name for name, _, _ in report.points})
        events.append(("metrics", {"iteration": max(step for _, step, _ in report.points), "names": names}))
    if report.logs:
        _add_logs(session, job, report.logs)
        events.append(("log", {"next": job.log_seq}))
    if report.metrics:
        job.metrics = {**job.metrics, **report.metrics}
    for key, value in report.facts.items():
        old = job.facts.get(key)
        merged = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        job.facts = {**job.facts, key: merged}
    if report.spec is not None:
        job.spec = report.spec
    if report.origins is not None:
        job.origins = report.origins
    new_alarms = [data for kind, data in events if kind == "alarm"]
    if new_alarms:
        job.alarms = _distinct_alarms(session, job, new_alarms)
    record_events(session, job, events)


def _upsert_points(session: Session, job: Job, points: Iterable[tuple[str, int, float | None]]) -> None:
    # Core, not the ORM: a tenth of the time. The dictionary keeps the last of two values for one step.
    values = {(name, step): value for name, step, value in points}
    rows = [
        {
            "job_id": job.id,
            "name": name,
            "step": step,
            "value": value if value is not None and math.isfinite(value) else None,
            "attempt": job.attempt,
        }
        for (name, step), value in values.items()
    ]
    upsert = sqlite_insert if session.get_bind().dialect.name == "sqlite" else postgresql_insert
    statement = upsert(MetricPoint.__table__)  # type: ignore[arg-type]
    statement = statement.on_conflict_do_update(
        index_elements=["job_id", "name", "step"],
        set_={"value": statement.excluded.value, "attempt": statement.excluded.attempt},
    )
    session.connection().execute(statement, rows)


def _add_logs(session: Session, job: Job, lines: Iterable[tuple[datetime, str, str]]) -> None:
    rows = []
    for time, level, text in lines:
        job.log_seq += 1
        # PostgreSQL's text cannot hold NUL, and a child may print anything
        clean = text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")[:MAX_LINE]
        rows.append(
            {"job_id": job.id, "n": job.log_seq, "attempt": job.attempt, "time": time, "level": level, "text": clean}
        )
    session.execute(insert(JobLog), rows)


def _distinct_alarms(session: Session, job: Job, new: Iterable[Mapping[str, Any]]) -> int:
    # after a rewind the same alarm is raised again: it counts once
    old = session.scalars(select(JobEvent.data).where(JobEvent.job_id == job.id, JobEvent.kind == "alarm"))
    return len({((data.get("info") or {}).get("code"), data.get("iteration")) for data in [*old, *new]})
