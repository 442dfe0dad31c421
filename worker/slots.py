"""Slots: threads that claim a job, see it through, and claim the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger("worker.slots")
T = TypeVar("T")
_NUDGE_SECONDS = 5.0


class Slots(Generic[T]):
    """`count` threads over two functions: `claim(slot)` gives work or None, `run(slot, work)` does it."""

    def __init__(
        self, count: int, claim: Callable[[int], T | None], run: Callable[[int, T], None], poll_seconds: float
    ) -> None:
        self.count = count
        self._claim, self._run, self._poll = claim, run, poll_seconds
        self._changed = threading.Condition()
        self._nudges = 0  # wake-ups so far; a slot that has looked since the n-th has answered it
        self._answered = 0
        self._busy = 0
        self._stopping = False
        self._threads: list[threading.Thread] = []

    @property
    def free(self) -> int:
        """Slots without work."""
        return 0 if self._stopping else self.count - self._busy

    @property
    def stopping(self) -> bool:
        return self._stopping

    def start(self) -> None:
        for index in range(self.count):
            thread = threading.Thread(target=self._loop, args=(index,), name=f"slot-{index}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def nudge(self) -> None:
        """A wake-up: one free slot looks now. Returns when it has looked (or when all slots are busy)."""
        with self._changed:
            self._nudges += 1
            mine = self._nudges
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answered >= mine or self.free == 0, _NUDGE_SECONDS)

    def begin_stop(self) -> None:
        """Claim nothing more. Safe in a signal handler: takes no lock."""
        self._stopping = True

    def stop(self, seconds: float) -> bool:
        """Wait until the running work has come to its end. Returns whether all of it has."""
        self.begin_stop()
        with self._changed:
            self._changed.notify_all()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _loop(self, index: int) -> None:
        while not self._stopping:
            with self._changed:
                seen = self._nudges
                self._busy += 1
            try:
                worked = self._once(index, seen)
            finally:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()
            if not worked:
                with self._changed:
                    # In steps, so that begin_stop (which cannot notify) is seen soon.
                    deadline = time.monotonic() + self._poll
                    while not self._stopping and self._nudges <= max(seen, self._answered):
                        left = deadline - time.monotonic()
                        if left <= 0:
                            break
                        self._changed.wait(min(left, 0.5))

    def _once(self, index: int, seen: int) -> bool:
        try:
            work = self._claim(index)
        except Exception as error:  # the database is away: the next poll will tell
            log.warning("claim failed", slot=index, error=str(error))
            work = None
        with self._changed:
            self._answered = max(self._answered, seen)
            self._changed.notify_all()
        if work is None:
            return False
        try:
            self._run(index, work)
        except Exception:
            # One job's supervisor must not take the slot with it; the lease runs out and the reaper requeues.
            log.exception("supervisor failed", slot=index)
            time.sleep(1.0)
        return True
