"""`acamkd up` as a real process: all parts start, a dead part comes back, Ctrl-C and `down` leave nobody behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import redis

from cli.processes import FolderLock, Part, Record, end_recorded, free_port
from cli.valkey import valkey_part
from tests.worker.bench import FAST, until

pytestmark = pytest.mark.serial
MAIN = [sys.executable, "-m", "cli.main"]
_CODE = "import sys, pathlib, cli.up as up; sys.exit(getattr(up, sys.argv[1])(pathlib.Path(sys.argv[2]), *map(int, sys.argv[3:])))"


class Running:
    """One `up` process and what it printed."""

    def __init__(self, data: Path, port: int, *options: str) -> None:
        self.data, self.output = data, data.parent / "up.out"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ACAMKD_")}
        environment |= {f"ACAMKD_{name}": value for name, value in FAST.items()} | {"ACAMKD_DEVICES": "cpu"}
        with self.output.open("wb") as out:
            command = [*MAIN, "up", "--data", str(data), "--port", str(port), *options]
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)

    def text(self) -> str:
        return self.output.read_text()

    def address(self) -> str:
        until(lambda: "acamkd is up" in self.text() or self.process.poll() is not None, 180)
        assert self.process.poll() is None, self.text()
        return self.text().split("acamkd is up: ")[1].split()[0]

    def parts(self) -> dict[str, psutil.Process]:
        return Record(self.data / "up.json").read()[1]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Running]]:
    runs: list[Running] = []
    yield runs
    for run in runs:
        end_recorded({name: part for name, part in run.parts().items() if name != "up"}, seconds=1)
        with contextlib.suppress(ProcessLookupError):
            run.process.kill()
        run.process.wait(5)


def test_up_serves_restarts_and_stops(tmp_path: Path, started: list[Running]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "streets").mkdir()
        up = Running(tmp_path / "data", port, "--datasets", str(tmp_path / "streets"))
        started.append(up)
        address = up.address()
    assert f"port {port} is taken" in up.text()
    assert httpx.get(f"{address}/readyz", trust_env=False).json()["status"] == "ready"
    until(lambda: len(httpx.get(f"{address}/api/v1/workers", trust_env=False).text) > 2, 120)
    parts = up.parts()
    assert set(parts) == {"up", "valkey", "server", "worker"}
    made = httpx.post(
        f"{address}/api/v1/datasets", json={"name": "streets", "path": str(tmp_path / "streets")}, trust_env=False
    )
    assert made.status_code == 201, made.text
    assert made.json()["root"] == str(tmp_path / "streets")
    # a second one in the same folder says where the first is
    again = subprocess.run(
        [sys.executable, "-c", _CODE, "up", str(up.data)], capture_output=True, text=True, timeout=60
    )
    assert (again.returncode, address in again.stdout) == (0, True)
    told = subprocess.run(
        [*MAIN, "up", "--data", str(up.data), "-o", "json"], capture_output=True, text=True, timeout=60
    )
    document = {"address": address, "data": str(up.data), "pid": up.process.pid, "started": False}
    assert json.loads(told.stdout) == document
    assert "already running" in told.stderr
    # a dead part comes back
    parts["server"].kill()
    until(lambda: up.parts().get("server", parts["server"]).pid != parts["server"].pid, 120)
    until(lambda: _answers(address), 120)
    # Ctrl-C ends all of it, and only it
    everyone = up.parts()
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(120) == 0, up.text()
    _, alive = psutil.wait_procs([part for name, part in everyone.items() if name != "up"], timeout=30)
    assert alive == []
    assert not (up.data / "up.json").exists()


def test_after_a_kill_of_up_itself_down_ends_what_it_left(tmp_path: Path, started: list[Running]) -> None:
    up = Running(tmp_path / "data", free_port(18080))
    started.append(up)
    up.address()
    parts = up.parts()
    up.process.kill()
    up.process.wait(5)
    assert parts["server"].is_running()
    done = subprocess.run(
        [sys.executable, "-c", _CODE, "down", str(up.data)], capture_output=True, text=True, timeout=90
    )
    assert (done.returncode, done.stdout.strip()) == (0, "stopped"), done.stderr
    assert not any(part.is_running() and part.status() != psutil.STATUS_ZOMBIE for part in parts.values())
    done = subprocess.run(
        [sys.executable, "-c", _CODE, "down", str(up.data)], capture_output=True, text=True, timeout=90
    )
    assert done.stdout.strip() == "nothing was running"
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "down", "--data", str(up.data), "-o", "json"],
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert json.loads(done.stdout) == {"stopped": False}


def test_the_broker_wants_its_password_and_keeps_its_queue(tmp_path: Path) -> None:
    made = valkey_part(tmp_path / "valkey", tmp_path / "logs", free_port(16390))
    assert made is not None
    part, url = made
    assert (tmp_path / "valkey" / "valkey.conf").stat().st_mode & 0o777 == 0o600
    part.start()
    try:
        with redis.Redis.from_url(url, socket_timeout=2) as client:
            until(lambda: _pings(client), 60)
            client.lpush("queue", "message")
            time.sleep(1.2)  # the append-only file is synced every second
            assert part.process is not None
            part.process.kill()
            part.process.wait(5)
            part.start()
            until(lambda: _pings(client), 60)
            assert client.llen("queue") == 1
        with redis.Redis.from_url("redis://" + url.split("@")[1]) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
    finally:
        part.stop()


def test_a_part_that_keeps_dying_is_started_ever_more_slowly(tmp_path: Path) -> None:
    part = Part("flaky", [sys.executable, "-c", "print('no'); raise SystemExit(3)"], {}, tmp_path / "flaky.log")
    part.start()
    lines = []
    deadline = time.monotonic() + 120
    while part.early_deaths < 3 and time.monotonic() < deadline:
        if line := part.tend():
            lines.append(line)
        time.sleep(0.02)
    waits = [line.split(" in ")[1].split(" s")[0] for line in lines if "ended with 3" in line]
    assert waits == ["0.5", "1", "2"]
    assert part.last_lines().splitlines().count("no") == 3
    with part.log.open("ab") as log:
        log.truncate(21 * 2**20)
    part.start()  # a log that has grown long starts anew; the old one is kept beside it
    assert part.process is not None
    part.process.wait(60)
    assert (part.log.read_text(), part.log.with_name("flaky.log.1").stat().st_size) == ("no\n", 21 * 2**20)


def test_a_record_does_not_name_a_stranger(tmp_path: Path) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        part = Part("server", [], {}, tmp_path / "log", process=sleeper)
        record = Record(tmp_path / "up.json")
        record.write("http://127.0.0.1:1", [part])
        assert set(record.read()[1]) == {"up", "server"}
        created = psutil.Process(sleeper.pid).create_time()
        text = record.path.read_text()
        record.path.write_text(text.replace(str(created), str(created - 100)))
        assert set(record.read()[1]) == {"up"}
    finally:
        sleeper.kill()
        sleeper.wait(5)


def test_one_lock_a_folder(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path / "lock"), FolderLock(tmp_path / "lock")
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()


def _answers(address: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{address}/healthz", timeout=1, trust_env=False).status_code == 200
    return False


def _pings(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.RedisError):
        return bool(client.ping())
    return False
