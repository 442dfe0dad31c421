"""All SQL about artifacts and panels. A row is added only after its blob is complete in the store."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from server.db.base import new_id, utcnow
from server.db.tables import Artifact, Attempt, Job, Panel, RetiredBlob
from server.jobs.repository.events import record_event
from server.jobs.repository.inputs import newest_checkpoint_of
from server.jobs.repository.locks import fenced_job

# What does not change while a student learns: its pictures come with the first evaluation, and stand for all.
DRAWN_ONCE = ("image", "truth", "teacher")


def add(
    session: Session,
    *,
    job_id: str,
    attempt: int,
    kind: str,
    name: str,
    format: str,
    sha256: str,
    size: int,
    iteration: int | None = None,
    verified: bool | None = None,
    metrics: dict[str, float] | None = None,
    details: dict[str, Any] | None = None,
) -> Artifact:
    """A file of a running attempt, with its `export` event; the same (job, kind, name) of an earlier attempt is
    replaced. Raises Fenced."""
    job = fenced_job(session, job_id, attempt)
    row = _put(session, job, kind=kind, name=name, format=format, sha256=sha256, size=size)
    row.iteration, row.verified, row.metrics, row.details = iteration, verified, metrics or {}, details or {}
    session.flush()
    if kind in ("export", "bundle"):
        data = {"artifact": row.id, "kind": kind, "format": format, "name": name, "verified": verified}
        record_event(session, job, "export", data)
    return row


def add_checkpoint(
    session: Session,
    *,
    job_id: str,
    attempt: int,
    sha256: str,
    size: int,
    iteration: int,
    is_best: bool,
    is_last: bool = True,
    metrics: dict[str, float] | None = None,
) -> Artifact:
    """Commits a checkpoint, with its event: from now on a resume starts from it. Retires all but best, last and the
    previous last. Raises Fenced."""
    job = fenced_job(session, job_id, attempt)
    name = f"iteration-{iteration:08d}.ckpt"
    row = _put(session, job, kind="checkpoint", name=name, format="ckpt", sha256=sha256, size=size)
    row.iteration, row.metrics = iteration, metrics or {}
    rows = [other for other in list_for_job(session, job_id=job_id, kinds=["checkpoint"]) if other.id != row.id]
    for other in rows:
        other.is_best = other.is_best and not is_best
        other.is_last = other.is_last and not is_last
    row.is_best, row.is_last = is_best, is_last
    session.flush()
    in_order = sorted([*rows, row], key=lambda one: (one.iteration or 0, one.id))
    for old in in_order[:-2]:
        if not old.is_best:
            _retire(session, old.sha256)
            session.delete(old)
    session.get_one(Attempt, (job_id, attempt)).last_checkpoint = iteration
    record_event(session, job, "checkpoint", {"artifact": row.id, "iteration": iteration, "is_best": is_best})
    return row


def add_panel(
    session: Session,
    *,
    job_id: str,
    attempt: int,
    sha256: str,
    size: int,
    iteration: int,
    image: int,
    kind: str,
    index: int = 0,
    caption: str = "",
    stats: dict[str, float] | None = None,
) -> Panel:
    """A picture of the run page, with its event; the same place of an earlier attempt is replaced. Raises Fenced."""
    job = fenced_job(session, job_id, attempt)
    name = f"iteration-{iteration:08d}-image-{image:04d}-{kind}-{index:03d}.png"
    row = _put(session, job, kind="panel", name=name, format="png", sha256=sha256, size=size)
    row.iteration = iteration
    session.flush()
    panel = session.get(Panel, (job_id, iteration, image, kind, index))
    if panel is None:
        panel = Panel(job_id=job_id, iteration=iteration, image=image, kind=kind, index=index, artifact_id=row.id)
        session.add(panel)
    panel.caption, panel.stats, panel.attempt = caption, stats or {}, attempt
    session.flush()
    place = {"iteration": iteration, "image": image, "kind": kind, "index": index}
    record_event(session, job, "panel", {"artifact": row.id, **place})
    return panel


def _put(session: Session, job: Job, *, kind: str, name: str, format: str, sha256: str, size: int) -> Artifact:
    query = select(Artifact).where(Artifact.job_id == job.id, Artifact.kind == kind, Artifact.name == name)
    row = session.scalars(query).one_or_none()
    if row is None:
        row = Artifact(id=new_id(), project_id=job.project_id, job_id=job.id, kind=kind, name=name)
        session.add(row)
    elif row.sha256 != sha256:
        _retire(session, row.sha256)
    row.format, row.sha256, row.bytes = format, sha256, size
    row.attempt, row.created_at = job.attempt, utcnow()
    return row


def _retire(session: Session, sha256: str) -> None:
    session.merge(RetiredBlob(sha256=sha256, retired_at=utcnow()))


def get(session: Session, *, project_id: str, artifact_id: str) -> Artifact | None:
    """An artifact within a project."""
    row = session.get(Artifact, artifact_id)
    return row if row is not None and row.project_id == project_id else None


def list_for_job(session: Session, *, job_id: str, kinds: Collection[str] = ()) -> list[Artifact]:
    """Artifacts of a job, oldest first; panels only when `kinds` names them."""
    query = select(Artifact).where(Artifact.job_id == job_id)
    query = query.where(Artifact.kind.in_(kinds)) if kinds else query.where(Artifact.kind != "panel")
    return list(session.scalars(query.order_by(Artifact.id)))


def list_panels(
    session: Session,
    *,
    job_id: str,
    iteration: int | None = None,
    image: int | None = None,
    kinds: Collection[str] = (),
    limit: int = 2000,
) -> tuple[list[Panel], int]:
    """Panels of a job, newest iteration first, then by image, kind, index; and how many there are under the filters.

    A long run has tens of thousands: when `limit` cuts, it is the oldest that are left out.
    """
    query = select(Panel).where(Panel.job_id == job_id)
    if iteration is not None:
        query = query.where(Panel.iteration == iteration)
    if image is not None:
        query = query.where(Panel.image == image)
    if kinds:
        query = query.where(Panel.kind.in_(kinds))
    order = (Panel.iteration.desc(), Panel.image, Panel.kind, Panel.index)
    rows = list(session.scalars(query.order_by(*order).limit(limit)))
    if len(rows) < limit:
        return rows, len(rows)
    return rows, session.scalar(select(func.count()).select_from(query.subquery())) or 0


def panel_places(session: Session, *, job_id: str) -> tuple[list[int], list[int]]:
    """Where a job has pictures: iterations with predictions or masks, and validation images, both ascending."""
    mine = Panel.job_id == job_id
    drawn = mine & Panel.kind.not_in(DRAWN_ONCE)
    iterations = select(Panel.iteration).where(drawn).distinct().order_by(Panel.iteration)
    images = select(Panel.image).where(mine).distinct().order_by(Panel.image)
    return list(session.scalars(iterations)), list(session.scalars(images))


def newest_checkpoint(session: Session, *, job_id: str) -> Artifact | None:
    """The checkpoint a resume starts from."""
    return newest_checkpoint_of(session, job_id)


def referenced(session: Session, *, digests: Collection[str]) -> set[str]:
    """Which of these blobs a row still names."""
    return set(session.scalars(select(Artifact.sha256).where(Artifact.sha256.in_(digests)).distinct()))


def retired(session: Session, *, older_than_seconds: float) -> list[str]:
    """Blobs that lost a row at least so long ago, and that no row names."""
    before = utcnow() - timedelta(seconds=older_than_seconds)
    query = select(RetiredBlob.sha256).where(
        RetiredBlob.retired_at <= before, RetiredBlob.sha256.not_in(select(Artifact.sha256))
    )
    return list(session.scalars(query))


def forget_retired(session: Session, *, digests: Collection[str]) -> None:
    """Takes blobs off the list of retired ones, once they are deleted."""
    session.execute(delete(RetiredBlob).where(RetiredBlob.sha256.in_(digests)))
