"""`GET /events`: one stream a page."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from acamkd_core.spec.errors import CoreError
from server.context import Context
from server.db.session import read_session
from server.deps import Caller, get_context
from server.errors import documented
from server.jobs import repository
from server.jobs.stream import Subscription

router = APIRouter(tags=["events"], responses=documented(401, 404, 422, 503))
MAX_JOBS = 50


def parse_positions(text: str) -> dict[str, int]:
    """`id:seq,id:seq`, as streams send it in their event ids. Raises CoreError `events.position`."""
    positions: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        job, _, number = part.rpartition(":")
        if not job or not (number.isascii() and number.isdigit()) or len(number) > 18:
            raise CoreError("events.position", "a position is job:number, comma-separated", field="after", value=part)
        positions[job] = int(number)
    return positions


def subscribe(
    caller: Caller,
    context: Annotated[Context, Depends(get_context)],
    jobs: Annotated[str | None, Query(max_length=4000, description="Ids or names, comma-separated.")] = None,
    scope: Annotated[Literal["project"] | None, Query(description="All jobs of the project.")] = None,
    after: Annotated[str | None, Query(max_length=8000, description="Position to resume from: job:seq,...")] = None,
    last_event_id: Annotated[str | None, Header(description="As `after`; it wins.", max_length=8000)] = None,
) -> Subscription:
    """Checks everything before the stream starts: afterwards no status can be sent any more."""
    context.broadcaster.check_capacity()
    positions = parse_positions(last_event_id or after or "")
    if (jobs is None) == (scope is None):
        raise CoreError("events.scope", "give either jobs=a,b or scope=project", field="jobs")
    if jobs is None:
        return Subscription(context.broadcaster, caller.project_id, None, positions)
    refs = [ref for ref in jobs.split(",") if ref]
    if not 1 <= len(refs) <= MAX_JOBS:
        raise CoreError("events.scope", f"a stream follows 1 to {MAX_JOBS} jobs", field="jobs", value=len(refs))
    ids: list[str] = []
    with read_session(context.engine) as session:
        for ref in refs:
            row = repository.get(session, project_id=caller.project_id, ref=ref)
            if row is None:
                raise CoreError("job.not_found", f"there is no job {ref!r}", field="jobs", value=ref)
            ids.append(row.id)
            if ref in positions:  # positions may name jobs as the caller did
                positions[row.id] = positions.pop(ref)
    return Subscription(context.broadcaster, caller.project_id, frozenset(ids), positions)


@router.get(
    "/events",
    response_class=EventSourceResponse,
    responses={200: {"description": "StreamEvent objects; `id` is the position to resume from (Last-Event-ID)."}},
)
async def follow_events(subscription: Annotated[Subscription, Depends(subscribe)]) -> AsyncIterable[ServerSentEvent]:
    """What happens to jobs: first what the caller has missed, then live."""
    async for event in subscription.events():
        yield event
