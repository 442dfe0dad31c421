"""What a job has to show: spec, metrics, logs, panels, files, attempts; and jobs side by side."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from acamkd_core.spec.api import (
    ArtifactInfo,
    AttemptInfo,
    CompareAnswer,
    LogPage,
    MetricsAnswer,
    Page,
    PanelIndex,
    PanelInfo,
    SubmitAnswer,
)
from server.bodies import MAX_INTEGER
from server.deps import Caller, ReadSession
from server.errors import documented
from server.jobs import compare, metrics, views

router = APIRouter(tags=["jobs"], responses=documented(401, 404, 422))
XAxis = Literal["iteration", "images", "device_seconds"]
Names = Annotated[str | None, Query(max_length=2000, description="Comma-separated names; `*` matches any part.")]
Points = Annotated[int, Query(ge=10, le=20_000, description="Most points a series; more are thinned, extremes kept.")]


@router.get("/jobs/{job}/spec")
def get_spec(
    job: str,
    session: ReadSession,
    caller: Caller,
    form: Annotated[
        Literal["submitted", "resolved"], Query(description="As it came, or with every value.")
    ] = "resolved",
) -> SubmitAnswer:
    """The spec of a job and where each value comes from."""
    return views.get_spec(session=session, caller=caller, job=job, form=form)


@router.get("/jobs/{job}/metrics")
def get_metrics(
    job: str,
    session: ReadSession,
    caller: Caller,
    names: Names = None,
    x: Annotated[XAxis, Query(description="Horizontal axis.")] = "iteration",
    points: Points = 1000,
    after: Annotated[int | None, Query(ge=0, le=MAX_INTEGER, description="Only points with a larger x.")] = None,
) -> MetricsAnswer:
    """Series of metrics, thinned to the points asked for without losing a spike."""
    return metrics.get_metrics(session=session, caller=caller, job=job, names=names, x=x, points=points, after=after)


@router.get("/jobs/{job}/logs")
def get_logs(
    job: str,
    session: ReadSession,
    caller: Caller,
    after: Annotated[
        int, Query(ge=0, le=MAX_INTEGER, description="`next` of the answer before; 0 = from the start.")
    ] = 0,
    tail: Annotated[int | None, Query(ge=1, le=5000, description="Only the last lines.")] = None,
    limit: Annotated[int, Query(ge=1, le=5000)] = 1000,
) -> LogPage:
    """Log lines, oldest first."""
    return views.get_logs(session=session, caller=caller, job=job, after=after, tail=tail, limit=limit)


@router.get("/jobs/{job}/panels")
def list_panels(
    job: str,
    session: ReadSession,
    caller: Caller,
    iteration: Annotated[int | None, Query(ge=0, le=MAX_INTEGER)] = None,
    image: Annotated[int | None, Query(ge=0, le=MAX_INTEGER, description="Index in the validation split.")] = None,
    kind: Annotated[list[str] | None, Query(max_length=20, description="Any of these kinds.")] = None,
) -> Page[PanelInfo]:
    """Pictures: predictions and masks over fixed validation images, the newest first, at most 2,000.

    A long run has more than that: ask for an iteration (`/panels/index` lists them) or an image.
    """
    return views.list_panels(
        session=session, caller=caller, job=job, iteration=iteration, image=image, kinds=list(kind or [])
    )


@router.get("/jobs/{job}/panels/index")
def get_panel_index(job: str, session: ReadSession, caller: Caller) -> PanelIndex:
    """At which iterations and of which images there are pictures."""
    return views.panel_index(session=session, caller=caller, job=job)


@router.get("/jobs/{job}/artifacts")
def list_artifacts(
    job: str,
    session: ReadSession,
    caller: Caller,
    kind: Annotated[Literal["checkpoint", "export", "bundle", "panel", "report"] | None, Query()] = None,
) -> Page[ArtifactInfo]:
    """Files of the job, pictures left out unless asked for."""
    return views.list_artifacts(session=session, caller=caller, job=job, kind=kind)


@router.get("/jobs/{job}/attempts")
def list_attempts(job: str, session: ReadSession, caller: Caller) -> Page[AttemptInfo]:
    """Every try, where it ran and how it ended."""
    return views.list_attempts(session=session, caller=caller, job=job)


@router.get("/compare")
def compare_jobs(
    session: ReadSession,
    caller: Caller,
    jobs: Annotated[
        str, Query(max_length=2000, description="Ids or names, comma-separated; the first is the baseline.")
    ],
    x: Annotated[XAxis, Query(description="Horizontal axis.")] = "iteration",
    names: Names = "val/miou",
    points: Points = 500,
) -> CompareAnswer:
    """Jobs side by side: differing fields, series, per-class scores, and why they may not be comparable."""
    return compare.compare(session=session, caller=caller, jobs=jobs, x=x, names=names, points=points)
