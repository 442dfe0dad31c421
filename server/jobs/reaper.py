"""Who notices a dead worker: a beat that stands still, seen on the reader's own clock.

No clock of another machine is read, and nobody is elected: each reaper only acts on what it has itself watched, and
each action is a compare-and-set on (state, attempt, beat), so that any number of them may run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog
from sqlalchemy import Engine

from server.db.session import read_session, write_session
from server.jobs.repository import Lease, list_leases, reap

log = structlog.get_logger("jobs.reaper")


class AwakeClock:
    """Seconds during which this process really ran.

    After a stop (SIGSTOP, a suspended laptop) the monotonic clock has jumped although nothing was watched meanwhile;
    a step counts as `longest` seconds at most.
    """

    def __init__(self, longest: float, now: Callable[[], float] = time.monotonic) -> None:
        self._longest, self._now = longest, now
        self._last, self._awake = now(), 0.0

    def tick(self) -> float:
        """Awake seconds since construction; call it at least every `longest` seconds."""
        now = self._now()
        self._awake += min(now - self._last, self._longest)
        self._last = now
        return self._awake


class Reaper:
    """Requeues jobs whose lease has shown the same beat for `after` seconds of its own watching."""

    def __init__(
        self,
        engine: Engine,
        *,
        after: float = 20.0,
        every: float = 2.0,
        on_requeued: Callable[[], object] | None = None,
    ) -> None:
        self.engine, self.after, self.every = engine, after, every
        self._on_requeued = on_requeued
        self._clock = AwakeClock(2 * every)
        self._since: dict[Lease, float] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def look(self) -> list[Lease]:
        """One look at all leases. Returns those that were reaped."""
        with read_session(self.engine) as session:
            leases = list_leases(session)
        now = self._clock.tick()
        self._since = {lease: self._since.get(lease, now) for lease in leases}
        reaped = []
        for lease, since in self._since.items():
            if now - since < self.after:
                continue
            with write_session(self.engine) as session:
                state = reap(session, lease=lease)
            if state is not None:
                log.warning("worker lost", job=lease.job_id, attempt=lease.attempt, state=state)
                reaped.append(lease)
        return reaped

    def start(self) -> None:
        """Watch from a thread of its own until `stop`."""
        self._thread = threading.Thread(target=self._loop, name="reaper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5)

    def _loop(self) -> None:
        while not self._stop.wait(self.every):
            try:
                if self.look() and self._on_requeued is not None:
                    self._on_requeued()
            except Exception as error:
                # The database is away: what was seen before says nothing about the time since.
                self._since.clear()
                log.warning("reaper could not look", error=str(error))
