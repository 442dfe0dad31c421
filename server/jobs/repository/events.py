"""Events with their per-job numbers, and log lines."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from server.db.base import utcnow
from server.db.tables import Job, JobEvent, JobLog

# Only the newest of these says anything: the job row, metric_points and job_logs hold the rest.
LATEST_ONLY = frozenset({"progress", "metrics", "log"})
EventItem = tuple[str, Mapping[str, Any]]


def record_event(session: Session, job: Job, kind: str, data: Mapping[str, Any]) -> int:
    """Adds one event to a locked job and returns its number."""
    return record_events(session, job, [(kind, data)])


def record_events(session: Session, job: Job, items: Sequence[EventItem]) -> int:
    """Adds events to a locked job; numbers are taken in this transaction, so readers see them without gaps.

    Args:
        items: (kind, data) in order. Kinds are those of `StreamEvent`.

    Returns:
        The number of the last event of the job.
    """
    now = utcnow()
    newest = {kind: position for position, (kind, _) in enumerate(items)}
    rows = []
    for position, (kind, data) in enumerate(items):
        if kind in LATEST_ONLY and newest[kind] != position:
            continue
        job.event_seq += 1
        rows.append(
            {
                "job_id": job.id,
                "seq": job.event_seq,
                "kind": kind,
                "attempt": job.attempt,
                "data": dict(data),
                "created_at": now,
            }
        )
    replaced = [kind for kind in newest if kind in LATEST_ONLY]
    if replaced:
        session.execute(
            delete(JobEvent).where(JobEvent.job_id == job.id, JobEvent.kind.in_(replaced)),
            execution_options={"synchronize_session": False},
        )
    if rows:
        session.flush()  # a new job's row must exist before its events
        session.execute(insert(JobEvent), rows)
    job.updated_at = now
    return job.event_seq


def record_state(session: Session, job: Job, **extra: Any) -> None:
    """The event that follows every change of state."""
    record_event(session, job, "state", {"state": job.state, "reason": job.reason, **extra})


def event_heads(
    session: Session, *, project_id: str, job_ids: Collection[str] | None = None, since: datetime | None = None
) -> dict[str, int]:
    """Newest event number of each job (all of the project, or the given ones; only those changed after `since`)."""
    query = select(Job.id, Job.event_seq).where(Job.project_id == project_id)
    if job_ids is not None:
        query = query.where(Job.id.in_(job_ids))
    if since is not None:
        query = query.where(Job.updated_at >= since)
    return {job_id: seq for job_id, seq in session.execute(query)}


@dataclass(frozen=True)
class JobHead:
    """Where a job's events are, and what it is now."""

    id: str
    name: str
    state: str
    reason: str | None
    event_seq: int


def job_heads(
    session: Session, *, project_id: str, job_ids: Collection[str] | None = None, since: datetime | None = None
) -> list[JobHead]:
    """As `event_heads`, with names and states: what the event stream needs, without loading whole rows."""
    query = select(Job.id, Job.name, Job.state, Job.reason, Job.event_seq).where(Job.project_id == project_id)
    if job_ids is not None:
        query = query.where(Job.id.in_(job_ids))
    if since is not None:
        query = query.where(Job.updated_at >= since)
    return [JobHead(*row) for row in session.execute(query)]


def events_after(session: Session, *, job_id: str, seq: int, limit: int = 1000) -> list[JobEvent]:
    """Events of a job after number `seq`, oldest first (the caller has checked the job's scope)."""
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > seq).order_by(JobEvent.seq).limit(limit)
    return list(session.scalars(query))


def events_of_kinds(session: Session, *, job_id: str, kinds: Collection[str], limit: int = 500) -> list[JobEvent]:
    """The newest `limit` events of some kinds, oldest first. After a rewind the same evaluation appears once an
    attempt; the later one counts."""
    query = (
        select(JobEvent)
        .where(JobEvent.job_id == job_id, JobEvent.kind.in_(kinds))
        .order_by(JobEvent.seq.desc())
        .limit(limit)
    )
    return list(session.scalars(query))[::-1]


def first_of_kind(session: Session, *, job_id: str, kind: str) -> JobEvent | None:
    """The oldest event of a kind."""
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.kind == kind).order_by(JobEvent.seq).limit(1)
    return session.scalars(query).one_or_none()


def logs_after(
    session: Session, *, job_id: str, after: int = 0, limit: int = 1000, tail: int | None = None
) -> list[JobLog]:
    """Log lines with n > `after`, oldest first; with `tail`, only the last so many."""
    query = select(JobLog).where(JobLog.job_id == job_id, JobLog.n > after)
    if tail is not None:
        return list(session.scalars(query.order_by(JobLog.n.desc()).limit(tail)))[::-1]
    return list(session.scalars(query.order_by(JobLog.n).limit(limit)))
