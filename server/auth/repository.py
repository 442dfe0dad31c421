"""All SQL about API keys, projects and the audit log."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from server.db.base import DEFAULT_PROJECT, new_id, utcnow
from server.db.tables import ApiKey, AuditEntry

log = structlog.get_logger("server.audit")


def create_key(session: Session, *, name: str, prefix: str, key_hash: str, project_id: str = DEFAULT_PROJECT) -> ApiKey:
    """Stores a key's hash."""
    row = ApiKey(id=new_id(), project_id=project_id, name=name, prefix=prefix, key_hash=key_hash, created_at=utcnow())
    session.add(row)
    session.flush()
    return row


def find_key(session: Session, *, key_hash: str) -> ApiKey | None:
    """The key with this hash, unless revoked."""
    return session.scalars(select(ApiKey).where(ApiKey.key_hash == key_hash, ApiKey.revoked_at.is_(None))).one_or_none()


def list_keys(session: Session, *, project_id: str) -> list[ApiKey]:
    """Keys of a project, newest first, revoked ones included."""
    return list(session.scalars(select(ApiKey).where(ApiKey.project_id == project_id).order_by(ApiKey.id.desc())))


def any_key(session: Session) -> bool:
    """Whether a usable key exists at all (a bind beyond loopback is refused without one)."""
    return session.scalar(select(ApiKey.id).where(ApiKey.revoked_at.is_(None)).limit(1)) is not None


def revoke_key(session: Session, *, project_id: str, key_id: str) -> bool:
    """Ends a key; false when the project has no such key."""
    row = session.get(ApiKey, key_id)
    if row is None or row.project_id != project_id:
        return False
    row.revoked_at = row.revoked_at or utcnow()
    session.flush()
    return True


def touch_key(session: Session, *, key_id: str) -> None:
    """Notes that a key was used, at most once a minute."""
    now = utcnow()
    stale = (ApiKey.last_used_at.is_(None)) | (ApiKey.last_used_at < now - timedelta(minutes=1))
    session.execute(update(ApiKey).where(ApiKey.id == key_id, stale).values(last_used_at=now))


def record(
    session: Session, *, project_id: str, actor: str, action: str, target: str, details: dict[str, Any] | None = None
) -> None:
    """A line of the audit log, and of the server's."""
    log.info(action, actor=actor, target=target, project=project_id, **(details or {}))
    session.add(
        AuditEntry(id=new_id(), project_id=project_id, actor=actor, action=action, target=target, details=details or {})
    )
