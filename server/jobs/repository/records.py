"""Jobs as records: creating, finding, listing, and what a user may ask of one."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Text, and_, case, cast, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from acamkd_core.spec.api import TERMINAL_STATES
from acamkd_core.spec.errors import CoreError
from server.db.base import new_id, utcnow
from server.db.tables import Attempt, Job, JobDependency
from server.jobs import states as transitions
from server.jobs.repository.children import settle_children
from server.jobs.repository.events import record_state
from server.jobs.repository.finders import find_idempotent


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """What a submission becomes. `parents` are ids of jobs that must succeed first."""

    project_id: str
    name: str
    kind: str
    submitted: str
    spec: dict[str, Any]
    origins: list[Any] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    notes: str = ""
    dataset_id: str | None = None
    priority: int = 0
    gpus: int = 0
    labels: Sequence[str] = ()
    max_attempts: int = 3
    max_hours: float | None = None
    parents: Collection[str] = ()
    retry_of: str | None = None
    start_checkpoint: str | None = None
    idempotency_key: str | None = None
    body_hash: str | None = None


def create(session: Session, *, new: NewJob) -> tuple[Job, bool]:
    """Inserts a job as `queued`, or `waiting` while a parent has not succeeded, with its first event.

    Returns:
        The row, and whether it is new: the same idempotency key with the same body hash gives the first row back.

    Raises:
        CoreError: `job.idempotency_conflict` (same key, other body), `job.name_taken`, `job.parent_failed`.
    """
    earlier = _find_idempotent(session, new)
    if earlier is not None:
        return earlier, False
    # parents are locked: one that ends now either sees this child, or has ended for us
    parents = list(
        session.scalars(
            select(Job)
            .where(Job.id.in_(new.parents), Job.project_id == new.project_id)
            .order_by(Job.id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
    )
    if len(parents) != len(set(new.parents)):
        raise CoreError("job.parent_missing", "a job that this one builds on does not exist")
    for parent in parents:
        if parent.state in TERMINAL_STATES and parent.state != "succeeded":
            raise CoreError(
                "job.parent_failed",
                f"job {parent.name!r}, which this one builds on, is {parent.state}",
                hint="retry that job, then build on the retry",
                value=parent.name,
            )
    columns = asdict(new)
    columns.pop("parents")
    columns["tags"], columns["labels"] = list(new.tags), list(new.labels)
    job = Job(id=new_id(), attempt=0, lease_beat=0, event_seq=0, log_seq=0, **columns)
    transitions.begin(job, "queued" if all(parent.state == "succeeded" for parent in parents) else "waiting")
    try:
        with session.begin_nested():
            session.add(job)
            session.flush()
    except IntegrityError:
        earlier = _find_idempotent(session, new)  # the same request came twice at once
        if earlier is not None:
            return earlier, False
        raise _name_taken(new.name) from None
    session.add_all(JobDependency(job_id=job.id, parent_id=parent.id) for parent in parents)
    record_state(session, job)
    return job, True


def _name_taken(name: str) -> CoreError:
    return CoreError(
        "job.name_taken",
        f"there is a job named {name!r} already",
        hint="leave `name` out, or take another",
        field="name",
    )


def _find_idempotent(session: Session, new: NewJob) -> Job | None:
    if new.idempotency_key is None:
        return None
    return find_idempotent(session, project_id=new.project_id, key=new.idempotency_key, body_hash=new.body_hash or "")


def get(session: Session, *, project_id: str, ref: str) -> Job | None:
    """A job by id or name within a project."""
    return _find(session, project_id, ref, lock=False)


def lock(session: Session, *, project_id: str, ref: str) -> Job | None:
    """As `get`, with the row locked for a change."""
    return _find(session, project_id, ref, lock=True)


def _find(session: Session, project_id: str, ref: str, *, lock: bool) -> Job | None:
    # the id comes first: a name that looks like another job's id never hides that job
    query = select(Job).where(Job.project_id == project_id, or_(Job.id == ref, Job.name == ref))
    query = query.order_by(case((Job.id == ref, 0), else_=1)).limit(1)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    return session.scalars(query).one_or_none()


def list_jobs(
    session: Session,
    *,
    project_id: str,
    states: Collection[str] = (),
    kinds: Collection[str] = (),
    tag: str | None = None,
    search: str | None = None,
    dataset_id: str | None = None,
    method: str | None = None,
    sort: str = "-created",
    cursor: str | None = None,
    limit: int = 50,
) -> tuple[list[Job], str | None, int]:
    """A page of jobs: rows, cursor of the next page, total under the filters.

    Args:
        search: part of a name.
        method: a method among the distill terms.
        sort: `created` (by age) or `name`; a leading minus reverses it.
    """
    query = select(Job).where(Job.project_id == project_id)
    if states:
        query = query.where(Job.state.in_(states))
    if kinds:
        query = query.where(Job.kind.in_(kinds))
    if dataset_id:
        query = query.where(Job.dataset_id == dataset_id)
    if search:
        query = query.where(Job.name.contains(search.lower(), autoescape=True))
    if method:
        query = query.where(cast(Job.summary["methods"], Text).contains(_json_string(method), autoescape=True))
    if tag:
        # tags are a JSON list of strings; both databases store the text that json.dumps wrote
        query = query.where(func.replace(cast(Job.tags, Text), " ", "").contains(_json_string(tag), autoescape=True))
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    by_name, descending = sort.endswith("name"), sort.startswith("-")
    column = Job.name if by_name else Job.id  # both unique within a project, so the last row's value is a cursor
    if cursor:
        query = query.where(column < cursor if descending else column > cursor)
    rows = list(session.scalars(query.order_by(column.desc() if descending else column).limit(limit + 1)))
    if len(rows) <= limit:
        return rows, None, total
    last = rows[limit - 1]
    return rows[:limit], last.name if by_name else last.id, total


def _json_string(text: str) -> str:
    return json.dumps(text).replace(" ", "")


def names_taken(session: Session, *, project_id: str, names: Collection[str]) -> set[str]:
    """Which of these names the project already has."""
    return set(session.scalars(select(Job.name).where(Job.project_id == project_id, Job.name.in_(names))))


def dependencies(session: Session, *, job_id: str) -> list[Job]:
    """The parents of a job, unfinished ones first."""
    query = (
        select(Job)
        .join(JobDependency, JobDependency.parent_id == Job.id)
        .where(JobDependency.job_id == job_id)
        .order_by(case((Job.state == "succeeded", 1), else_=0), Job.id)
    )
    return list(session.scalars(query))


def queue_position(session: Session, *, job: Job) -> int | None:
    """1 = next of all queued jobs; None when it is not queued."""
    if job.state != "queued":
        return None
    ahead = or_(Job.priority > job.priority, and_(Job.priority == job.priority, Job.id < job.id))
    query = select(func.count()).select_from(Job).where(Job.state == "queued", ahead)
    return 1 + (session.scalar(query) or 0)


def state_counts(session: Session, *, project_id: str) -> dict[str, int]:
    """Number of jobs per state."""
    query = select(Job.state, func.count()).where(Job.project_id == project_id).group_by(Job.state)
    return {state: count for state, count in session.execute(query)}


def list_attempts(session: Session, *, job_id: str) -> list[Attempt]:
    """Attempts of a job, oldest first."""
    return list(session.scalars(select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number)))


def update_labels(
    session: Session, *, job: Job, name: str | None = None, tags: Sequence[str] | None = None, notes: str | None = None
) -> None:
    """Changes what a user may change of any job. Raises CoreError `job.name_taken`."""
    try:
        with session.begin_nested():
            if name is not None:
                job.name = name
            if tags is not None:
                job.tags = list(tags)
            if notes is not None:
                job.notes = notes
            job.updated_at = utcnow()
            session.flush()
    except IntegrityError:
        raise _name_taken(str(name)) from None


def request_cancel(session: Session, *, job: Job) -> None:
    """Cancels a locked job at once when nothing runs, else asks its worker (the reaper completes it without one).

    Raises:
        IllegalTransition: it has already ended (a repeated cancel of a cancelled job is fine).
    """
    if job.state == "cancelled":
        return
    if job.state == "running":
        if not job.cancel_requested:
            job.cancel_requested = True
            record_state(session, job, requested="cancel")
        return
    transitions.change(job, "cancelled", "user_cancel")
    job.ended_at = utcnow()
    record_state(session, job)
    settle_children(session, job)


def request_pause(session: Session, *, job: Job) -> None:
    """Pauses a locked queued job at once; asks the worker of a running one. Raises IllegalTransition otherwise."""
    if job.state == "paused":
        return
    if job.state == "running":
        if not job.pause_requested:
            job.pause_requested = True
            record_state(session, job, requested="pause")
        return
    transitions.change(job, "paused", "paused_by_user")
    record_state(session, job)


def resume(session: Session, *, job: Job) -> None:
    """Puts a locked paused job back into the queue, or takes back a pause that was only asked for."""
    if job.state == "running" and job.pause_requested:
        job.pause_requested = False
        record_state(session, job)
        return
    transitions.change(job, "queued")
    record_state(session, job)
