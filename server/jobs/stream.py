"""Live events: one task a process tails the database; streams wait on queues and hold no session.

A job's events are numbered without gaps of visibility (the number is taken in the inserting transaction), so a
stream's position is one number a job. Delivery is at least once and in order per job; readers drop what they have.
A stream that reads too slowly loses its queue, not its place: it goes on from the database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from fastapi.sse import ServerSentEvent
from sqlalchemy import Engine

from acamkd_core.spec.api import TERMINAL_STATES, StreamEvent
from acamkd_core.spec.errors import CoreError
from server.db.base import utcnow
from server.db.session import read_session
from server.jobs import repository

log = structlog.get_logger("server.stream")

POLL_SECONDS = 0.3
FULL_SWEEP_SECONDS = 30.0
CLOCK_SKEW = timedelta(minutes=10)  # `updated_at` is written by workers whose clocks may differ from ours
QUEUE_EVENTS = 1000
MAX_POSITIONS = 64


def read_events(engine: Engine, cursors: dict[str, tuple[str, int]]) -> list[StreamEvent]:
    """Events after each job's position. `cursors`: job id -> (name, last number seen)."""
    found: list[StreamEvent] = []
    with read_session(engine) as session:
        for job_id, (name, seq) in cursors.items():
            while rows := repository.events_after(session, job_id=job_id, seq=seq, limit=1000):
                seq = rows[-1].seq
                found += [StreamEvent(job=job_id, name=name, seq=row.seq, kind=row.kind, data=row.data) for row in rows]
                if len(rows) < 1000:
                    break
    return found


@dataclass(eq=False)
class Subscription:
    """One open stream: what it follows, how far it has come, and what waits for it."""

    broadcaster: Broadcaster
    project_id: str
    job_ids: frozenset[str] | None  # None: the whole project
    positions: dict[str, int]
    queue: asyncio.Queue[StreamEvent | None] = field(default_factory=lambda: asyncio.Queue(QUEUE_EVENTS))
    behind: bool = False
    closed: bool = False

    def offer(self, event: StreamEvent) -> None:
        """Called by the broadcaster; never waits."""
        if self.job_ids is not None and event.job not in self.job_ids:
            return
        try:
            self.queue.put_nowait(event)
        except asyncio.QueueFull:
            self.behind = True

    def close(self) -> None:
        """Ends the stream, whatever waits in it."""
        self.closed = True
        if not self.queue.full():
            self.queue.put_nowait(None)  # only an empty queue has a reader asleep on it

    def _message(self, event: StreamEvent) -> ServerSentEvent:
        self.positions.pop(event.job, None)
        self.positions[event.job] = event.seq  # last: the newest positions survive the cut
        newest = list(self.positions.items())[-MAX_POSITIONS:]
        return ServerSentEvent(data=event, event=event.kind, id=",".join(f"{job}:{seq}" for job, seq in newest))

    async def _catch_up(self) -> list[StreamEvent]:
        return await asyncio.to_thread(self.broadcaster.missed, self)

    async def events(self) -> AsyncIterator[ServerSentEvent]:
        """First what was missed, then what happens. Ends when the server shuts down."""
        with self.broadcaster.registered(self):
            # Bytes at once: the reader learns that the stream is open.
            yield ServerSentEvent(comment="open", retry=2000)
            await asyncio.to_thread(self.broadcaster.prime, self.project_id)
            for event in await self._catch_up():
                yield self._message(event)
            while True:
                if self.behind:
                    self.behind = False
                    while not self.queue.empty():
                        self.queue.get_nowait()
                    for event in await self._catch_up():
                        yield self._message(event)
                waiting = await self.queue.get()
                if waiting is None or self.closed:
                    return
                if waiting.seq > self.positions.get(waiting.job, 0):
                    yield self._message(waiting)


