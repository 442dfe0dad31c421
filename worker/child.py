"""The process that trains: its start, its lifeline, its log, its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from worker.processes import kill_all, record_child


class Child:
    """One attempt's process tree.

    The child's stdin is a pipe whose only write end is held here and closed on exec: when the worker dies, however
    it dies, the kernel closes it, the child reads EOF and ends itself.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, environment: dict[str, str], job: str, attempt: int
    ) -> None:
        self.job, self.attempt = job, attempt
        self._killed_by_us = False
        self._oom_before = kernel_oom_kills()
        read_end, self._lifeline = os.pipe()  # neither end is inheritable; Popen passes the read end as stdin only
        try:
            with (folder / "log.txt").open("ab") as log:
                self._process = subprocess.Popen(
                    [*command, "--dir", str(folder)],
                    stdin=read_end,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                    env=environment,
                    start_new_session=True,
                )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(read_end)
        record_child(folder, job, attempt, self.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """Exit code, or None while it runs."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        """SIGTERM: write a checkpoint, say so, end with 3."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> list[int]:
        """End the whole tree now. Returns the ids that would not die."""
        if self.poll() is None:
            self._killed_by_us = True
        left = kill_all(self.job, self.attempt, self.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        return left

    def close(self) -> None:
        """Kill what is left and let go of the lifeline."""
        self.kill()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def out_of_memory(self) -> bool:
        """Whether the kernel killed it for memory: SIGKILL that was not ours, and the kernel's own counter moved."""
        if self._killed_by_us or self.poll() != -signal.SIGKILL:
            return False
        for _ in range(5):  # the counter may lag the signal by a moment
            now = kernel_oom_kills()
            if now is not None and self._oom_before is not None and now > self._oom_before:
                return True
            time.sleep(0.02)
        return False


def kernel_oom_kills() -> int | None:
    """How often the kernel has killed for memory in this control group; None where it does not say."""
    for path in _oom_counters():
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return None


def _oom_counters() -> list[Path]:
    """Files with an `oom_kill` line: cgroup v2, cgroup v1, then the whole machine's."""
    root = Path("/sys/fs/cgroup")
    found: list[Path] = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
            _, controllers, group = line.split(":", 2)
            group = group.lstrip("/")
            if controllers == "":
                found += [root / group / "memory.events", root / "unified" / group / "memory.events"]
            elif "memory" in controllers.split(","):
                found += [root / "memory" / group / "memory.oom_control", root / "memory" / "memory.oom_control"]
    return [*found, root / "memory.events", Path("/proc/vmstat")]
