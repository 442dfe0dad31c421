"""Files of the artifact store: facts, and the bytes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response

from acamkd_core.spec.api import ArtifactInfo
from server.artifacts import download, service
from server.deps import Blobs, Caller, ReadSession
from server.errors import documented

router = APIRouter(prefix="/artifacts", tags=["artifacts"], responses=documented(401, 404, 422))


@router.get("/{artifact_id}")
def get_artifact(artifact_id: str, session: ReadSession, caller: Caller) -> ArtifactInfo:
    """Size, digest, format, lineage and what the gate said."""
    return service.get_artifact(session=session, caller=caller, artifact_id=artifact_id)


@router.get(
    "/{artifact_id}/download",
    response_class=Response,
    responses={
        200: {"description": "The file.", "content": {"application/octet-stream": {}}},
        206: {"description": "A part of the file."},
        304: {"description": "The caller's copy is the same."},
        307: {"description": "The file lies in object storage, at the signed address in Location."},
        **documented(416),
    },
)
def download_artifact(
    artifact_id: str,
    session: ReadSession,
    caller: Caller,
    blobs: Blobs,
    inline: Annotated[bool, Query(description="Show in the browser instead of saving; pictures only.")] = False,
    range_header: Annotated[str | None, Header(alias="Range")] = None,
    if_none_match: Annotated[str | None, Header()] = None,
    if_range: Annotated[str | None, Header()] = None,
) -> Response:
    """The file, whole or a byte range; its ETag is the SHA-256 of the whole."""
    artifact = service.get_artifact(session=session, caller=caller, artifact_id=artifact_id)
    return download.answer(
        artifact, blobs=blobs, inline=inline, byte_range=range_header, if_none_match=if_none_match, if_range=if_range
    )