class Broadcaster:
    """Tails the event numbers of every project that somebody watches."""

    def __init__(self, engine: Engine, *, max_streams: int, poll_seconds: float = POLL_SECONDS) -> None:
        self.engine = engine
        self.max_streams = max_streams
        self.poll_seconds = poll_seconds
        self.subscriptions: set[Subscription] = set()
        self._heads: dict[str, dict[str, int]] = {}  # project -> job -> newest number already offered
        self._swept: dict[str, float] = {}
        self._someone = asyncio.Event()
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the tailing task for as long as the application lives."""
        self._loop = asyncio.get_running_loop()
        self._someone, self._closing = asyncio.Event(), False
        task = asyncio.create_task(self._tail(), name="event-tail")
        try:
            yield
        finally:
            self._close_streams()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def shut(self) -> None:
        """Ends all streams, so that a server that is asked to stop does not wait for its readers. Thread-safe."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._close_streams)

    def _close_streams(self) -> None:
        self._closing = True
        for subscription in list(self.subscriptions):
            subscription.close()

    def check_capacity(self) -> None:
        """Raises CoreError `events.unavailable` when no further stream may open."""
        if self._closing or len(self.subscriptions) >= self.max_streams:
            raise CoreError("events.unavailable", "too many open event streams", hint="close a page, or poll the API")

    def registered(self, subscription: Subscription) -> _Registered:
        """Context in which a subscription receives events."""
        return _Registered(self, subscription)

    def prime(self, project_id: str) -> None:
        """Notes where a project is now; from here on its news are offered. Runs in a thread.

        A stream primes first and reads what it missed afterwards, so nothing falls between the two.
        """
        if project_id not in self._heads:
            with read_session(self.engine) as session:
                heads = {row.id: row.event_seq for row in repository.job_heads(session, project_id=project_id)}
            self._heads.setdefault(project_id, heads)

    def missed(self, subscription: Subscription) -> list[StreamEvent]:
        """What a stream has not seen, read from the database. Runs in a thread.

        A job without a position, which no reader knows anything of, starts with its present state.
        """
        with read_session(self.engine) as session:
            rows = repository.job_heads(session, project_id=subscription.project_id, job_ids=subscription.job_ids)
        cursors: dict[str, tuple[str, int]] = {}
        snapshots: list[StreamEvent] = []
        for row in rows:
            position = subscription.positions.get(row.id)
            if position is None:
                subscription.positions[row.id] = row.event_seq
                if subscription.job_ids is not None or row.state not in TERMINAL_STATES:
                    data = {"state": row.state, "reason": row.reason}
                    snapshots.append(StreamEvent(job=row.id, name=row.name, seq=row.event_seq, kind="state", data=data))
            elif row.event_seq > position:
                cursors[row.id] = (row.name, position)
        return snapshots + read_events(self.engine, cursors)

    async def _tail(self) -> None:
        while True:
            await self._someone.wait()
            projects = {subscription.project_id for subscription in self.subscriptions}
            if not projects:
                self._someone.clear()
                self._heads.clear()
                self._swept.clear()
                continue
            for project_id in projects:
                try:
                    events = await asyncio.to_thread(self._news, project_id)
                except Exception as error:  # whatever it is: without this task every stream would fall silent
                    log.warning("event_tail_failed", project=project_id, error=repr(error))
                    continue
                for event in events:
                    for subscription in list(self.subscriptions):
                        if subscription.project_id == project_id:
                            subscription.offer(event)
            await asyncio.sleep(self.poll_seconds)

    def _news(self, project_id: str) -> list[StreamEvent]:
        known = self._heads.get(project_id)
        if known is None:  # its first stream has not primed it yet
            return []
        now = time.monotonic()
        full = now - self._swept.get(project_id, 0.0) > FULL_SWEEP_SECONDS
        if full:
            self._swept[project_id] = now
        with read_session(self.engine) as session:
            since = None if full else utcnow() - CLOCK_SKEW
            rows = repository.job_heads(session, project_id=project_id, since=since)
        changed = {row.id: (row.name, known.get(row.id, 0)) for row in rows if row.event_seq > known.get(row.id, 0)}
        events = read_events(self.engine, changed) if changed else []
        for event in events:
            known[event.job] = max(known.get(event.job, 0), event.seq)
        return events


class _Registered:
    """Adds a subscription to its broadcaster and takes it out again, whatever ends the stream."""

    def __init__(self, broadcaster: Broadcaster, subscription: Subscription) -> None:
        self.broadcaster, self.subscription = broadcaster, subscription

    def __enter__(self) -> None:
        self.broadcaster.subscriptions.add(self.subscription)
        self.broadcaster._someone.set()

    def __exit__(self, *_: object) -> None:
        self.broadcaster.subscriptions.discard(self.subscription)
