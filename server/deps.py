"""What routes ask for in their signatures: the caller, a unit of work, settings, the blob store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Query, Request
from sqlalchemy.orm import Session

from server.auth.service import CallerScope, authenticate
from server.context import Context, wants_wake
from server.db.session import read_session, write_session
from server.settings import Settings
from server.storage import Storage


def get_context(request: Request) -> Context:
    """The parts that this application was built from."""
    context: Context = request.app.state.context
    return context


def get_settings(context: Annotated[Context, Depends(get_context)]) -> Settings:
    """The server's settings."""
    return context.settings


def get_blobs(context: Annotated[Context, Depends(get_context)]) -> Storage:
    """The artifact store."""
    return context.blobs


def get_caller(request: Request, context: Annotated[Context, Depends(get_context)]) -> CallerScope:
    """Who calls, and for which project.

    It uses a short unit of its own: were it the request's unit, a write would hold the database's lock while the
    request still waits for a thread.
    """
    return authenticate(context.engine, context.settings, request.headers.get("authorization"), context.key_use)


# scope="function": the unit ends before the answer is sent, so an answer never promises what a failed commit lost.
def get_read_session(context: Annotated[Context, Depends(get_context)]) -> Iterator[Session]:
    """A unit that reads."""
    with read_session(context.engine) as session:
        yield session


def get_write_session(context: Annotated[Context, Depends(get_context)]) -> Iterator[Session]:
    """A unit that writes: commits after the route has returned, then sends the wake-ups that it asked for."""
    with write_session(context.engine) as session:
        yield session
    if wants_wake(session):
        context.wakeups.wake()


def get_submit_session(
    context: Annotated[Context, Depends(get_context)],
    dry_run: Annotated[bool, Query(description="Resolve and check only; nothing is kept.")] = False,
) -> Iterator[Session]:
    """A unit that writes, or only reads for a dry run: a form asks for one at every pause of its user, and must
    neither wait for a writer nor hold one up."""
    yield from get_read_session(context) if dry_run else get_write_session(context)


Caller = Annotated[CallerScope, Depends(get_caller)]
ReadSession = Annotated[Session, Depends(get_read_session, scope="function")]
WriteSession = Annotated[Session, Depends(get_write_session, scope="function")]
SubmitSession = Annotated[Session, Depends(get_submit_session, scope="function")]
Config = Annotated[Settings, Depends(get_settings)]
Blobs = Annotated[Storage, Depends(get_blobs)]
