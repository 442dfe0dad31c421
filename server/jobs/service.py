"""Jobs as read models, and the words about them that may change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from acamkd_core.spec.api import JobDetail, JobSummary, Page, ProgressInfo
from acamkd_core.spec.errors import CoreError, ErrorInfo
from acamkd_core.spec.programs import program_of
from server.artifacts import repository as artifacts
from server.auth import repository as audit
from server.auth.service import CallerScope
from server.db.tables import Job
from server.jobs import describe, repository
from server.jobs.fixes import fixes_for
from server.jobs.schemas import JobPatch

# One holds a score for each class; older ones live on as the metric series `val/...`.
MOST_EVALUATIONS = 500


def find_job(session: Session, caller: CallerScope, ref: str, *, lock: bool = False) -> Job:
    """A job of the caller's project by id or name. Raises CoreError `job.not_found`."""
    find = repository.lock if lock else repository.get
    job = find(session, project_id=caller.project_id, ref=ref)
    if job is None:
        raise CoreError("job.not_found", f"there is no job {ref!r}", hint="`acamkd ls` lists them", value=ref)
    return job


def _fields(job: Job) -> dict[str, Any]:
    summary = job.summary
    return {
        "id": job.id,
        "name": job.name,
        "kind": job.kind,
        "state": job.state,
        "reason": job.reason,
        "task": job.spec.get("task") if job.kind == "distill" else None,
        "tags": job.tags,
        "methods": summary.get("methods", []),
        "student": summary.get("student"),
        "teacher": summary.get("teacher"),
        "dataset": describe.dataset_version(job),
        "seed": summary.get("seed"),
        "created_at": job.created_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "progress": ProgressInfo.model_validate(job.progress),
        "metrics": {name: value for name, value in job.metrics.items() if isinstance(value, (int, float))},
        "alarms": job.alarms,
        "attempts": job.attempt,
    }


def job_summary(job: Job) -> JobSummary:
    """A row of the Runs page."""
    return JobSummary.model_validate(_fields(job))


def list_jobs(
    *,
    session: Session,
    caller: CallerScope,
    states: Sequence[str],
    kind: str | None,
    method: str | None,
    tag: str | None,
    q: str | None,
    sort: str,
    cursor: str | None,
    limit: int,
) -> Page[JobSummary]:
    """A page of jobs under the filters."""
    rows, next_cursor, total = repository.list_jobs(
        session,
        project_id=caller.project_id,
        states=states,
        kinds=[kind] if kind else [],
        method=method,
        tag=tag,
        search=q,
        sort=sort,
        cursor=cursor,
        limit=limit,
    )
    return Page(items=[job_summary(row) for row in rows], next_cursor=next_cursor, total=total)


def job_detail(session: Session, job: Job) -> JobDetail:
    """Everything that the run page's header needs."""
    evaluations = repository.events_of_kinds(session, job_id=job.id, kinds=["evaluation"], limit=MOST_EVALUATIONS)
    if len(evaluations) == MOST_EVALUATIONS:
        # the first is the teacher's, against which all others are held
        first = repository.first_of_kind(session, job_id=job.id, kind="evaluation")
        evaluations = [first, *evaluations[1:]] if first is not None else evaluations
    alarms = repository.events_of_kinds(session, job_id=job.id, kinds=["alarm"], limit=100)
    last_log: list[str] = []
    if job.state == "failed":
        last_log = [line.text for line in repository.logs_after(session, job_id=job.id, tail=20)]
    waiting = repository.dependencies(session, job_id=job.id) if job.state == "waiting" else []
    checkpoint = artifacts.newest_checkpoint(session, job_id=job.id) if job.state == "failed" else None
    facts = job.facts
    return JobDetail.model_validate(
        _fields(job)
        | {
            "notes": job.notes,
            "error": ErrorInfo.model_validate(job.error) if job.error else None,
            "fixes": fixes_for(job, has_checkpoint=checkpoint is not None),
            "queue": describe.queue_info(session, job),
            "retry_of": job.retry_of,
            "waits_for": waiting[0].name if waiting else None,
            "dataset_info": facts.get("dataset") or {},
            "profile": facts.get("profile") or {},
            # A run says its pairs once its teacher is loaded; one that ended earlier may have come so far.
            "teacher_program": program_of(job.spec, ran="pairs" in facts or (None if job.attempt else False)),
            "pairs": facts.get("pairs") or [],
            "evaluations": [row.data for row in evaluations],
            "iteration_seconds": facts.get("iteration_seconds"),
            "given": job.summary.get("given", 0),
            "resolved": len(job.origins),
            "last_log": last_log,
            "alarm_list": [row.data for row in reversed(alarms)],
        }
    )


def get_job(*, session: Session, caller: CallerScope, job: str) -> JobDetail:
    """One job. Raises CoreError `job.not_found`."""
    return job_detail(session, find_job(session, caller, job))


def patch_job(*, session: Session, caller: CallerScope, job: str, patch: JobPatch) -> JobDetail:
    """Changes name, tags or notes; what was not sent stays. Raises CoreError `job.not_found`, `job.name_taken`."""
    row = find_job(session, caller, job, lock=True)
    repository.update_labels(session, job=row, name=patch.name, tags=patch.tags, notes=patch.notes)
    changed = sorted(patch.model_fields_set)
    audit.record(
        session,
        project_id=caller.project_id,
        actor=caller.actor,
        action="job.patch",
        target=row.id,
        details={"fields": changed},
    )
    return job_detail(session, row)
