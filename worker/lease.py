"""Holding a job: renewing its lease, and ending its child when the lease is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy import Engine

from server.db.session import write_session
from server.jobs.reaper import AwakeClock
from server.jobs.repository import Fenced, heartbeat

log = structlog.get_logger("worker.lease")


class LeaseKeeper:
    """Renews one attempt's lease from its own thread, so that a long upload cannot cost it.

    A second thread watches the first: a renewal may hang in the database's driver, and then the child must end all
    the same before a reaper gives the job to somebody else.

    Attributes:
        cancel, pause: what a user asked for, as of the last renewal.
        fenced: the attempt is no longer the running one.
        expired: it could not be renewed for `limit` seconds.
    """

    def __init__(
        self, engine: Engine, job_id: str, attempt: int, *, every: float, limit: float, on_lost: Callable[[], None]
    ) -> None:
        self._engine, self._job, self._attempt = engine, job_id, attempt
        self._every, self._limit, self._on_lost = every, limit, on_lost
        self.cancel = self.pause = self.fenced = self.expired = False
        self._renewed = threading.Event()
        self._renewing = threading.Lock()
        self._stop = threading.Event()
        self.changed = threading.Event()  # set whenever the supervisor should look
        self._threads = [
            threading.Thread(target=self._renew_loop, name=f"lease-{job_id[-6:]}", daemon=True),
            threading.Thread(target=self._watch_loop, name=f"lease-watch-{job_id[-6:]}", daemon=True),
        ]

    @property
    def lost(self) -> bool:
        """Whether this supervisor must drop the job without another word."""
        return self.fenced or self.expired

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """No renewal while the attempt's end is written, nor after: it would only find the fence."""
        with self._renewing:
            yield
            self._stop.set()

    def renew(self) -> bool:
        """Renew now. Returns false when the database could not be asked; a fence is kept in `fenced`."""
        with self._renewing:
            if self.lost or self._stop.is_set():
                return False
            try:
                with write_session(self._engine) as session:
                    beat = heartbeat(session, job_id=self._job, attempt=self._attempt)
            except Fenced:
                self._lose("fenced")
                return False
            except Exception as error:
                log.warning("lease not renewed", job=self._job, attempt=self._attempt, error=str(error))
                return False
            self._renewed.set()
            if (beat.cancel, beat.pause) != (self.cancel, self.pause):
                self.cancel, self.pause = beat.cancel, beat.pause
                self.changed.set()
            return True

    def _lose(self, how: str) -> None:
        setattr(self, how, True)
        log.warning("lease lost", job=self._job, attempt=self._attempt, how=how)
        self.changed.set()
        self._on_lost()

    def _renew_loop(self) -> None:
        while not self._stop.is_set() and not self.lost:
            renewed = self.renew()
            self._stop.wait(self._every if renewed else min(1.0, self._every / 2))

    def _watch_loop(self) -> None:
        step = min(0.5, self._limit / 4)
        clock = AwakeClock(2 * step)
        renewed_at = clock.tick()
        while not self._stop.wait(step) and not self.lost:
            now = clock.tick()
            if self._renewed.is_set():
                self._renewed.clear()
                renewed_at = now
            elif now - renewed_at > self._limit:
                self._lose("expired")
