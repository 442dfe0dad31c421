"""What a job starts from: files of other jobs and models, and a checkpoint."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.db.tables import Artifact, Job


def resolve_inputs(session: Session, job: Job) -> dict[str, dict[str, Any]]:
    """The stored inputs of a job as files: key -> {"sha256", "name", "bytes"}; `ratio:` keys stay {"job": id}.

    The references were turned into ids when the job was submitted, so that a renamed job or a moved alias changes
    nothing. A file that is gone is left out: the run then says which input it misses.
    """
    found: dict[str, dict[str, Any]] = {}
    for key, reference in job.inputs.items():
        if key.startswith("ratio:"):
            found[key] = dict(reference)
            continue
        row = (
            weights_of(session, reference["job"])
            if "job" in reference
            else session.get(Artifact, reference.get("artifact"))
        )
        if row is not None:
            found[key] = {"sha256": row.sha256, "name": row.name, "bytes": row.bytes}
    return found


def weights_of(session: Session, job_id: str) -> Artifact | None:
    """The safetensors export of a job."""
    query = (
        select(Artifact)
        .where(Artifact.job_id == job_id, Artifact.kind == "export", Artifact.format == "safetensors")
        .order_by(Artifact.id.desc())
        .limit(1)
    )
    return session.scalars(query).one_or_none()


def newest_checkpoint_of(session: Session, job_id: str) -> Artifact | None:
    """The committed checkpoint with the highest iteration."""
    query = (
        select(Artifact)
        .where(Artifact.job_id == job_id, Artifact.kind == "checkpoint")
        .order_by(Artifact.iteration.desc(), Artifact.id.desc())
        .limit(1)
    )
    return session.scalars(query).one_or_none()


def start_checkpoint(session: Session, job: Job) -> Artifact | None:
    """Its own newest checkpoint, else the one that a retry was told to start from (None = from the beginning)."""
    own = newest_checkpoint_of(session, job.id)
    if own is not None or job.start_checkpoint is None:
        return own
    return session.get(Artifact, job.start_checkpoint)
