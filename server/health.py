"""`/healthz` (the process answers) and `/readyz` (its parts answer). A missing broker degrades, and no more."""

from __future__ import annotations

import os
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from acamkd_core import __version__
from acamkd_core.spec.api import Health
from server.context import Context
from server.db.session import read_session
from server.deps import get_context

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process is there. Its number lets whoever started it tell it from another server on the same port."""
    return {"status": "ok", "version": __version__, "pid": str(os.getpid())}


@router.get("/readyz", responses={503: {"model": Health, "description": "The database or the store is missing."}})
def readyz(context: Annotated[Context, Depends(get_context)], response: Response) -> Health:
    """Whether jobs are accepted; `degraded` when the broker is down (jobs are accepted and start by polling)."""
    checks: dict[str, str] = {}
    try:
        with read_session(context.engine) as session:
            session.execute(text("SELECT id FROM projects LIMIT 1"))
        checks["database"] = "ok"
    except SQLAlchemyError as error:
        checks["database"] = f"down: {type(error).__name__}"
    checks["broker"] = "ok" if context.wakeups.alive() else "down: workers find jobs by polling"
    try:
        context.blobs.size("0" * 64)
        checks["storage"] = "ok"
    except Exception as error:  # every store has its own errors; whichever comes, the store is not there
        checks["storage"] = f"down: {type(error).__name__}"
    if checks["database"] != "ok" or checks["storage"] != "ok":
        response.status_code = 503
        return Health(status="unavailable", checks=checks, version=__version__)
    return Health(status="ready" if checks["broker"] == "ok" else "degraded", checks=checks, version=__version__)
