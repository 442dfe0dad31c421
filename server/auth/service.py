"""Who calls. On loopback nobody needs a key; a key that is sent is checked all the same."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from acamkd_core.spec.api import ApiKeyInfo, Page
from acamkd_core.spec.errors import CoreError
from server.auth import repository
from server.db.base import DEFAULT_PROJECT, utcnow
from server.db.session import read_session, write_session
from server.db.tables import ApiKey
from server.settings import Settings

KEY_PREFIX = "acamkd_"
TOUCH_SECONDS = 60
log = structlog.get_logger("server.auth")


@dataclass(frozen=True)
class CallerScope:
    """Who calls, and the project that everything read or written is confined to."""

    project_id: str
    actor: str


class KeyUse:
    """When this process last noted that a key was used: a database that takes no write must cost one request a minute
    its time, not every one."""

    def __init__(self) -> None:
        self._noted: dict[str, float] = {}

    def due(self, key_id: str) -> bool:
        """Whether to note it now; the caller then does."""
        now = time.monotonic()
        if now - self._noted.get(key_id, float("-inf")) < TOUCH_SECONDS:
            return False
        self._noted[key_id] = now
        return True


def hash_key(key: str) -> str:
    """SHA-256 of a key. Keys carry 256 random bits, so a slow hash would protect nothing more."""
    return hashlib.sha256(key.encode()).hexdigest()


def authenticate(engine: Engine, settings: Settings, authorization: str | None, use: KeyUse) -> CallerScope:
    """The caller behind an Authorization header.

    Raises:
        CoreError: `auth.unauthorized`, when a key is missing where it is needed, or is not known.
    """
    if authorization is None:
        if settings.keys_required:
            raise CoreError(
                "auth.unauthorized",
                "this server needs an API key",
                hint="send it as `Authorization: Bearer <key>`, or set ACAMKD_API_KEY",
            )
        return CallerScope(project_id=DEFAULT_PROJECT, actor="local")
    scheme, _, key = authorization.partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key.startswith(KEY_PREFIX):
        raise CoreError("auth.unauthorized", "the Authorization header is not `Bearer acamkd_...`")
    with read_session(engine) as session:
        row = repository.find_key(session, key_hash=hash_key(key))
        if row is None:
            raise CoreError("auth.unauthorized", "this API key is not known, or was revoked")
        caller = CallerScope(project_id=row.project_id, actor=f"key:{row.name}")
        stale = row.last_used_at is None or (utcnow() - row.last_used_at).total_seconds() > TOUCH_SECONDS
        key_id = row.id
    if stale and use.due(key_id):
        try:
            with write_session(engine) as session:
                repository.touch_key(session, key_id=key_id)
        except OperationalError as error:  # a note for people: no reason to turn the caller away
            log.warning("use of a key not noted", key=key_id, error=str(error.orig))
    return caller


def _info(row: ApiKey, key: str | None = None) -> ApiKeyInfo:
    return ApiKeyInfo(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        key=key,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )


def list_keys(*, session: Session, caller: CallerScope) -> Page[ApiKeyInfo]:
    """Keys of the caller's project."""
    rows = repository.list_keys(session, project_id=caller.project_id)
    return Page(items=[_info(row) for row in rows], total=len(rows))


def create_key(*, session: Session, caller: CallerScope, name: str) -> ApiKeyInfo:
    """A new key in the caller's project; the answer alone holds the secret."""
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    row = repository.create_key(
        session, name=name, prefix=key[: len(KEY_PREFIX) + 6], key_hash=hash_key(key), project_id=caller.project_id
    )
    session.flush()
    repository.record(session, project_id=caller.project_id, actor=caller.actor, action="key.create", target=row.id)
    return _info(row, key)


def revoke_key(*, session: Session, caller: CallerScope, key_id: str) -> ApiKeyInfo:
    """Ends a key.

    Raises:
        CoreError: `key.not_found`.
    """
    if not repository.revoke_key(session, project_id=caller.project_id, key_id=key_id):
        raise CoreError("key.not_found", "there is no such key", value=key_id)
    repository.record(session, project_id=caller.project_id, actor=caller.actor, action="key.revoke", target=key_id)
    rows = repository.list_keys(session, project_id=caller.project_id)
    return _info(next(row for row in rows if row.id == key_id))
