"""Engines and units of work. One unit is one transaction: it commits at its end, once, or leaves nothing.

SQLite's default mode begins a transaction at the first write, after what it read may have gone stale; two such
units lose updates. Here a unit says before it begins whether it will write (`BEGIN IMMEDIATE`) or only read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.orm import Session

from server.db.base import dump_json

BUSY_SECONDS = 30
_WRITES = "acamkd_writes"


def make_engine(url: str) -> Engine:
    """An engine for SQLite (`sqlite:///file`) or PostgreSQL (`postgresql://...`, psycopg 3).

    Connections are made lazily; the folder of a SQLite file is created.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(
            parsed, json_serializer=dump_json, pool_pre_ping=True, pool_size=10, max_overflow=20, pool_recycle=1800
        )
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        parsed,
        json_serializer=dump_json,
        pool_size=10,
        max_overflow=20,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
    )
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the begin hook alone decides how transactions start
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", f"busy_timeout={BUSY_SECONDS * 1000}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, True)
    # a reader that writes after all would meet SQLITE_BUSY under load only: refuse it always
    connection.exec_driver_sql(f"PRAGMA query_only={'OFF' if writes else 'ON'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def write_session(engine: Engine) -> Iterator[Session]:
    """A unit that may write. Commits when the block ends, rolls back when it raises.

    Keep it short: on SQLite it excludes every other writer. Nothing slow (files, network) belongs inside.
    """
    with Session(engine.execution_options(**{_WRITES: True}), expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def read_session(engine: Engine) -> Iterator[Session]:
    """A unit that only reads, from one snapshot on SQLite; a write in it is refused by the database."""
    bind = engine.execution_options(**{_WRITES: False, "postgresql_readonly": True})
    with Session(bind, expire_on_commit=False, autoflush=False) as session:
        yield session
