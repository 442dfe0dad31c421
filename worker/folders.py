"""The folder of a worker: one process uses it at a time, and what the dead left in theirs is cleared."""

from __future__ import annotations

import fcntl
import re
import shutil
import time
from pathlib import Path
from typing import IO

from acamkd_core.spec.errors import CoreError
from worker.processes import end_orphans

_FOLDERS = 64
_LOCK_TRIES = 10
_SILENT_SECONDS = 3600.0  # on file systems of several machines a free lock alone is not believed


def _silent(folder: Path) -> bool:
    """Whether no worker has reported itself from this folder for an hour."""
    try:
        return time.time() - (folder / "heartbeat").stat().st_mtime > _SILENT_SECONDS
    except FileNotFoundError:
        return False


def own_folder(parent: Path, name: str) -> tuple[Path, IO[str]]:
    """A folder that this worker alone uses, as long as the returned file stays open.

    A second worker of the same name on the same data folder takes the next one.

    Raises:
        CoreError: `worker.folders`, when all of them are taken.
    """
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", name) or "worker"
    for number in range(1, _FOLDERS + 1):
        folder = parent / (base if number == 1 else f"{base}-{number}")
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a", encoding="ascii")
        if _locked(lock, tries=_LOCK_TRIES):
            return folder, lock
        lock.close()
    raise CoreError("worker.folders", f"{_FOLDERS} workers named {base!r} already run on this data folder")


def _locked(lock: IO[str], *, tries: int) -> bool:
    """Takes a lock. A worker that starts looks into the folders of the dead for a moment: that is waited for."""
    for attempt in range(tries):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if attempt + 1 < tries:
                time.sleep(0.05)
        else:
            return True
    return False


def clear_the_dead(parent: Path) -> list[int]:
    """Ends the orphans of workers of other names that nobody runs any more, and deletes the files of their attempts.

    A child that was stopped when its worker was killed heard nothing of it; and containers get a new name each time they
    are made, so that nobody else would come back to their folders.

    Returns:
        The pids of children that were found alive.
    """
    ended = []
    for path in sorted(parent.glob("*/lock")):
        with path.open("a", encoding="ascii") as lock:
            if _locked(lock, tries=1):  # else its worker lives
                attempts = path.parent / "attempts"
                ended += end_orphans(attempts)
                if _silent(path.parent):
                    for leftover in attempts.glob("*"):
                        shutil.rmtree(leftover, ignore_errors=True)
    return ended
