"""What all tables share: naming convention, UTC times, JSON without NaN, time-ordered ids."""

from __future__ import annotations

import json
import math
import os
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, MetaData, String, TypeDecorator
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase

# Named constraints: Alembic can only alter what has a name, and SQLite gives none by itself.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
DEFAULT_PROJECT = "00000000-0000-7000-8000-000000000001"


def utcnow() -> datetime:
    """Now, with its time zone (UTC)."""
    return datetime.now(UTC)


_id_lock = threading.Lock()
_last_id = 0


def new_id() -> str:
    """A UUIDv7 (RFC 9562, 5.7) as text: sorted by creation, and strictly increasing within a process.

    Layout: 48 bits of Unix milliseconds, 12 bits that here count within a millisecond (method 1 of section 6.2),
    62 random bits. Python gets `uuid.uuid7` only with 3.14.
    """
    global _last_id
    with _id_lock:
        # milliseconds and counter as one number; a clock that stands still or steps back only counts on
        _last_id = max(_last_id + 1, (time.time_ns() // 1_000_000) << 12)
        stamp = _last_id
    random = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    value = (stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62 | random
    return str(uuid.UUID(int=value))


class UtcDateTime(TypeDecorator[datetime]):
    """Times in UTC: `timestamptz` on PostgreSQL, naive UTC on SQLite, always aware in Python."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times carry their zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _clean(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.replace("\x00", "")
    if isinstance(value, dict):
        return {str(key).replace("\x00", ""): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


def dump_json(value: Any) -> str:
    """JSON text that PostgreSQL takes too: NaN and infinities become null, NUL characters go."""
    try:
        text = json.dumps(value, allow_nan=False, default=str)
    except ValueError:
        return json.dumps(_clean(value), default=str)
    return json.dumps(_clean(value), default=str) if "\\u0000" in text else text


class Base(DeclarativeBase):
    """Base of all rows."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy reads it as a class attribute)
        str: String(),
        datetime: UtcDateTime(),
        # JSON, not JSONB: stored specs keep the order of their keys
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
    }
