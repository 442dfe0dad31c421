"""Ending a job's processes: all of them, whatever session, group or parent they have moved to."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

import psutil

from worker.environment import ATTEMPT_VARIABLE, JOB_VARIABLE

_RECORD = "child.json"
_GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)


def processes_of(job: str, attempt: int | None = None) -> list[psutil.Process]:
    """Living processes of this user that carry the job's id in their environment.

    torchrun and data loaders start new sessions and outlive their parents: the environment is the one mark that
    every descendant inherits.
    """
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except (*_GONE, OSError):
            continue
        if environment.get(JOB_VARIABLE) != job or process.pid == os.getpid():
            continue
        if attempt is None or environment.get(ATTEMPT_VARIABLE) == str(attempt):
            found.append(process)
    return found


def descendants(pid: int) -> list[psutil.Process]:
    """The process and everything below it, as far as parents are still known."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill_all(job: str, attempt: int, pid: int | None = None, seconds: float = 10.0) -> list[int]:
    """SIGKILL to the tree below `pid` and to whoever carries the attempt's marks; again until nobody is left.

    Returns:
        The ids that survived `seconds` (stuck in the kernel, or another user's): empty unless something is wrong.
    """
    deadline = time.monotonic() + seconds
    tree = descendants(pid) if pid is not None else []
    while True:
        targets = {process.pid: process for process in [*tree, *processes_of(job, attempt)]}
        living = [process for process in targets.values() if _alive(process)]
        if not living or time.monotonic() > deadline:
            return [process.pid for process in living]
        for process in living:
            with contextlib.suppress(*_GONE):
                process.kill()
        time.sleep(0.03)  # never psutil.wait_procs: it would collect the exit code that our Popen is to read


def _alive(process: psutil.Process) -> bool:
    # A zombie is dead already; its parent (perhaps our own Popen) only has to collect it.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def record_child(folder: Path, job: str, attempt: int, pid: int) -> None:
    """Note a started child beside its events, so that the next worker of this folder can end it."""
    created = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        created = psutil.Process(pid).create_time()
    text = json.dumps({"job": job, "attempt": attempt, "pid": pid, "created": created})
    (folder / _RECORD).write_text(text, encoding="utf-8")


def end_orphans(attempts: Path) -> list[int]:
    """End what an earlier worker of this folder left running.

    A recorded pid counts only with its start time and the job's mark: pids are reused, and a data folder may be shared
    by machines that have the same pids.

    Returns:
        The pids of the children that were found alive.
    """
    ended = []
    for record in sorted(attempts.glob(f"*/{_RECORD}")):
        try:
            note = json.loads(record.read_text(encoding="utf-8"))
            job, attempt, pid = str(note["job"]), int(note["attempt"]), int(note["pid"])
            created = float(note["created"])
        except (ValueError, KeyError, OSError):
            continue
        same = False
        with contextlib.suppress(*_GONE, OSError):
            process = psutil.Process(pid)
            marked = process.environ().get(JOB_VARIABLE) == job
            same = marked and abs(process.create_time() - created) < 1.0
        if same or processes_of(job, attempt):
            ended.append(pid)
            kill_all(job, attempt, pid if same else None)
        record.unlink(missing_ok=True)
    return ended
