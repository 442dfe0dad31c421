"""Deletes blobs that no row names. Any number of sweepers may run: deleting twice is harmless."""

from __future__ import annotations

import threading
from collections.abc import Collection

import structlog
from sqlalchemy import Engine

from acamkd_core.spec.errors import CoreError
from server.artifacts import repository as artifacts
from server.db.session import read_session, write_session
from server.storage import RETIRED_SECONDS, Storage

log = structlog.get_logger("artifacts.sweeper")


def sweep(engine: Engine, storage: Storage) -> list[str]:
    """One pass. Replaced checkpoints go after minutes, everything else that is unnamed after a day.

    No transaction is open while the store is listed or deleted from.

    Returns:
        Digests of the deleted blobs.
    """
    with read_session(engine) as session:
        retired = artifacts.retired(session, older_than_seconds=RETIRED_SECONDS)

    def referenced(digests: Collection[str]) -> set[str]:
        with read_session(engine) as session:
            return artifacts.referenced(session, digests=digests)

    gone = storage.sweep(referenced, retired=retired)
    done = sorted(set(gone) & set(retired))
    if done:
        with write_session(engine) as session:
            artifacts.forget_retired(session, digests=done)
    if gone:
        log.info("blobs swept", count=len(gone))
    return gone


class Sweeper:
    """Sweeps every `every` seconds from a thread of its own."""

    def __init__(self, engine: Engine, storage: Storage, *, every: float = 600.0) -> None:
        self._engine, self._storage, self._every = engine, storage, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _loop(self) -> None:
        while not self._stop.wait(self._every):
            try:
                sweep(self._engine, self._storage)
            except CoreError as error:  # the store is away: the next pass finds the same blobs
                log.warning("not swept", error=str(error))
            except Exception as error:
                log.warning("sweeper failed", error=repr(error))
