"""Finding jobs: by idempotency key, by method, in another order than by age."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from acamkd_core.spec.errors import CoreError
from server.db.tables import Job


def find_idempotent(session: Session, *, project_id: str, key: str, body_hash: str) -> Job | None:
    """The job that this key made. Raises CoreError `job.idempotency_conflict` when it was made from another body."""
    query = select(Job).where(Job.project_id == project_id, Job.idempotency_key == key)
    job = session.scalars(query).one_or_none()
    if job is not None and job.body_hash != body_hash:
        raise CoreError(
            "job.idempotency_conflict",
            "this Idempotency-Key was used with another body",
            hint="use a new key for a new job",
            value=key,
        )
    return job


def recent_runs(session: Session, *, project_id: str, limit: int) -> list[Job]:
    """The newest distillation jobs of a project that have run."""
    query = select(Job).where(Job.project_id == project_id, Job.kind == "distill", Job.started_at.is_not(None))
    return list(session.scalars(query.order_by(Job.id.desc()).limit(limit)))


def queued_total(session: Session) -> int:
    """How many jobs are queued, over all projects: they share the workers."""
    return session.scalar(select(func.count()).select_from(Job).where(Job.state == "queued")) or 0
