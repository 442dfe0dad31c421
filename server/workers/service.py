"""Workers as the Workers page shows them. Whether one is lost is judged here for the eye only; leases decide."""

from __future__ import annotations

from typing import Literal

from sqlalchemy.orm import Session

from acamkd_core.spec.api import Page, WorkerInfo
from server.auth.service import CallerScope
from server.db.base import utcnow
from server.db.tables import Worker
from server.workers import repository

LOST_AFTER_SECONDS = 30.0
FORGET_AFTER_SECONDS = 24 * 3600.0


def _state(row: Worker, age: float) -> Literal["online", "lost", "stopped"]:
    if row.state == "stopped":
        return "stopped"
    return "lost" if age > LOST_AFTER_SECONDS else "online"


def list_workers(*, session: Session, caller: CallerScope) -> Page[WorkerInfo]:
    """Workers seen within the last day. Machines are shared by all projects; names of foreign jobs are not shown."""
    running = repository.running_jobs(session)
    now = utcnow()
    items = []
    for row in repository.list_workers(session):
        age = max(0.0, (now - row.seen_at).total_seconds())
        if age > FORGET_AFTER_SECONDS:
            continue
        jobs = running.get(row.id, [])
        items.append(
            WorkerInfo(
                id=row.id,
                name=row.name,
                host=row.host,
                pid=row.pid,
                state=_state(row, age),
                slots=row.slots,
                busy=len(jobs),
                devices=row.devices,
                labels=row.labels,
                jobs=[job.name for job in jobs if job.project_id == caller.project_id],
                versions=row.versions,
                started_at=row.started_at,
                last_seen_seconds=round(age, 1),
                cpu_percent=row.cpu_percent,
                memory_mb=row.memory_mb,
            )
        )
    return Page(items=items, total=len(items))
