"""Databases and stores for every test that wants one. Imports are lazy: tests of the core load nothing of this."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import services

if TYPE_CHECKING:
    from sqlalchemy import Engine


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the newest schema, to be copied."""
    from server.db.migrate import upgrade
    from server.db.session import make_engine

    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    engine = make_engine(f"sqlite:///{path}")
    upgrade(engine)
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server of this test process, with a migrated database `template`."""
    from sqlalchemy import create_engine, make_url, text

    from server.db.migrate import upgrade
    from server.db.session import make_engine

    running = services.postgres()
    try:
        url = running.__enter__()
    except Exception as error:
        services.missing("PostgreSQL", error)
    try:
        admin = create_engine(url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # speed; nothing here outlives a crash
                connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
            connection.execute(text("SELECT pg_reload_conf()"))
            connection.execute(text("CREATE DATABASE template"))
        admin.dispose()
        engine = make_engine(make_url(url).set(database="template").render_as_string(hide_password=False))
        upgrade(engine)
        engine.dispose()
        yield url
    finally:
        running.__exit__(None, None, None)


def _fresh_postgres(url: str, *, template: str) -> str:
    from sqlalchemy import create_engine, make_url, text

    name = f"test_{uuid.uuid4().hex}"
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    admin.dispose()
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh, migrated database: the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "postgresql":
        return _fresh_postgres(request.getfixturevalue("postgres_server"), template="template")
    shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "acamkd.db")
    return f"sqlite:///{tmp_path / 'acamkd.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without any table, on both."""
    if request.param == "postgresql":
        return _fresh_postgres(request.getfixturevalue("postgres_server"), template="template1")
    return f"sqlite:///{tmp_path / 'empty.db'}"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on a fresh, migrated database, on both."""
    from server.db.session import make_engine

    made = make_engine(database_url)
    yield made
    made.dispose()


@pytest.fixture(scope="session")
def s3() -> Iterator[services.S3]:
    """A real S3-compatible store of this test process."""
    running = services.s3_store()
    try:
        store = running.__enter__()
    except Exception as error:
        services.missing("S3-compatible store", error)
    try:
        yield store
    finally:
        running.__exit__(None, None, None)


@pytest.fixture(autouse=True)
def _settings_of_one_test_stay_in_it() -> Iterator[None]:
    """Commands that run in this process set ACAMKD_* variables for what they start; the next test must not see them."""
    before = {name: value for name, value in os.environ.items() if name.startswith("ACAMKD_")}
    yield
    for name in [name for name in os.environ if name.startswith("ACAMKD_")]:
        if name not in before:
            del os.environ[name]
    os.environ.update(before)
