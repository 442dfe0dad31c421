"""Claiming, holding and giving back a job. Each function is one compare-and-set on (state, attempt, beat)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from acamkd_core.spec.errors import ErrorInfo
from server.db.base import utcnow
from server.db.tables import Attempt, Job, MetricPoint
from server.jobs import states
from server.jobs.repository.children import settle_children
from server.jobs.repository.events import record_event, record_state
from server.jobs.repository.inputs import resolve_inputs, start_checkpoint
from server.jobs.repository.locks import fenced_job, lock_job


@dataclass(frozen=True)
class Claim:
    """A job that this worker now runs, and what it needs to start.

    `checkpoint` (sha256) and `checkpoint_iteration` are the newest committed checkpoint, or where a retry starts.
    `inputs` maps the keys of the child's run.json to {"sha256", "name", "bytes"} or, for ratios, {"job": id}.
    """

    job_id: str
    project_id: str
    name: str
    kind: str
    attempt: int
    spec: dict[str, Any]
    gpus: int
    max_hours: float | None
    device_seconds: float
    checkpoint: str | None
    checkpoint_iteration: int | None
    inputs: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Beat:
    """What a heartbeat brings back."""

    beat: int
    cancel: bool
    pause: bool


@dataclass(frozen=True)
class Lease:
    """One running job as the reaper sees it."""

    job_id: str
    attempt: int
    beat: int


def claim(
    session: Session,
    *,
    worker_id: str,
    worker_name: str,
    gpus: int,
    devices: Sequence[str] = (),
    labels: Collection[str] = (),
    kinds: Collection[str] = (),
) -> Claim | None:
    """Takes the best queued job that fits this slot (priority, then age) and opens its attempt; None = nothing fits.

    Args:
        gpus: GPUs of the slot; only jobs that ask for at most that many fit.
        labels: labels of the worker; a job fits when its own are among them.
        kinds: only these kinds; empty = all.
    """
    fitting = select(Job.id, Job.labels).where(Job.state == "queued", Job.gpus <= gpus)
    if kinds:
        fitting = fitting.where(Job.kind.in_(kinds))
    candidates = session.execute(fitting.order_by(Job.priority.desc(), Job.id)).all()
    for job_id, wanted in candidates:
        if not set(wanted) <= set(labels):
            continue
        # another claimer may hold or have taken it since: then it is skipped, never waited for
        query = (
            select(Job)
            .where(Job.id == job_id, Job.state == "queued")
            .with_for_update(skip_locked=True)
            .execution_options(populate_existing=True)
        )
        job = session.scalars(query).one_or_none()
        if job is not None:
            return _open_attempt(session, job, worker_id, worker_name, devices)
    return None


def _open_attempt(session: Session, job: Job, worker_id: str, worker_name: str, devices: Sequence[str]) -> Claim:
    states.change(job, "running")
    now = utcnow()
    job.attempt += 1
    job.lease_beat += 1
    job.worker_id = worker_id
    job.cancel_requested = job.pause_requested = False
    job.started_at = job.started_at or now
    checkpoint = start_checkpoint(session, job)
    resumed_from = checkpoint.iteration if checkpoint is not None else None
    session.add(
        Attempt(
            job_id=job.id,
            number=job.attempt,
            worker_id=worker_id,
            worker_name=worker_name,
            devices=list(devices),
            started_at=now,
            resumed_from=resumed_from,
        )
    )
    record_state(session, job, attempt=job.attempt)
    record_event(session, job, "attempt", {"number": job.attempt, "worker": worker_name, "resumed_from": resumed_from})
    return Claim(
        job_id=job.id,
        project_id=job.project_id,
        name=job.name,
        kind=job.kind,
        attempt=job.attempt,
        spec=job.spec,
        gpus=job.gpus,
        max_hours=job.max_hours,
        device_seconds=_device_seconds(session, job),
        checkpoint=checkpoint.sha256 if checkpoint is not None else None,
        checkpoint_iteration=resumed_from,
        inputs=resolve_inputs(session, job),
    )


def _device_seconds(session: Session, job: Job) -> float:
    query = select(func.max(MetricPoint.value)).where(
        MetricPoint.job_id == job.id, MetricPoint.name == "time/device_seconds"
    )
    return max(session.scalar(query) or 0.0, float(job.progress.get("device_seconds") or 0.0))


def set_pid(session: Session, *, job_id: str, attempt: int, pid: int) -> None:
    """Notes the child's process id. Raises Fenced."""
    fenced_job(session, job_id, attempt)
    _attempt(session, job_id, attempt).pid = pid


def heartbeat(session: Session, *, job_id: str, attempt: int) -> Beat:
    """Renews the lease and brings back what a user asked for. Raises Fenced."""
    job = fenced_job(session, job_id, attempt)
    job.lease_beat += 1
    return Beat(beat=job.lease_beat, cancel=job.cancel_requested, pause=job.pause_requested)


