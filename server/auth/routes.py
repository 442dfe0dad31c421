"""API keys: made, listed, revoked."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import Field

from acamkd_core.spec.api import ApiKeyInfo, Page
from server.auth import service
from server.bodies import Body
from server.deps import Caller, ReadSession, WriteSession
from server.errors import documented

router = APIRouter(prefix="/keys", tags=["keys"], responses=documented(401, 422))


class KeyCreate(Body):
    """A new key."""

    name: str = Field(min_length=1, max_length=80, description="Who or what uses the key.")


@router.get("")
def list_keys(session: ReadSession, caller: Caller) -> Page[ApiKeyInfo]:
    """All keys of the project, without their secrets."""
    return service.list_keys(session=session, caller=caller)


@router.post("", status_code=201)
def create_key(body: KeyCreate, session: WriteSession, caller: Caller) -> ApiKeyInfo:
    """A new key; this answer is the only one that shows it."""
    return service.create_key(session=session, caller=caller, name=body.name)


@router.delete("/{key_id}", responses=documented(404))
def revoke_key(key_id: str, session: WriteSession, caller: Caller) -> ApiKeyInfo:
    """Revokes a key at once and for ever."""
    return service.revoke_key(session=session, caller=caller, key_id=key_id)
