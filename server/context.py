"""The parts that one server process is built from, and the wake-up that follows a commit."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from server.auth.service import KeyUse
from server.jobs.stream import Broadcaster
from server.queue import WakeUps
from server.settings import Settings
from server.storage import Storage

_WAKE = "wake_workers"


@dataclass(frozen=True)
class Context:
    """Built once by `create_app`."""

    settings: Settings
    engine: Engine
    blobs: Storage
    wakeups: WakeUps
    broadcaster: Broadcaster
    key_use: KeyUse = field(default_factory=KeyUse)


def wake_after_commit(session: Session) -> None:
    """Asks for one wake-up of the workers once this unit of work has committed."""
    session.info[_WAKE] = True


def wants_wake(session: Session) -> bool:
    """Whether the unit asked for a wake-up."""
    return bool(session.info.get(_WAKE))
