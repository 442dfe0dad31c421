"""What a user can do to a job: cancel, pause, resume; and new jobs from old ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from acamkd_core.spec.api import TERMINAL_STATES, JobDetail, SubmitAnswer
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.patch import apply_set
from server.artifacts import repository as artifacts
from server.auth import repository as audit
from server.auth.service import CallerScope
from server.context import wake_after_commit
from server.db.tables import Job
from server.jobs import names, repository
from server.jobs.schemas import CloneRequest, RetryRequest
from server.jobs.service import find_job, job_detail
from server.jobs.submit import submit
from server.settings import Settings


def _act(session: Session, caller: CallerScope, ref: str, action: str, change: Callable[..., None]) -> JobDetail:
    job = find_job(session, caller, ref, lock=True)
    change(session, job=job)
    audit.record(session, project_id=caller.project_id, actor=caller.actor, action=action, target=job.id)
    session.flush()
    # A free slot may take what was resumed; and what a cancelled job leaves behind may start another.
    wake_after_commit(session)
    return job_detail(session, job)


def cancel(*, session: Session, caller: CallerScope, job: str) -> JobDetail:
    """Cancels. Raises CoreError `job.not_found`, `job.illegal_transition`."""
    return _act(session, caller, job, "job.cancel", repository.request_cancel)


def pause(*, session: Session, caller: CallerScope, job: str) -> JobDetail:
    """Pauses. Raises CoreError `job.not_found`, `job.illegal_transition`."""
    return _act(session, caller, job, "job.pause", repository.request_pause)


def resume(*, session: Session, caller: CallerScope, job: str) -> JobDetail:
    """Resumes. Raises CoreError `job.not_found`, `job.illegal_transition`."""
    return _act(session, caller, job, "job.resume", repository.resume)


def submitted_form(job: Job) -> dict[str, Any]:
    """The spec as its user wrote it."""
    data = json.loads(job.submitted)
    return data if isinstance(data, dict) else {}


def _without_name(job: Job) -> dict[str, Any]:
    return {key: value for key, value in submitted_form(job).items() if key != "name"}


def retry(*, session: Session, caller: CallerScope, config: Settings, job: str, request: RetryRequest) -> SubmitAnswer:
    """A new job that tries again what has ended.

    Raises:
        CoreError: `job.not_found`; `retry.not_allowed` while the old one has not ended; `job.no_checkpoint`.
        SpecInvalid: the changed spec is wrong.
    """
    old = find_job(session, caller, job)
    if old.state not in TERMINAL_STATES:
        raise CoreError(
            "retry.not_allowed",
            f"job {old.name!r} is {old.state}",
            hint="cancel it first, or clone it",
            value=old.state,
        )
    checkpoint = None
    if request.from_checkpoint:
        found = artifacts.newest_checkpoint(session, job_id=old.id)
        if found is None:
            raise CoreError("job.no_checkpoint", f"job {old.name!r} has no checkpoint", field="from_checkpoint")
        checkpoint = found.id
    return submit(
        session=session,
        caller=caller,
        config=config,
        submitted=apply_set(_without_name(old), request.set),
        name=names.successor_name(session, caller.project_id, old.name),
        retry_of=old.id,
        start_checkpoint=checkpoint,
    )


def clone(*, session: Session, caller: CallerScope, config: Settings, job: str, request: CloneRequest) -> SubmitAnswer:
    """A new job with the same spec and changes. Raises CoreError `job.not_found`, SpecInvalid."""
    submitted = _without_name(find_job(session, caller, job))
    if request.name is not None:
        submitted["name"] = request.name
    return submit(session=session, caller=caller, config=config, submitted=apply_set(submitted, request.set))
