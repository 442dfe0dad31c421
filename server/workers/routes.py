"""Workers: who is there, and with what."""

from __future__ import annotations

from fastapi import APIRouter

from acamkd_core.spec.api import Page, WorkerInfo
from server.deps import Caller, ReadSession
from server.errors import documented
from server.workers import service

router = APIRouter(prefix="/workers", tags=["workers"], responses=documented(401))


@router.get("")
def list_workers(session: ReadSession, caller: Caller) -> Page[WorkerInfo]:
    """Workers that are online, or were seen lately."""
    return service.list_workers(session=session, caller=caller)
