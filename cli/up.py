"""`acamkd up` and `acamkd down`: the whole platform on one machine, without root and without configuration."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from acamkd_core.spec.errors import CoreError
from cli.output import Format, emit, say
from cli.processes import FolderLock, Part, Record, end_recorded, free_port
from cli.valkey import valkey_part

_START_SECONDS = 60.0
_HOPELESS_DEATHS = 4  # a server that never answered and died so often has a configuration problem, not bad luck


class Platform:
    """Broker, server and worker of one data folder, as children of this process."""

    def __init__(
        self,
        data: Path,
        port: int,
        *,
        workers: bool = True,
        say: Callable[[str], None] = print,
        document: Callable[[dict[str, Any]], object] = lambda _: None,
    ) -> None:
        self.data, self.wanted_port, self.say = data.expanduser().resolve(), port, say
        self.document = document
        self.with_worker = workers
        self.lock = FolderLock(self.data / "up.lock")
        self.record = Record(self.data / "up.json")
        self.parts: list[Part] = []
        self.address = ""
        self._stop = threading.Event()
        self._answered = False

    def run(self) -> int:
        """Start all, watch until Ctrl-C or SIGTERM, stop all. Returns the exit code."""
        if not self.lock.acquire():
            address, living = self.record.read()
            self.say(f"already running at {address} (data folder {self.data})" if living else "another up is starting")
            up = living.get("up")
            self.document({"address": address, "data": str(self.data), "pid": up.pid if up else None, "started": False})
            return 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            self._end_leftovers()
            self._start()
            return self._watch()
        finally:
            self._stop_parts()
            self.record.remove()
            self.lock.release()

    def _on_signal(self, number: int, _frame: object) -> None:
        if self._stop.is_set():  # the second Ctrl-C: no patience
            for part in self.parts:
                part.stop_seconds = 0.5
        self._stop.set()

    def _end_leftovers(self) -> None:
        """An earlier `up` that was killed leaves its parts; they belong to this folder, so they go first."""
        _, living = self.record.read()
        living.pop("up", None)
        if living:
            self.say(f"ending what an earlier run left: {', '.join(sorted(living))}")
            end_recorded(living)

    def _start(self) -> None:
        logs = self.data / "logs"
        environment = {"ACAMKD_DATA_DIR": str(self.data)}
        if not os.environ.get("ACAMKD_BROKER_URL"):
            broker = valkey_part(self.data / "valkey", logs)
            if broker is None:
                self.say("no embedded broker for this platform: jobs start by polling, within 15 s")
            else:
                part, environment["ACAMKD_BROKER_URL"] = broker
                self._launch(part)
        migrate(self.data)
        port = free_port(self.wanted_port)
        if port != self.wanted_port:
            self.say(f"port {self.wanted_port} is taken, using {port}")
        self.address = f"http://127.0.0.1:{port}"
        environment |= {"ACAMKD_HOST": "127.0.0.1", "ACAMKD_PORT": str(port)}
        self._launch(Part("server", server_command(port), environment, logs / "server.log", stop_seconds=10.0))
        if self.with_worker:
            # The worker hands its jobs back when it is asked to stop: a checkpoint may take a while.
            self._launch(Part("worker", worker_command(), environment, logs / "worker.log", stop_seconds=75.0))

    def _launch(self, part: Part) -> None:
        part.start()
        self.parts.append(part)
        self.record.write(self.address, self.parts)

    def _server_pid(self) -> int:
        (server,) = [part for part in self.parts if part.name == "server"]
        return server.process.pid if server.process is not None else 0

    def _watch(self) -> int:
        deadline = time.monotonic() + _START_SECONDS
        while not self._stop.wait(0.1 if not self._answered else 0.5):
            if not self._answered and answers(self.address, self._server_pid()):
                self._answered = True
                self.say(f"acamkd is up: {self.address}   (Ctrl-C stops it; data in {self.data})")
                self.document({"address": self.address, "data": str(self.data), "pid": os.getpid(), "started": True})
            if not self._answered and time.monotonic() > deadline:
                self.say(f"the server has not answered within {_START_SECONDS:g} s; still trying")
                deadline = float("inf")
            for part in self.parts:
                line = part.tend()
                if line is None:
                    continue
                self.say(line)
                self.record.write(self.address, self.parts)
                if part.name == "server" and not self._answered and part.early_deaths >= _HOPELESS_DEATHS:
                    self.say(f"the server does not start:\n{part.last_lines()}")
                    return 1
        return 0

    def _stop_parts(self) -> None:
        """The worker first, while broker and server are there to hear of it; the broker last."""
        if self.parts and self._answered:
            self.say("stopping: running jobs are checkpointed and go back to the queue")
        for part in reversed(self.parts):
            part.stop()


def answers(address: str, pid: int) -> bool:
    """Whether this very server answers its health check: another one may have taken the port a moment earlier."""
    try:
        answer = httpx.get(f"{address}/healthz", timeout=1.0, trust_env=False)
        return answer.status_code == 200 and answer.json().get("pid") == str(pid)
    except (httpx.HTTPError, ValueError):
        return False


def server_command(port: int) -> list[str]:
    """uvicorn on loopback."""
    return [
        *(sys.executable, "-m", "uvicorn", "server.app:serve_app", "--factory"),
        *("--host", "127.0.0.1", "--port", str(port), "--no-access-log", "--timeout-graceful-shutdown", "3"),
    ]


def worker_command() -> list[str]:
    """One worker with Celery's own entry."""
    return [sys.executable, "-m", "worker"]


def migrate(data: Path) -> None:
    """Bring the database to the current schema before anybody opens it."""
    from server.db.migrate import upgrade
    from server.db.session import make_engine
    from server.settings import Settings

    engine = make_engine(Settings(data_dir=data).database)
    try:
        upgrade(engine)
    finally:
        engine.dispose()


def up(data: Path, port: int = 8080, *, workers: bool = True, output: Format = Format.table) -> int:
    """Run the platform in the foreground until Ctrl-C. Returns the exit code.

    Raises:
        CoreError: `up.data_folder`, when the data folder cannot be written.
    """
    require_free_folder(data)
    if output is Format.table:
        return Platform(data, port, workers=workers, say=lambda line: print(line, flush=True)).run()

    def document(facts: dict[str, Any]) -> None:
        emit(facts, output)
        sys.stdout.flush()

    return Platform(data, port, workers=workers, say=say, document=document).run()


def down(data: Path, *, output: Format = Format.table) -> int:
    """Stop the platform of this data folder, and only its processes. Returns 0 also when nothing ran."""
    data = data.expanduser().resolve()
    record, lock = Record(data / "up.json"), FolderLock(data / "up.lock")
    _, living = record.read()
    if main := living.get("up"):
        main.terminate()
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if lock.acquire():
                lock.release()
                break
            time.sleep(0.1)
        _, living = record.read()
    living.pop("up", None)
    end_recorded(living)
    record.remove()
    stopped = bool(main or living)
    if not emit({"stopped": stopped}, output):
        print("stopped" if stopped else "nothing was running", flush=True)
    return 0


def require_free_folder(data: Path) -> None:
    """Refuse a data folder that cannot be written.

    Raises:
        CoreError: `up.data_folder`.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        probe = data / ".write-test"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise CoreError("up.data_folder", f"the data folder cannot be written: {error}", value=str(data)) from None
