"""The fence and the row lock that every change of a job takes first."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.db.tables import Job


class Fenced(Exception):
    """This attempt is no longer the running one: its worker must drop what it holds and end its child."""

    def __init__(self, job_id: str, attempt: int) -> None:
        super().__init__(f"attempt {attempt} of job {job_id} is not the running one")
        self.job_id, self.attempt = job_id, attempt


def lock_job(session: Session, job_id: str) -> Job | None:
    """The job's row, locked until the unit ends (PostgreSQL: FOR UPDATE; SQLite: the unit already excludes writers)."""
    query = select(Job).where(Job.id == job_id).with_for_update().execution_options(populate_existing=True)
    return session.scalars(query).one_or_none()


def fenced_job(session: Session, job_id: str, attempt: int) -> Job:
    """The locked row of a job that `attempt` still runs.

    Raises:
        Fenced: it does not.
    """
    job = lock_job(session, job_id)
    if job is None or job.state != "running" or job.attempt != attempt:
        raise Fenced(job_id, attempt)
    return job
