"""A real application on a migrated SQLite file, without broker, with a dataset root of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from server.app import build_context, create_app
from server.auth.service import CallerScope, create_key
from server.context import Context
from server.db.base import DEFAULT_PROJECT, new_id
from server.db.migrate import upgrade
from server.db.session import make_engine, write_session
from server.db.tables import Project
from server.settings import Settings

URL = "http://127.0.0.1:8080"


@dataclass
class World:
    """An application, its parts, and clients of it."""

    context: Context
    client: TestClient
    roots: Path

    def key(self, project_id: str = DEFAULT_PROJECT) -> str:
        """A fresh API key of a project."""
        with write_session(self.context.engine) as session:
            info = create_key(session=session, caller=CallerScope(project_id, "test"), name="test")
        assert info.key is not None
        return info.key

    def stranger(self) -> dict[str, str]:
        """Headers of somebody with a valid key of another project."""
        project = new_id()
        with write_session(self.context.engine) as session:
            session.add(Project(id=project, name=f"other-{project}"))
        return {"Authorization": f"Bearer {self.key(project)}"}


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database file, copied by each test."""
    file = tmp_path_factory.mktemp("migrated") / "empty.db"
    engine = make_engine(f"sqlite:///{file}")
    upgrade(engine)
    engine.dispose()  # the last connection to close folds the write-ahead log into the file
    assert not file.with_name("empty.db-wal").exists()
    return file


@pytest.fixture
def make_world(tmp_path: Path, migrated: Path) -> Iterator[Callable[..., World]]:
    opened: list[TestClient] = []

    def make(**settings: object) -> World:
        roots = tmp_path / "roots"
        roots.mkdir(exist_ok=True)
        values: dict[str, object] = {"data_dir": tmp_path / "data", "dataset_roots": (str(roots),), "broker_url": ""}
        (tmp_path / "data").mkdir(exist_ok=True)
        if not (tmp_path / "data" / "acamkd.db").exists():
            shutil.copy(migrated, tmp_path / "data" / "acamkd.db")
        context = build_context(Settings.model_validate(values | settings))
        client = TestClient(create_app(context=context), base_url=URL, raise_server_exceptions=False)
        if not context.settings.keys_required:  # the lifespan refuses to start without a key
            client.__enter__()
            opened.append(client)
        return World(context, client, roots)

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture
def locked(make_world: Callable[..., World]) -> World:
    """A server that asks for keys."""
    return make_world(require_keys=True)
