"""Server-sent events over real sockets: replay, order, scope, many readers, shutdown."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from server.app import create_app
from server.db.base import DEFAULT_PROJECT
from server.db.session import write_session
from server.jobs import repository
from tests.server.api.conftest import World
from tests.server.factories import make_job

JOB = {"dataset": "scenes", "student": "mobile_deeplabv3", "schedule": {"iterations": 10}}


@pytest.fixture
def address(world: World) -> Iterator[str]:
    """The application on a real socket."""
    config = uvicorn.Config(create_app(context=world.context), port=0, log_level="warning", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    world.context.broadcaster.shut()
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def say(world: World, job: str, *kinds: str) -> None:
    """Events as a worker's report writes them."""
    with write_session(world.context.engine) as session:
        row = repository.lock(session, project_id=DEFAULT_PROJECT, ref=job)
        assert row is not None
        for kind in kinds:
            repository.record_event(session, row, kind, {"of": job})


@asynccontextmanager
async def stream(client: httpx.AsyncClient, query: str, **headers: str) -> AsyncIterator[Callable[[], Any]]:
    """An open stream and a function that awaits its next event as (id, StreamEvent)."""
    async with client.stream("GET", f"/api/v1/events?{query}", headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.aiter_lines()

        async def following() -> tuple[str, dict[str, Any]]:
            position, data = "", ""
            async with asyncio.timeout(60):
                async for line in lines:
                    if line.startswith("id: "):
                        position = line[4:]
                    elif line.startswith("data: "):
                        data = line[6:]
                    elif not line and data:
                        return position, json.loads(data)
            raise AssertionError("the stream ended")

        yield following


def test_live_replay_and_order(world: World, address: str) -> None:
    a, b = make_job(world.context.engine, name="a"), make_job(world.context.engine, name="b")

    async def story() -> None:
        async with httpx.AsyncClient(base_url=address) as client:
            async with stream(client, "jobs=a") as following:
                _, first = await following()  # a stream without a position begins with the present state
                assert (first["kind"], first["seq"], first["data"]["state"]) == ("state", 1, "queued")
                say(world, "a", "evaluation", "alarm")
                say(world, "b", "evaluation")
                (_, one), (position, two) = await following(), await following()
                assert [(e["job"], e["name"], e["seq"], e["kind"]) for e in (one, two)] == [
                    (a.id, "a", 2, "evaluation"),
                    (a.id, "a", 3, "alarm"),
                ]
                assert position == f"{a.id}:3"
            say(world, "a", "checkpoint", "export", "result")
            # what happened while nobody listened comes first, then what is new
            async with stream(client, "jobs=a", **{"Last-Event-ID": position}) as following:
                assert [(await following())[1]["seq"] for _ in range(3)] == [4, 5, 6]
                say(world, "a", "state")
                assert (await following())[1]["seq"] == 7
            async with stream(client, "jobs=a,b&after=a:5,b:0") as following:
                seen = {(e["name"], e["seq"]) for e in [(await following())[1] for _ in range(4)]}
                assert seen == {("a", 6), ("a", 7), ("b", 1), ("b", 2)}
            async with stream(client, "scope=project") as following:
                assert {(await following())[1]["job"] for _ in range(2)} == {a.id, b.id}
                new = make_job(world.context.engine, name="c")
                assert (await following())[1]["job"] == new.id

    asyncio.run(story())


def test_another_project_hears_nothing(world: World, address: str) -> None:
    make_job(world.context.engine, name="mine")
    stranger = world.stranger()

    async def story() -> None:
        opened = httpx.AsyncClient(base_url=address, headers=stranger, timeout=60)
        async with opened as client, stream(client, "scope=project") as following:
            say(world, "mine", "evaluation")
            theirs = (await client.post("/api/v1/jobs", json=JOB)).json()
            assert (await following())[1]["job"] == theirs["id"]
            say(world, "mine", "evaluation")
            await client.post(f"/api/v1/jobs/{theirs['id']}/cancel")
            assert (await following())[1]["data"]["state"] == "cancelled"

    asyncio.run(story())


def test_a_slow_reader_loses_no_event(world: World, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.jobs.stream.QUEUE_EVENTS", 3)
    make_job(world.context.engine, name="fast")

    async def story() -> None:
        async with httpx.AsyncClient(base_url=address) as client, stream(client, "jobs=fast&after=fast:0") as following:
            assert (await following())[1]["seq"] == 1
            for _ in range(5):
                say(world, "fast", *["evaluation"] * 20)
            assert [(await following())[1]["seq"] for _ in range(100)] == list(range(2, 102))

    asyncio.run(story())


def test_streams_refuse_what_they_cannot_follow(world: World) -> None:
    get = lambda query: world.client.get(f"/api/v1/events?{query}")
    assert get("jobs=nobody").status_code == 404
    for query in ("", "jobs=", "jobs=a&scope=project", "jobs=a&after=x", "scope=all"):
        assert get(query).status_code == 422
    world.context.broadcaster.max_streams = 0
    assert get("scope=project").status_code == 503


def test_a_hundred_streams_and_rest_still_answers(world: World, address: str) -> None:
    make_job(world.context.engine, name="busy")
    readers = 100

    async def read(client: httpx.AsyncClient, ready: asyncio.Semaphore) -> list[int]:
        async with stream(client, "jobs=busy") as following:
            await following()
            ready.release()
            return [(await following())[1]["seq"] for _ in range(5)]

    async def story() -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=address, limits=limits, timeout=30) as client:
            ready = asyncio.Semaphore(0)
            tasks = [asyncio.create_task(read(client, ready)) for _ in range(readers)]
            for _ in range(readers):
                await asyncio.wait_for(ready.acquire(), 30)
            assert len(world.context.broadcaster.subscriptions) == readers
            assert world.context.engine.pool.checkedout() <= 2  # type: ignore[attr-defined]  # the tail and the reaper; waiting holds none
            for number in range(20):
                answer = await client.get(
                    "/api/v1/jobs"
                )  # a stream that held a thread or a session would let it starve
                assert answer.status_code == 200
                if number % 4 == 0:
                    await asyncio.to_thread(say, world, "busy", "evaluation")
            assert await asyncio.wait_for(asyncio.gather(*tasks), 30) == [[2, 3, 4, 5, 6]] * readers
        deadline = time.monotonic() + 30
        while world.context.broadcaster.subscriptions and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        assert not world.context.broadcaster.subscriptions  # readers that left are forgotten

    asyncio.run(story())


def test_a_quiet_stream_sends_comments(world: World, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies drop what is silent, and clients tell a dead connection by it (FastAPI's interval is 15 s)."""
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.2)
    make_job(world.context.engine, name="quiet")
    with httpx.stream("GET", f"{address}/api/v1/events?jobs=quiet", timeout=20) as response:
        heard = []
        for line in response.iter_lines():
            heard.append(line)
            if heard.count(": ping") == 3:
                break
        assert sum(line.startswith("data:") for line in heard) == 1  # where the job stands, and nothing else


def test_streams_go_on_after_a_look_that_failed(world: World, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_job(world.context.engine, name="a")
    look, failures = world.context.broadcaster._news, []

    def news(project_id: str) -> Any:
        if len(failures) < 3:
            failures.append(project_id)
            raise RuntimeError("a bug in one look")
        return look(project_id)

    async def story() -> None:
        async with httpx.AsyncClient(base_url=address) as client, stream(client, "jobs=a") as following:
            await following()
            monkeypatch.setattr(world.context.broadcaster, "_news", news)
            say(world, "a", "evaluation")
            assert (await following())[1]["seq"] == 2
            assert len(failures) == 3

    asyncio.run(story())


def test_shutting_down_ends_open_streams(world: World, address: str) -> None:
    make_job(world.context.engine, name="open")

    async def story() -> None:
        async with httpx.AsyncClient(base_url=address, timeout=10) as client, stream(client, "jobs=open") as following:
            await following()
            world.context.broadcaster.shut()
            with pytest.raises(AssertionError, match="the stream ended"):
                await following()

    asyncio.run(story())
