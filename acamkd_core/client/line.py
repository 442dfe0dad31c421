"""How `job.wait(progress=True)` shows where a job is."""

from __future__ import annotations

import sys
import time

from acamkd_core.spec.api import JobDetail
from acamkd_core.spec.tasks import primary

_SECONDS = 10.0


class Line:
    """One line on standard error: drawn over itself on a terminal, else written when something is new."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._shown = ""
        self._state = ""
        self._at = float("-inf")

    def __call__(self, info: JobDetail) -> None:
        """Shows a job's present state."""
        text = words(info)
        if self._live:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        elif text != self._shown and (info.state != self._state or time.monotonic() - self._at >= _SECONDS):
            print(text, file=sys.stderr, flush=True)
            self._shown, self._state, self._at = text, info.state, time.monotonic()

    def end(self) -> None:
        """Leaves the line for what is printed next."""
        if self._live:
            print(file=sys.stderr, flush=True)


def words(info: JobDetail) -> str:
    """`brave-otter  running  train 120/400  ETA 35 s  val mIoU 41.20`."""
    progress = info.progress
    parts = [info.name, info.state]
    if info.state == "running" and progress.iterations:
        parts.append(f"{progress.stage} {progress.iteration}/{progress.iterations}")
    if progress.eta_seconds is not None and info.state == "running":
        parts.append(f"ETA {progress.eta_seconds:.0f} s")
    if (score := primary(info.metrics, "val")) is not None:
        parts.append(f"val {score[0]} {score[1]:.2f}")
    return "  ".join(parts)
