"""Facts about files of the artifact store."""

from __future__ import annotations

from sqlalchemy.orm import Session

from acamkd_core.spec.api import ArtifactInfo
from acamkd_core.spec.errors import CoreError
from server.artifacts import repository
from server.auth.service import CallerScope
from server.db.tables import Artifact


def artifact_info(row: Artifact) -> ArtifactInfo:
    """A row as its read model."""
    details = dict(row.details)
    if row.kind == "checkpoint":
        details |= {"is_best": row.is_best, "is_last": row.is_last}
    return ArtifactInfo.model_validate(
        {
            "id": row.id,
            "job": row.job_id,
            "kind": row.kind,
            "name": row.name,
            "format": row.format,
            "bytes": row.bytes,
            "sha256": row.sha256,
            "iteration": row.iteration,
            "attempt": row.attempt,
            "verified": row.verified,
            "metrics": row.metrics,
            "details": details,
            "created_at": row.created_at,
        }
    )


def get_artifact(*, session: Session, caller: CallerScope, artifact_id: str) -> ArtifactInfo:
    """One artifact of the caller's project. Raises CoreError `artifact.not_found`."""
    row = repository.get(session, project_id=caller.project_id, artifact_id=artifact_id)
    if row is None:
        raise CoreError("artifact.not_found", "there is no such file", value=artifact_id)
    return artifact_info(row)
