"""What the end of a job means for those that wait for it: other jobs, and the dataset that it inspected."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from acamkd_core.spec.errors import ErrorInfo
from server.datasets import repository as datasets
from server.db.base import utcnow
from server.db.tables import Job, JobDependency
from server.jobs import states
from server.jobs.repository.events import record_state


def settle_children(session: Session, parent: Job) -> None:
    """Queues the waiting children of a parent that succeeded (once their other parents have too), or fails them and
    theirs with `dependency_failed`. A dataset whose inspection did not succeed is `failed`, whoever ended the job.
    Runs in the transaction that ended the parent."""
    session.flush()
    if parent.kind == "inspect" and parent.state != "succeeded":
        datasets.fail_inspection(session, inspect_job=parent.id)
    waiting = (
        select(Job)
        .join(JobDependency, JobDependency.job_id == Job.id)
        .where(JobDependency.parent_id == parent.id, Job.state == "waiting")
        .order_by(Job.id)
        .with_for_update(of=Job)
        .execution_options(populate_existing=True)
    )
    for child in list(session.scalars(waiting)):
        if parent.state != "succeeded":
            _fail(session, child, parent)
        elif _open_parents(session, child) == 0:
            states.change(child, "queued")
            record_state(session, child)


def _open_parents(session: Session, child: Job) -> int:
    # the child's row is locked, so of two parents that end at once the second one sees the first
    query = (
        select(Job.state)
        .join(JobDependency, JobDependency.parent_id == Job.id)
        .where(JobDependency.job_id == child.id, Job.state != "succeeded")
    )
    return len(list(session.scalars(query)))


def _fail(session: Session, child: Job, parent: Job) -> None:
    states.change(child, "failed", "dependency_failed")
    child.ended_at = utcnow()
    child.error = ErrorInfo(
        code="job.dependency_failed",
        message=f"job {parent.name!r}, which this one waited for, ended as {parent.state}",
        hint="retry that job, then submit this one again",
        value=parent.name,
    ).model_dump()
    record_state(session, child, error=child.error)
    settle_children(session, child)
