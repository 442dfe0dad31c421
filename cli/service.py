"""Commands that start and stop parts of the platform."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import SUCCEEDED, Format, Output, emit, say

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from server.auth.service import CallerScope

DEFAULT_DATA = Path(".acamkd/home")
DataOption = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of everything that is stored.")]
DataOrEnvironment = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Data folder; automatic: ACAMKD_DATA_DIR, else .acamkd.")
]


def up(
    data: DataOption = DEFAULT_DATA,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port of the dashboard and the API.")] = 8080,
    datasets: Annotated[
        list[Path] | None,
        typer.Option(
            "--datasets", metavar="DIR", help="Folder that jobs may read, beside ACAMKD_DATASET_ROOTS; may be repeated."
        ),
    ] = None,
    code: Annotated[
        list[Path] | None,
        typer.Option(
            "--code",
            metavar="DIR",
            help="Folder whose programs (.pt2) may teach, which runs their code, beside ACAMKD_CODE_ROOTS; may be repeated.",
        ),
    ] = None,
    output: Output = Format.table,
) -> int:
    """Run the whole platform on this machine: broker, server with dashboard, one worker. Ctrl-C stops all of it.

    JSON and YAML print one document once it answers (address, data folder, process id); news goes to standard error.
    """
    from cli.up import require_free_folder
    from cli.up import up as start

    require_free_folder(data)
    _add_roots("datasets", "ACAMKD_DATASET_ROOTS", datasets or [])
    _add_roots("code", "ACAMKD_CODE_ROOTS", code or [])
    return start(data, port, output=output)


def _add_roots(option: str, variable: str, folders: list[Path]) -> None:
    """What is read from the environment by server and worker alike."""
    from acamkd_core.spec.errors import CoreError

    roots = [part for part in os.environ.get(variable, "").split(",") if part.strip()]
    for folder in folders:
        path = folder.expanduser().resolve()
        if not path.is_dir() or "," in str(path):
            raise CoreError(f"up.{option}", "not a folder (or one with a comma in its name)", value=str(folder))
        roots.append(str(path))
    os.environ[variable] = ",".join(roots)


def down(data: DataOption = DEFAULT_DATA, output: Output = Format.table) -> int:
    """Stop what `acamkd up` started with this data folder, and nothing else."""
    from cli.up import down as stop

    return stop(data, output=output)


def _choose_data(data: Path | None) -> None:
    """Settings come from the environment; the option is the same thing said on the command line."""
    if data is not None:
        os.environ["ACAMKD_DATA_DIR"] = str(data.expanduser().resolve())


def server(
    host: Annotated[
        str | None, typer.Option("--host", help="Address; anything but loopback requires API keys.")
    ] = None,
    port: Annotated[int | None, typer.Option("--port", min=0, max=65535, help="Port; automatic: 8080.")] = None,
    data: DataOrEnvironment = None,
) -> int:
    """Run the API server with the dashboard in the foreground (settings: ACAMKD_* variables)."""
    import uvicorn

    from server.app import build_context, require_a_key
    from server.settings import Settings

    _choose_data(data)
    if host is not None:
        os.environ["ACAMKD_HOST"] = host
    if port is not None:
        os.environ["ACAMKD_PORT"] = str(port)
    settings = Settings()
    migrate()
    context = build_context(settings)
    try:
        require_a_key(context)  # here, for one line instead of a server's start-up trace
    finally:
        context.wakeups.close()
        context.engine.dispose()
    uvicorn.run(
        "server.app:serve_app", factory=True, host=settings.host, port=settings.port, access_log=False,
        timeout_graceful_shutdown=3,
    )  # fmt: skip
    return SUCCEEDED


def worker(data: DataOrEnvironment = None) -> int:
    """Run one worker in the foreground (settings: ACAMKD_* variables)."""
    _choose_data(data)
    from worker.__main__ import main

    return main()


def migrate(data: DataOrEnvironment = None, output: Output = Format.table) -> int:
    """Bring the database to the newest schema; safe at any time, and from several machines at once."""
    from server.db.migrate import current_revision

    with local_database(data) as (engine, _):
        kind, revision = engine.dialect.name, current_revision(engine)
    if not emit({"database": kind, "revision": revision}, output):
        say(f"the database has the newest schema ({kind}, {revision})")
    return SUCCEEDED


@contextmanager
def local_database(data: Path | None) -> Iterator[tuple[Engine, CallerScope]]:
    """The database that the settings name, with its newest schema, and the operator as the caller."""
    from server import logs
    from server.auth.service import CallerScope
    from server.db.base import DEFAULT_PROJECT
    from server.db.migrate import upgrade
    from server.db.session import make_engine
    from server.settings import Settings

    _choose_data(data)
    settings = Settings()
    logs.configure(json_lines=settings.log_json, level=logging.WARNING)  # the command itself says what it did
    if settings.database.startswith("sqlite"):
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    engine = make_engine(settings.database)
    try:
        upgrade(engine)
        yield engine, CallerScope(project_id=DEFAULT_PROJECT, actor="operator")
    finally:
        engine.dispose()
