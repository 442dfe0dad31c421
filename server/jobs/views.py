"""What a job has to show, as pages."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from acamkd_core.spec.api import ArtifactInfo, AttemptInfo, LogPage, Page, PanelIndex, PanelInfo, SubmitAnswer
from server.artifacts import repository as artifacts
from server.artifacts.service import artifact_info
from server.auth.service import CallerScope
from server.db.tables import Panel
from server.jobs import repository
from server.jobs.actions import submitted_form
from server.jobs.service import find_job
from server.jobs.submit import stored_answer

SHOWN_KINDS = ("checkpoint", "export", "bundle", "report")


def get_spec(*, session: Session, caller: CallerScope, job: str, form: str) -> SubmitAnswer:
    """The spec as submitted or as resolved, with origins. Raises CoreError `job.not_found`."""
    row = find_job(session, caller, job)
    answer = stored_answer(session, row)
    if form == "submitted":
        answer.spec = submitted_form(row)
        return answer
    # What only the data and the networks could tell was found out when the job started.
    found = row.facts.get("automatic") or {}
    for origin in answer.origins:
        if origin.path in found:
            origin.value, origin.origin = found[origin.path], "automatic"
    return answer


def get_logs(*, session: Session, caller: CallerScope, job: str, after: int, tail: int | None, limit: int) -> LogPage:
    """Log lines after a number. Raises CoreError `job.not_found`."""
    row = find_job(session, caller, job)
    lines = repository.logs_after(session, job_id=row.id, after=after, limit=limit, tail=tail)
    return LogPage(
        lines=[
            {"n": one.n, "attempt": one.attempt, "time": one.time.isoformat(), "level": one.level, "text": one.text}
            for one in lines
        ],
        next=lines[-1].n if lines else after,
    )


def list_panels(
    *,
    session: Session,
    caller: CallerScope,
    job: str,
    iteration: int | None,
    image: int | None,
    kinds: Sequence[str],
) -> Page[PanelInfo]:
    """Pictures of a job, the newest first. Raises CoreError `job.not_found`."""
    row = find_job(session, caller, job)
    panels, total = artifacts.list_panels(session, job_id=row.id, iteration=iteration, image=image, kinds=kinds)
    return Page(items=[_panel_info(panel) for panel in panels], total=total)


def panel_index(*, session: Session, caller: CallerScope, job: str) -> PanelIndex:
    """Where a job has pictures, and those that are drawn once. Raises CoreError `job.not_found`."""
    row = find_job(session, caller, job)
    iterations, images = artifacts.panel_places(session, job_id=row.id)
    once, _ = artifacts.list_panels(session, job_id=row.id, kinds=artifacts.DRAWN_ONCE)
    return PanelIndex(iterations=iterations, images=images, once=[_panel_info(panel) for panel in once])


def _panel_info(panel: Panel) -> PanelInfo:
    return PanelInfo(
        artifact=panel.artifact_id,
        iteration=panel.iteration,
        image=panel.image,
        kind=panel.kind,
        index=panel.index,
        caption=panel.caption,
        stats=panel.stats,
        attempt=panel.attempt,
    )


def list_artifacts(*, session: Session, caller: CallerScope, job: str, kind: str | None) -> Page[ArtifactInfo]:
    """Files of a job. Raises CoreError `job.not_found`."""
    row = find_job(session, caller, job)
    rows = artifacts.list_for_job(session, job_id=row.id, kinds=[kind] if kind else SHOWN_KINDS)
    return Page(items=[artifact_info(one) for one in rows], total=len(rows))


def list_attempts(*, session: Session, caller: CallerScope, job: str) -> Page[AttemptInfo]:
    """Tries at a job. Raises CoreError `job.not_found`."""
    row = find_job(session, caller, job)
    items = [
        AttemptInfo(
            number=one.number,
            worker=one.worker_name,
            pid=one.pid,
            devices=[str(device) for device in one.devices],
            started_at=one.started_at,
            ended_at=one.ended_at,
            exit=one.exit,
            reason=one.reason,
            counted=one.counted,
            resumed_from=one.resumed_from,
            last_checkpoint=one.last_checkpoint,
        )
        for one in repository.list_attempts(session, job_id=row.id)
    ]
    return Page(items=items, total=len(items))
