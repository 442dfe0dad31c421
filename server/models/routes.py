"""Models that jobs produced, and the aliases by which specs name them (`model:street@champion`)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from acamkd_core.spec.api import ModelInfo, Page
from server.bodies import MAX_INTEGER, Body
from server.deps import Caller, ReadSession, WriteSession
from server.errors import documented
from server.models import service

router = APIRouter(prefix="/models", tags=["models"], responses=documented(401, 422))
AliasName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9._-]{0,39}$")]


class AliasTarget(Body):
    """Which version an alias points at."""

    version: int = Field(ge=1, le=MAX_INTEGER, description="Version of the model.")


@router.get("")
def list_models(
    session: ReadSession,
    caller: Caller,
    name: Annotated[str | None, Query(max_length=80, description="Only versions of this model.")] = None,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[ModelInfo]:
    """All versions of all models, newest first."""
    return service.list_models(session=session, caller=caller, name=name, cursor=cursor, limit=limit)


@router.get("/{ref}", responses=documented(404))
def get_model(ref: str, session: ReadSession, caller: Caller) -> ModelInfo:
    """One model: an id, `name` (its newest version), `name@alias` or `name@3`."""
    return service.get_model(session=session, caller=caller, ref=ref)


@router.put("/{name}/aliases/{alias}", responses=documented(404))
def put_alias(name: str, alias: AliasName, body: AliasTarget, session: WriteSession, caller: Caller) -> ModelInfo:
    """Points an alias at a version, away from the version that had it."""
    return service.put_alias(session=session, caller=caller, name=name, alias=alias, version=body.version)


@router.delete("/{name}/aliases/{alias}", responses=documented(404))
def delete_alias(name: str, alias: AliasName, session: WriteSession, caller: Caller) -> ModelInfo:
    """Takes an alias away."""
    return service.delete_alias(session=session, caller=caller, name=name, alias=alias)
