"""A run of several processes on one machine: torchrun's agent, with this process in the place of the child.

Whoever started us sees one process, as for a run of one: SIGTERM asks all ranks for a checkpoint, the end of standard
input (which the ranks inherit) ends all of them, and the way that a rank died is the way that we die. Rank 0 writes the
events; the last word of another rank that failed alone is added here.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from acamkd_core.engine.events_file import EventsFile
from acamkd_core.engine.result import EXIT_CODES
from acamkd_core.spec.events import AnyEvent, ResultEvent, parse_event

LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


def one_host(count: int, meeting: Path) -> LaunchConfig:
    """torchrun's settings for so many ranks on this machine, which meet in a folder: nothing listens on the network."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    os.environ.setdefault("NCCL_SOCKET_IFNAME", LOOPBACK)
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    return LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, max_restarts=0, monitor_interval=0.1, run_id=secrets.token_hex(4),
        rdzv_backend="c10d", rdzv_endpoint=str(meeting / "store"), rdzv_configs={"store_type": "file"},
        # SIGTERM has a handler of ours: torchrun's gives ranks 30 s, and a checkpoint may take longer.
        signals_to_handle="SIGQUIT",
    )  # fmt: skip


def launch(folder: Path, count: int, arguments: list[str]) -> int:
    """Runs `count` ranks of `python -m acamkd_core.engine.run` with these arguments. Returns the run's exit code.

    Does not return when a rank was ended by a signal: then this process ends by the same one.
    """
    events = folder / "events.jsonl"
    before = events.stat().st_size if events.exists() else 0
    for old in (*folder.glob("rank-*.jsonl"), *folder.glob("ranks-*")):
        old.unlink()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, _passed_on(ended))
    with tempfile.TemporaryDirectory(prefix="acamkd-ranks-") as meeting:
        try:
            elastic_launch(one_host(count, Path(meeting)), sys.executable)("-m", "acamkd_core.engine.run", *arguments)
            failures = []
        except ChildFailedError as error:
            failures = sorted(error.failures.values(), key=lambda one: one.timestamp)
        finally:
            ended.set()
    if (result := _result_in(events, before)) is not None:
        return EXIT_CODES[result.status]
    for path in sorted(folder.glob("rank-*.jsonl")):
        if (result := _result_in(path, 0)) is not None:
            _say(events, path)
            return EXIT_CODES[result.status]
    signals = [-one.exitcode for one in failures if one.exitcode < 0]
    # The others were asked by SIGTERM to end, after the first had died.
    if (cause := next((one for one in signals if one != signal.SIGTERM), next(iter(signals), None))) is not None:
        if cause != signal.SIGKILL:
            signal.signal(cause, signal.SIG_DFL)
        os.kill(os.getpid(), cause)
    return next((one.exitcode for one in failures if one.exitcode), 1)


def _passed_on(ended: threading.Event) -> Callable[..., None]:
    """A handler of SIGTERM that passes it on to every rank, also to those that are still to be started."""
    asked = threading.Event()

    def pass_on() -> None:
        asked.wait()
        told: set[int] = set()
        while not ended.wait(0.1):
            for child in psutil.Process().children():
                if child.pid not in told:
                    told.add(child.pid)
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.terminate()

    threading.Thread(target=pass_on, daemon=True, name="stop").start()
    return lambda *_: asked.set()


def _result_in(path: Path, start: int) -> ResultEvent | None:
    """The last result event after so many bytes."""
    found = None
    for event in _events(path, start):
        if isinstance(event, ResultEvent):
            found = event
    return found


def _events(path: Path, start: int) -> list[AnyEvent]:
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(start)
        # A rank that was killed may leave half a line.
        return [parse_event(line) for line in file.read().rpartition(b"\n")[0].splitlines() if line]


def _say(events: Path, path: Path) -> None:
    """Adds what another rank said to the run's events."""
    file = EventsFile(events)
    for event in _events(path, 0):
        file(event)
    file.close()
