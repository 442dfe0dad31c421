"""Jobs: submit, list, change, act. What a job has to show is in `views.py`."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Response

from acamkd_core.spec.api import JobDetail, JobState, JobSummary, Page, SubmitAnswer
from server.deps import Caller, Config, ReadSession, SubmitSession, WriteSession
from server.errors import documented
from server.jobs import actions, service, submit
from server.jobs.body import JOB_BODY, SubmittedSpec
from server.jobs.schemas import CloneRequest, JobPatch, RetryRequest

router = APIRouter(prefix="/jobs", tags=["jobs"], responses=documented(401, 422))
Sort = Literal["created", "-created", "name", "-name"]


@router.post(
    "",
    status_code=201,
    openapi_extra=JOB_BODY,
    responses={200: {"model": SubmitAnswer, "description": "Dry run."}, **documented(404, 409, 413, 415)},
)
def submit_job(
    spec: SubmittedSpec,
    session: SubmitSession,
    caller: Caller,
    config: Config,
    response: Response,
    dry_run: Annotated[bool, Query(description="Resolve and check only; nothing is kept.")] = False,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> SubmitAnswer:
    """Checks a spec, resolves it and queues the job. The same Idempotency-Key and body give the same job again."""
    if dry_run:
        response.status_code = 200
        return submit.dry_run(session=session, caller=caller, config=config, submitted=spec)
    answer = submit.submit(
        session=session, caller=caller, config=config, submitted=spec, idempotency_key=idempotency_key
    )
    response.headers["Location"] = f"/api/v1/jobs/{answer.id}"
    return answer


@router.get("")
def list_jobs(
    session: ReadSession,
    caller: Caller,
    state: Annotated[list[JobState] | None, Query(description="Any of these states.")] = None,
    kind: Annotated[Literal["distill", "inspect"] | None, Query()] = None,
    method: Annotated[str | None, Query(max_length=80, description="A method among the distill terms.")] = None,
    tag: Annotated[str | None, Query(max_length=80)] = None,
    q: Annotated[str | None, Query(max_length=200, description="Part of the name.")] = None,
    sort: Annotated[Sort, Query(description="Order; a leading minus reverses it.")] = "-created",
    cursor: Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[JobSummary]:
    """Jobs of the project."""
    return service.list_jobs(
        session=session,
        caller=caller,
        states=list(state or []),
        kind=kind,
        method=method,
        tag=tag,
        q=q,
        sort=sort,
        cursor=cursor,
        limit=limit,
    )


@router.get("/{job}", responses=documented(404))
def get_job(job: str, session: ReadSession, caller: Caller) -> JobDetail:
    """One job, by id or name."""
    return service.get_job(session=session, caller=caller, job=job)


@router.patch("/{job}", responses=documented(404, 409))
def patch_job(job: str, body: JobPatch, session: WriteSession, caller: Caller) -> JobDetail:
    """Changes name, tags or notes."""
    return service.patch_job(session=session, caller=caller, job=job, patch=body)


@router.post("/{job}/cancel", responses=documented(404, 409))
def cancel_job(job: str, session: WriteSession, caller: Caller) -> JobDetail:
    """Ends a job for good; a running one stops within seconds. Cancelling a cancelled job changes nothing."""
    return actions.cancel(session=session, caller=caller, job=job)


@router.post("/{job}/pause", responses=documented(404, 409))
def pause_job(job: str, session: WriteSession, caller: Caller) -> JobDetail:
    """Takes a job off the queue; a running one writes a checkpoint first."""
    return actions.pause(session=session, caller=caller, job=job)


@router.post("/{job}/resume", responses=documented(404, 409))
def resume_job(job: str, session: WriteSession, caller: Caller) -> JobDetail:
    """Puts a paused job back into the queue; it goes on from its last checkpoint."""
    return actions.resume(session=session, caller=caller, job=job)


@router.post("/{job}/retry", status_code=201, responses=documented(404, 409))
def retry_job(
    job: str, session: WriteSession, caller: Caller, config: Config, body: RetryRequest | None = None
) -> SubmitAnswer:
    """A new job from an ended one, with changes, from the start or from its last checkpoint."""
    return actions.retry(session=session, caller=caller, config=config, job=job, request=body or RetryRequest())


@router.post("/{job}/clone", status_code=201, responses=documented(404, 409))
def clone_job(
    job: str, session: WriteSession, caller: Caller, config: Config, body: CloneRequest | None = None
) -> SubmitAnswer:
    """A new job with the same spec and the given changes."""
    return actions.clone(session=session, caller=caller, config=config, job=job, request=body or CloneRequest())
