"""Server-sent events with reconnection: nothing is lost, nothing comes twice."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from acamkd_core.client.errors import Unreachable
from acamkd_core.client.transport import Transport, backoff
from acamkd_core.spec.api import StreamEvent

# The server sends a comment every 15 s; three of them missing is a dead connection.
SILENCE_SECONDS = 50.0


def parse_sse(lines: Iterable[str]) -> Iterator[tuple[str | None, str]]:
    """(id, data) of each event in a text/event-stream (WHATWG HTML, 9.2.6); comments and empty events are dropped."""
    event_id: str | None = None
    data: list[str] = []
    for line in lines:
        if not line:
            if data:
                yield event_id, "\n".join(data)
            data = []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "id" and "\0" not in value:
            event_id = value


def follow(
    transport: Transport, *, jobs: str | None, after: str | None, give_up_seconds: float = 60.0
) -> Iterator[StreamEvent]:
    """Events of jobs (comma-separated ids or names), or of the whole project when `jobs` is None, for ever.

    Args:
        after: `job:seq,...`, the last events already known; a job without a position starts with its present state.
        give_up_seconds: how long the server may be away before Unreachable is raised.

    Raises:
        ApiError: the server refused (an unknown job, a missing key).
        Unreachable: the server stayed away.
    """
    seen: dict[str, int] = {}
    position = after
    attempt, away_since = 0, None
    while True:
        headers = {"Accept": "text/event-stream"}
        if position:
            headers["Last-Event-ID"] = position
        scope = "project" if jobs is None else None
        try:
            with transport.stream(
                "/events", headers=headers, read_timeout=SILENCE_SECONDS, jobs=jobs, scope=scope
            ) as response:
                attempt, away_since = 0, None
                for event_id, data in parse_sse(response.iter_lines()):
                    position = event_id or position
                    event = StreamEvent.model_validate_json(data)
                    if event.seq <= seen.get(event.job, -1):
                        continue
                    seen[event.job] = event.seq
                    yield event
        except Unreachable:
            away_since = away_since if away_since is not None else time.monotonic()
            if time.monotonic() - away_since > give_up_seconds:
                raise
        time.sleep(backoff(attempt))
        attempt += 1
