"""The application: `uvicorn --factory server.app:create_app`.

`create_app` builds it from settings; nothing is read from the environment elsewhere. A server that listens beyond
loopback refuses to start without an API key.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError

from acamkd_core import __version__
from acamkd_core.spec.errors import CoreError
from server import dashboard, errors, health, logs
from server.artifacts.routes import router as artifacts
from server.auth import repository as keys_repository
from server.auth.routes import router as keys
from server.catalog.routes import router as catalog
from server.context import Context
from server.datasets.leftovers import sweep_leftovers
from server.datasets.routes import router as datasets
from server.db.session import make_engine, read_session
from server.jobs.events_routes import router as events
from server.jobs.reaper import Reaper
from server.jobs.routes import router as jobs
from server.jobs.stream import Broadcaster
from server.jobs.views_routes import router as views
from server.models.routes import router as models
from server.openapi import openapi_document
from server.queue import WakeUps
from server.security import Door
from server.settings import Settings
from server.storage import Storage
from server.workers.routes import router as workers

DASHBOARD = Path(__file__).resolve().parent.parent / "frontend" / "dist"
START_SECONDS, TIDY_SECONDS = 2.0, 6 * 3600.0
log = structlog.get_logger("server.app")
DESCRIPTION = "Distillation as a service: submit a job, watch it, download a light model."


def build_context(settings: Settings) -> Context:
    """The parts that the settings name; nothing is connected before it is used."""
    engine = make_engine(settings.database)
    return Context(
        settings=settings,
        engine=engine,
        blobs=Storage.from_settings(settings),
        wakeups=WakeUps(settings.broker_url),
        broadcaster=Broadcaster(engine, max_streams=settings.max_streams),
    )


def require_a_key(context: Context) -> None:
    """Refuses to start where keys are required and none exists.

    Raises:
        CoreError: `auth.no_key`.
    """
    if not context.settings.keys_required:
        return
    with read_session(context.engine) as session:
        if not keys_repository.any_key(session):
            raise CoreError(
                "auth.no_key",
                f"a server on {context.settings.host} needs an API key before it starts",
                hint="make one on this machine: acamkd keys create NAME",
            )


def end_streams_on_signals(broadcaster: Broadcaster) -> None:
    """Makes SIGTERM and SIGINT end open streams at once: a server waits for its connections, and streams never end."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        previous = signal.getsignal(number)
        if not callable(previous):
            continue

        def handle(signum: int, frame: FrameType | None, previous: Callable[..., Any] = previous) -> None:
            broadcaster.shut()
            previous(signum, frame)

        signal.signal(number, handle)


def _say_ready(context: Context) -> None:
    """What an operator asks first: which parts, which rules. No address with a password in it."""
    settings = context.settings
    log.info(
        "server ready",
        version=__version__,
        database=context.engine.dialect.name,
        broker=bool(settings.broker_url),
        storage="s3" if settings.storage.startswith("s3://") else "folder",
        keys_required=settings.keys_required,
        dataset_roots=[str(root) for root in settings.roots],
        code_roots=[str(root) for root in settings.code_folders],
        dashboard=(DASHBOARD / "index.html").is_file(),
    )


async def _tidy(context: Context) -> None:
    """What need not be done before the first answer; then looks after the uploads folder."""
    await asyncio.sleep(START_SECONDS)
    await asyncio.to_thread(context.wakeups.warm_up)
    while True:
        try:
            await asyncio.to_thread(sweep_leftovers, context.engine, context.settings.uploads_dir)
        except (OSError, SQLAlchemyError) as error:
            log.warning("leftovers not swept", error=str(error))
        await asyncio.sleep(TIDY_SECONDS)


def operation_id(route: APIRoute) -> str:
    """Function names are unique across the API, and make readable client methods."""
    return route.name


def create_app(settings: Settings | None = None, *, context: Context | None = None) -> FastAPI:
    """Builds the application from settings, or from parts that a test brings along."""
    context = context or build_context(settings or Settings())
    settings = context.settings

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        require_a_key(context)
        # Every worker watches the leases too; without any worker, a cancel would otherwise never be completed.
        reaper = Reaper(context.engine, on_requeued=context.wakeups.wake)
        tidying = asyncio.create_task(_tidy(context), name="tidy")
        async with context.broadcaster.running():
            end_streams_on_signals(context.broadcaster)
            reaper.start()
            _say_ready(context)
            yield
        tidying.cancel()
        reaper.stop()
        context.wakeups.close()
        context.engine.dispose()

    app = FastAPI(
        title="acamkd",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # the stock pages load scripts from elsewhere, which the content policy forbids
        redoc_url=None,
        openapi_url="/api/openapi.json",
        separate_input_output_schemas=False,
        generate_unique_id_function=operation_id,
    )
    app.state.context = context
    api = APIRouter(prefix="/api/v1", max_body_size=settings.max_body_bytes)
    for router in (jobs, views, events, datasets, models, artifacts, workers, catalog, keys):
        api.include_router(router)
    app.include_router(api)
    app.include_router(health.router)
    errors.install(app)
    dashboard.mount(app, DASHBOARD)

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = openapi_document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
    app.add_middleware(
        Door,
        hosts=frozenset({settings.host, *settings.allowed_hosts}),
        origins=frozenset(settings.allowed_origins),
        max_body=settings.max_body_bytes,
    )
    return app


def serve_app() -> FastAPI:
    """What uvicorn starts: settings from the environment, logs configured."""
    settings = Settings()
    logs.configure(json_lines=settings.log_json)
    return create_app(settings)
