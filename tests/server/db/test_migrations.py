"""The migrations build what the tables say, on both databases, whoever starts first."""

from __future__ import annotations

import contextlib
import multiprocessing
import sqlite3
from pathlib import Path

from alembic import command
from sqlalchemy import inspect, select, text

from server.db.base import DEFAULT_PROJECT, Base
from server.db.migrate import alembic_config, upgrade
from server.db.session import make_engine, read_session
from server.db.tables import Project


def test_migrated_schema_equals_metadata(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    upgrade(engine)
    with engine.begin() as connection:
        command.check(alembic_config(connection))  # raises when autogenerate would still change something
    assert set(inspect(engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    with read_session(engine) as session:
        assert [row.id for row in session.scalars(select(Project))] == [DEFAULT_PROJECT]
    engine.dispose()


def test_downgrade_leaves_nothing(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    upgrade(engine)
    with engine.begin() as connection:
        command.downgrade(alembic_config(connection), "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()


def _upgrade(url: str) -> None:
    upgrade(make_engine(url))


def test_four_processes_may_upgrade_at_once(empty_database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_upgrade, args=(empty_database_url,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    engine = make_engine(empty_database_url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM projects")) == 1
    engine.dispose()


def test_a_failed_migration_leaves_the_old_schema(tmp_path: Path) -> None:
    # DDL is transactional on SQLite only because the begin hook, not the driver, starts transactions
    engine = make_engine(f"sqlite:///{tmp_path / 'half.db'}")
    with contextlib.suppress(ZeroDivisionError), engine.begin() as connection:
        command.upgrade(alembic_config(connection), "head")
        raise ZeroDivisionError
    engine.dispose()
    with sqlite3.connect(tmp_path / "half.db") as plain:
        assert plain.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
