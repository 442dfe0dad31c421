"""All SQL about workers. Leases decide who runs a job; these rows are for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from server.db.base import utcnow
from server.db.tables import Job, Worker

KEEP = timedelta(days=1)


def register(
    session: Session,
    *,
    worker_id: str,
    name: str,
    host: str,
    pid: int,
    slots: int,
    devices: Sequence[str] = (),
    labels: Sequence[str] = (),
    versions: dict[str, Any] | None = None,
) -> Worker:
    """A worker has started (again). Rows of workers that were last seen over a day ago go."""
    now = utcnow()
    session.execute(delete(Worker).where(Worker.seen_at < now - KEEP))
    row = session.merge(
        Worker(
            id=worker_id,
            name=name,
            host=host,
            pid=pid,
            state="online",
            slots=slots,
            devices=list(devices),
            labels=list(labels),
            versions=versions or {},
            started_at=now,
            seen_at=now,
        )
    )
    session.flush()
    return row


def seen(session: Session, *, worker_id: str, cpu_percent: float | None = None, memory_mb: float | None = None) -> bool:
    """A worker's sign of life; false when its row is gone and it should register again."""
    row = session.get(Worker, worker_id)
    if row is None:
        return False
    row.state, row.seen_at, row.cpu_percent, row.memory_mb = "online", utcnow(), cpu_percent, memory_mb
    return True


def stopped(session: Session, *, worker_id: str) -> None:
    """A worker has ended in order."""
    row = session.get(Worker, worker_id)
    if row is not None:
        row.state, row.seen_at = "stopped", utcnow()


def list_workers(session: Session) -> list[Worker]:
    """All workers, newest first."""
    return list(session.scalars(select(Worker).order_by(Worker.started_at.desc(), Worker.id)))


def running_jobs(session: Session) -> dict[str, list[Job]]:
    """Running jobs by worker id. Workers serve all projects: the caller shows names of its own project only."""
    found: dict[str, list[Job]] = {}
    for job in session.scalars(select(Job).where(Job.state == "running").order_by(Job.id)):
        found.setdefault(job.worker_id or "", []).append(job)
    return found
