"""Parts that run as child processes of `acamkd up`: start, watch, restart with backoff, stop, and the record of them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

import psutil

_LOG_BYTES = 20 * 1024 * 1024
_FIRST_BACKOFF, _LONGEST_BACKOFF, _STEADY_SECONDS = 0.5, 30.0, 60.0


@dataclass
class Part:
    """One program. A part that dies is started again, ever more slowly, until it has run steadily for a while."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    stop_seconds: float = 10.0
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restarts: int = 0
    early_deaths: int = 0
    _backoff: float = field(default=_FIRST_BACKOFF, repr=False)
    _not_before: float = field(default=0.0, repr=False)

    def start(self) -> None:
        """Start it in a session of its own: Ctrl-C in the terminal must reach `up` alone, which stops parts in order."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            if self.log.stat().st_size > _LOG_BYTES:  # the one before is enough to look back
                self.log.replace(self.log.with_name(f"{self.log.name}.1"))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        self.started = time.monotonic()

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def tend(self) -> str | None:
        """Restart it when it is dead and its backoff is over. Returns a line to print, or None."""
        now = time.monotonic()
        if self.alive():
            if now - self.started > _STEADY_SECONDS:
                self._backoff, self.early_deaths = _FIRST_BACKOFF, 0
            return None
        if self._not_before == 0.0:
            code = self.process.returncode if self.process else None
            self._not_before = now + self._backoff
            self.early_deaths += 1
            waiting, self._backoff = self._backoff, min(2 * self._backoff, _LONGEST_BACKOFF)
            return f"{self.name} ended with {code}; starting it again in {waiting:g} s (log: {self.log})"
        if now >= self._not_before:
            self._not_before = 0.0
            self.restarts += 1
            self.start()
            return f"{self.name} runs again"
        return None

    def ask_to_stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def stop(self) -> None:
        """SIGTERM, patience, then SIGKILL to it and what is below it."""
        if self.process is None:
            return
        self.ask_to_stop()
        try:
            self.process.wait(self.stop_seconds)
        except subprocess.TimeoutExpired:
            end_tree(self.process.pid)
            self.process.wait(10)

    def last_lines(self, count: int = 15) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])
        return ""


def end_tree(pid: int) -> None:
    """SIGKILL to a process and all its descendants."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [*root.children(recursive=True), root]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def free_port(preferred: int, host: str = "127.0.0.1") -> int:
    """`preferred`, or the next free one of twenty, or any."""
    for port in [*range(preferred, preferred + 20), 0]:
        with socket.socket() as probe:
            # As servers do: a port in TIME_WAIT counts as free, a listening one does not.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((host, port))
                return int(probe.getsockname()[1])
    raise OSError(f"no free port on {host}")


class FolderLock:
    """One `acamkd up` a data folder. The kernel releases the lock with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self) -> bool:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a", encoding="ascii")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Record:
    """`up.json`: who runs in this data folder, by pid and start time (pids are reused)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, address: str, parts: Iterable[Part]) -> None:
        processes = {"up": os.getpid()} | {
            part.name: part.process.pid for part in parts if part.process and part.alive()
        }
        notes = {name: {"pid": pid, "created": _created(pid)} for name, pid in processes.items()}
        aside = self.path.with_suffix(".tmp")
        aside.write_text(json.dumps({"address": address, "processes": notes}), encoding="utf-8")
        aside.replace(self.path)

    def read(self) -> tuple[str, dict[str, psutil.Process]]:
        """The address and the processes of the record that are still the same and alive."""
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            notes = dict(data["processes"])
        except (OSError, ValueError, KeyError):
            return "", {}
        living = {}
        for name, note in notes.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(note["pid"]))
                if (
                    abs(process.create_time() - float(note["created"])) < 1.0
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    living[name] = process
        return str(data.get("address", "")), living

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def end_recorded(processes: dict[str, psutil.Process], seconds: float = 75.0) -> None:
    """SIGTERM to recorded parts (the worker first: it hands its jobs back), then SIGKILL to the stubborn."""
    for name in sorted(processes, key=lambda name: {"worker": 0, "server": 1}.get(name, 2)):
        process = processes[name]
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
        _, living = psutil.wait_procs([process], timeout=seconds)
        for stubborn in living:
            end_tree(stubborn.pid)


def _created(pid: int) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(psutil.Process(pid).create_time())
    return 0.0