def release(session: Session, *, job_id: str, attempt: int, pause: bool = False) -> str:
    """Gives a running job back without using up an attempt: to `queued`, to `paused` (asked for), or to `cancelled`
    when a cancel was asked for meanwhile. Returns the new state. Raises Fenced."""
    job = fenced_job(session, job_id, attempt)
    if job.cancel_requested:
        _end(session, job, "cancelled", "user_cancel")
    elif pause or job.pause_requested:
        _back(session, job, "paused", "paused_by_user", exit="paused")
    else:
        _back(session, job, "queued", "released", exit="released")
    return job.state


def finish(
    session: Session,
    *,
    job_id: str,
    attempt: int,
    state: str,
    reason: str,
    error: ErrorInfo | None = None,
    metrics: dict[str, float] | None = None,
) -> None:
    """Ends a running job as `succeeded`, `failed` or `cancelled`; in the same transaction its waiting children are
    queued, or fail with `dependency_failed`, and theirs. Raises Fenced, IllegalTransition."""
    job = fenced_job(session, job_id, attempt)
    if metrics:
        job.metrics = {**job.metrics, **metrics}
    _end(session, job, state, reason, error)


def end_involuntarily(
    session: Session, *, job_id: str, attempt: int, reason: str = "worker_lost", error: ErrorInfo | None = None
) -> str:
    """The child ended without a result (killed, crashed): back to the queue, or failed with `reason` once the limit
    of such ends without a newer checkpoint is reached. Returns the new state. Raises Fenced."""
    return _lose(session, fenced_job(session, job_id, attempt), reason, error)


def list_leases(session: Session) -> list[Lease]:
    """All running jobs with their beats, for the reaper."""
    query = select(Job.id, Job.attempt, Job.lease_beat).where(Job.state == "running").order_by(Job.id)
    return [Lease(job_id, attempt, beat) for job_id, attempt, beat in session.execute(query)]


def reap(session: Session, *, lease: Lease) -> str | None:
    """Ends the attempt of a dead lease, if nothing moved since it was read: completes a cancel or a pause, requeues,
    or fails. Returns the new state, None when the lease has moved on."""
    job = lock_job(session, lease.job_id)
    if job is None or (job.state, job.attempt, job.lease_beat) != ("running", lease.attempt, lease.beat):
        return None
    return _lose(session, job, "worker_lost", None)


def _lose(session: Session, job: Job, reason: str, error: ErrorInfo | None) -> str:
    attempt = _attempt(session, job.id, job.attempt)
    reached = attempt.last_checkpoint
    # Checkpoints of iteration 0 are those of a method's stage before it: each is newer than the one resumed from.
    attempt.counted = reached is None or (reached > 0 and reached <= (attempt.resumed_from or 0))
    session.flush()
    counted = select(func.count()).select_from(Attempt).where(Attempt.job_id == job.id, Attempt.counted)
    if job.cancel_requested:
        _end(session, job, "cancelled", "user_cancel", exit="lost")
    elif job.pause_requested:
        _back(session, job, "paused", "paused_by_user", exit="lost")
    elif (session.scalar(counted) or 0) < job.max_attempts:
        _back(session, job, "queued", reason, exit="lost")
    else:
        error = error or ErrorInfo(
            code="job.worker_lost",
            message=f"{job.max_attempts} attempts ended without a word and without a newer checkpoint",
            hint="look at the workers' logs and memory; resources.max_attempts raises the limit",
        )
        _end(session, job, "failed", reason, error, exit="lost")
    return job.state


def _back(session: Session, job: Job, state: str, reason: str, *, exit: str) -> None:
    states.change(job, state, reason)
    job.worker_id = None
    job.cancel_requested = job.pause_requested = False
    _close_attempt(session, job, exit, reason)
    record_state(session, job)


def _end(
    session: Session, job: Job, state: str, reason: str, error: ErrorInfo | None = None, *, exit: str | None = None
) -> None:
    states.change(job, state, reason)
    job.error = error.model_dump(mode="json") if error is not None else None
    job.ended_at = utcnow()
    job.worker_id = None
    job.cancel_requested = job.pause_requested = False
    _close_attempt(session, job, exit or state, reason)
    record_state(session, job, error=job.error)
    record_event(session, job, "result", {"state": state, "reason": reason, "metrics": job.metrics})
    settle_children(session, job)


def _close_attempt(session: Session, job: Job, exit: str, reason: str) -> None:
    attempt = _attempt(session, job.id, job.attempt)
    attempt.ended_at, attempt.exit, attempt.reason = utcnow(), exit, reason


def _attempt(session: Session, job_id: str, number: int) -> Attempt:
    return session.get_one(Attempt, (job_id, number))
