"""Ways to disturb a run of the stand-in child, and what must be true of it afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import redis
from sqlalchemy import select

from acamkd_core.client import Client
from server.db.session import read_session
from server.db.tables import JobEvent
from tests.cli.running import RunningServer
from tests.services import free_ports
from tests.worker.bench import FAST, Bench, stand_in_digest, stand_in_losses, until
from worker.processes import processes_of

STEPS = 120
# A run of about three seconds, half of it inside checkpoint writes and exports.
HABITS: dict[str, Any] = {"steps": STEPS, "every": 20, "pace": 0.012, "slow": 0.12}
EXPORTS = {("export", "student.safetensors"), ("export", "student.onnx"), ("bundle", "bundle.zip")}
Kill = Callable[[Bench, str], None]


def assert_undisturbed(bench: Bench, job_id: str) -> None:
    """One success, one result, one set of files, one attempt used, and the series of a run that nobody disturbed."""
    job = bench.wait(job_id, "succeeded")
    digest = stand_in_digest(STEPS)
    (model,) = bench.models(job_id)
    assert model.weights_digest == digest
    assert job.metrics["test/miou"] == int(digest[:4], 16) / 655.36
    series = bench.series(job_id)
    assert {key: value for key, value in series.items() if key[0] == "loss/total"} == dict(stand_in_losses(STEPS))
    assert {step for name, step in series if name == "val/miou"} == set(range(20, STEPS + 1, 20))
    assert {key for key in bench.artifacts(job_id) if key[0] in ("export", "bundle")} == EXPORTS
    attempts = bench.attempts(job_id)
    assert [attempt.exit for attempt in attempts].count("succeeded") == 1
    assert sum(attempt.counted for attempt in attempts) <= 1
    with read_session(bench.engine) as session:
        results = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.kind == "result")
        assert len(list(session.scalars(results))) == 1
    assert processes_of(job_id) == []


def kill_worker(bench: Bench, job_id: str) -> None:
    bench.workers[-1].kill()
    bench.workers[-1].wait(5)
    bench.worker("next")


def kill_child(bench: Bench, job_id: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(bench.child_pid(job_id), signal.SIGKILL)


def kill_both(bench: Bench, job_id: str) -> None:
    pid = bench.child_pid(job_id)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)  # it cannot react to its lifeline: the next worker has to end it
    bench.workers[-1].kill()
    bench.workers[-1].wait(5)
    bench.worker(f"next-{len(bench.workers)}")  # another name: it finds the orphan in the folder of the dead one
    with contextlib.suppress(TimeoutError):
        until(lambda: not psutil.pid_exists(pid), 120)
    assert not psutil.pid_exists(pid)


def kill_helper(bench: Bench, job_id: str) -> None:
    """One process below the child: a loader worker, a rank."""
    with contextlib.suppress(psutil.NoSuchProcess, IndexError):
        psutil.Process(bench.child_pid(job_id)).children(recursive=True)[-1].kill()


def flush_broker(bench: Bench, job_id: str) -> None:
    with redis.Redis.from_url(bench.broker_url) as client:
        client.flushall()
    assert bench.broker is not None
    bench.broker.stop()
    bench.broker.start()
    until(bench.broker_answers, 60)


def stop_and_continue(bench: Bench, job_id: str) -> None:
    """SIGSTOP of the worker that has the job, past its lease, then SIGCONT; another worker is there."""
    first = bench.workers[-1]
    bench.stop_worker(first)
    bench.worker("other" if len(bench.workers) % 2 else "w")  # it is the one to stop next
    time.sleep(float(FAST["REAP_AFTER_SECONDS"]) + 3)
    os.kill(first.pid, signal.SIGCONT)


KILLS: dict[str, Kill] = {
    "worker": kill_worker,
    "child": kill_child,
    "both": kill_both,
    "helper": kill_helper,
    "broker": flush_broker,
    "stop": stop_and_continue,
}


@contextlib.contextmanager
def a_server(bench: Bench) -> Iterator[RunningServer]:
    """The REST server on the same data, as a process."""
    (port,) = free_ports(1)
    running = RunningServer(f"http://127.0.0.1:{port}", bench.folder / "data", port)
    running.start()
    try:
        yield running
    finally:
        assert running.process is not None
        running.process.kill()
        running.process.wait(10)


class Follower:
    """Somebody who reads a job's stream from its first event to its last, whatever happens to the server."""

    def __init__(self, url: str, job_id: str) -> None:
        self.seen: list[int] = []
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._read, args=(url, job_id), daemon=True)
        self._thread.start()

    def _read(self, url: str, job_id: str) -> None:
        try:
            with Client(url) as client:
                self.seen = []
                for event in client.jobs.get(job_id).events(after=0):
                    self.seen.append(event.seq)
        except Exception as error:
            self.error = error

    def assert_complete(self, bench: Bench, job_id: str) -> None:
        """In order, none twice, and every event that the database still has."""
        self._thread.join(120)
        assert not self._thread.is_alive()
        assert self.error is None
        assert self.seen == sorted(set(self.seen))
        with read_session(bench.engine) as session:
            kept = set(session.scalars(select(JobEvent.seq).where(JobEvent.job_id == job_id)))
        assert kept <= set(self.seen)


def moment(bench: Bench, job_id: str, name: str) -> bool:
    """Whether the run is in the middle of a `checkpoint` write, of an `export`, or its worker of an `upload`."""
    data = bench.folder / "data"
    if name == "upload":  # what the store writes aside before it renames
        return any(Path(data / "blobs").glob("*/*#*"))
    folder = {"checkpoint": "checkpoints", "export": "exports"}[name]
    return any(data.glob(f"workers/*/attempts/{job_id}-*/{folder}/*.tmp"))
