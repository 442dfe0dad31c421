"""A real platform (`acamkd up`: broker, server, worker) on a free port in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from acamkd_core.client import Client
from cli.processes import Record, end_recorded, free_port

ROOT = Path(__file__).resolve().parents[2]


class Platform:
    """`acamkd up` as a process; `stop` ends all that it started."""

    def __init__(self, data: Path, **settings: str) -> None:
        self.data, self.log = data, data.parent / f"{data.name}.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ACAMKD_")}
        environment |= {"ACAMKD_DEVICES": "cpu", "ACAMKD_THREADS": "1", "OMP_NUM_THREADS": "1"}
        environment |= {f"ACAMKD_{name}": value for name, value in settings.items()}
        command = [sys.executable, "-m", "cli.main", "up", "--data", str(data), "--port", str(free_port(18_700))]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=out, env=environment, cwd=ROOT, start_new_session=True
            )
        try:
            until(lambda: "acamkd is up" in self.log.read_text() or self.process.poll() is not None, 90)
            if self.process.poll() is not None:
                raise RuntimeError(self.log.read_text())
        except BaseException:
            self.stop()
            raise
        self.address = self.log.read_text().split("acamkd is up: ")[1].split()[0]
        self.client = Client(self.address)

    def part(self, name: str) -> psutil.Process:
        """A living part: `server`, `worker` or `valkey`."""
        return Record(self.data / "up.json").read()[1][name]

    def answers(self) -> bool:
        """Whether the server answers now."""
        try:
            return httpx.get(f"{self.address}/healthz", timeout=1, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """Ctrl-C, and no mercy for what does not listen."""
        parts = Record(self.data / "up.json").read()[1]
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            end_recorded({name: part for name, part in parts.items() if name != "up"}, seconds=1)
            self.process.kill()
            self.process.wait(10)


def until(holds: Callable[[], object], seconds: float, every: float = 0.1) -> None:
    """Waits for a condition; an AssertionError with its name when time is over."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {getattr(holds, '__name__', holds)}"
        time.sleep(every)
