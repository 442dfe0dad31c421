"""A small fleet of real parts for tests: a database, a Valkey, workers as processes. Everything it starts, it ends."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import select

from acamkd_core.spec.job import parse_job
from cli.processes import Part, end_tree
from cli.valkey import valkey_part
from server.db.base import DEFAULT_PROJECT
from server.db.migrate import upgrade
from server.db.session import make_engine, read_session, write_session
from server.db.tables import Artifact, Attempt, Job, MetricPoint, Model
from server.jobs import repository as jobs
from server.queue import WakeUps
from server.workers.repository import list_workers
from worker.processes import processes_of

STAND_IN = [sys.executable, str(Path(__file__).with_name("stand_in_child.py"))]
FAST = {
    "BEAT_SECONDS": "0.5",
    "RENEW_LIMIT_SECONDS": "3",
    "REAP_AFTER_SECONDS": "5",
    "REAP_EVERY_SECONDS": "0.25",
    "POLL_SECONDS": "1",
    "HEARTBEAT_SECONDS": "1",
    "GRACE_SECONDS": "5",
    "TICK_SECONDS": "0.05",
}


class Bench:
    """Settings of one fleet, and what runs of it."""

    def __init__(
        self,
        folder: Path,
        *,
        database: str = "",
        child: list[str] | None = None,
        broker: bool = True,
        fast: bool = True,
    ) -> None:
        """`fast` shortens the intervals of production, which take half a minute to miss a worker."""
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ACAMKD_")},
            "ACAMKD_DATA_DIR": str(folder / "data"),
            "ACAMKD_DEVICES": "cpu",
            "ACAMKD_THREADS": "1",
            "ACAMKD_CHILD_COMMAND": json.dumps(child or STAND_IN),
            **({f"ACAMKD_{name}": value for name, value in FAST.items()} if fast else {}),
        }
        url = database or f"sqlite:///{folder / 'data' / 'acamkd.db'}"
        self.environment["ACAMKD_DATABASE_URL"] = url
        self.engine = make_engine(url)
        upgrade(self.engine)
        self.workers: list[subprocess.Popen[bytes]] = []
        self.jobs: list[str] = []
        self.broker: Part | None = None
        self.broker_url = ""
        if broker:
            self.start_broker()

    def start_broker(self) -> None:
        made = valkey_part(self.folder / "valkey", self.folder / "logs", preferred_port=20000 + os.getpid() % 20000)
        assert made is not None, "no Valkey binary for this platform"
        self.broker, self.broker_url = made
        self.environment["ACAMKD_BROKER_URL"] = self.broker_url
        self.broker.start()
        until(self.broker_answers, 60)

    def broker_answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.broker_url, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def worker(self, name: str = "w", **settings: str) -> subprocess.Popen[bytes]:
        environment = {**self.environment, "ACAMKD_WORKER_NAME": name}
        environment |= {f"ACAMKD_{key.upper()}": value for key, value in settings.items()}
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.workers.append(process)
        return process

    def submit(self, *, steps: int = 60, every: int = 10, seed: int = 0, kind: str = "distill", **habits: Any) -> str:
        """A job for the stand-in (see its docstring for the habits)."""
        fields: dict[str, Any] = {
            "dataset": "scenes",
            "student": "mobile_deeplabv3",
            "seed": seed,
            "schedule": {"iterations": steps},
            "checkpoint": {"every": every},
            "notes": json.dumps(habits),
        }
        return self.submit_spec(fields if kind == "distill" else {"kind": kind, "dataset": "scenes"})

    def submit_spec(self, fields: dict[str, Any], **columns: Any) -> str:
        spec = parse_job(fields).model_dump(mode="json")
        new = jobs.NewJob(
            project_id=DEFAULT_PROJECT,
            name=fields.get("name") or f"job-{len(self.jobs)}",
            kind=spec["kind"],
            submitted="",
            spec=spec,
            max_attempts=columns.pop("max_attempts", 3),
            **columns,
        )
        with write_session(self.engine) as session:
            job, _ = jobs.create(session, new=new)
        self.jobs.append(job.id)
        return job.id

    def wake(self, count: int = 1) -> None:
        wakeups = WakeUps(self.broker_url)
        for _ in range(count):
            assert wakeups.wake()
        wakeups.close()

    def job(self, job_id: str) -> Job:
        with read_session(self.engine) as session:
            return session.get_one(Job, job_id)

    def attempts(self, job_id: str) -> list[Attempt]:
        with read_session(self.engine) as session:
            return jobs.list_attempts(session, job_id=job_id)

    def artifacts(self, job_id: str) -> dict[tuple[str, str], str]:
        """(kind, name) -> sha256, checkpoints and panels included."""
        with read_session(self.engine) as session:
            rows = session.scalars(select(Artifact).where(Artifact.job_id == job_id))
            found = [((row.kind, row.name), row.sha256) for row in rows]
        assert len(found) == len(dict(found))
        return dict(found)

    def series(self, job_id: str) -> dict[tuple[str, int], float | None]:
        """Every metric point but the clock's."""
        with read_session(self.engine) as session:
            rows = session.scalars(select(MetricPoint).where(MetricPoint.job_id == job_id))
            return {(row.name, row.step): row.value for row in rows if not row.name.startswith("time/")}

    def models(self, job_id: str) -> list[Model]:
        with read_session(self.engine) as session:
            return list(session.scalars(select(Model).where(Model.job_id == job_id)))

    def wait(self, job_id: str, *states: str, seconds: float = 180) -> Job:
        wanted = states or ("succeeded", "failed", "cancelled")
        with contextlib.suppress(TimeoutError):
            until(lambda: self.job(job_id).state in wanted or self._crashed(), seconds)
        job = self.job(job_id)
        assert job.state in wanted, f"{job.state} ({job.reason}, {job.error}); log:\n{self.log()}"
        return job

    def _crashed(self) -> bool:
        """A worker that ended by itself and in error: no use in waiting."""
        return any((process.poll() or 0) > 0 for process in self.workers)

    def wait_step(self, job_id: str, step: int, seconds: float = 180) -> None:
        """Until the database has heard of a training step."""
        until(lambda: any(at >= step for _, at in self.series(job_id)), seconds)

    def stop_worker(self, process: subprocess.Popen[bytes]) -> None:
        """SIGSTOP, outside of a write: SQLite's lock would stay with the stopped process, and nobody else could act.

        (A worker of one's own machine that is stopped in a write holds up its neighbours until it goes on; on
        PostgreSQL it holds up its own job only.)
        """
        deadline = time.monotonic() + 30
        while True:
            os.kill(process.pid, signal.SIGSTOP)
            if self._writable():
                return
            assert time.monotonic() < deadline, "the worker was never seen outside of a write"
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(0.02)

    def _writable(self) -> bool:
        """Whether a write can begin at once (a short patience: others write too)."""
        if self.engine.dialect.name != "sqlite":
            return True
        with contextlib.closing(sqlite3.connect(str(self.engine.url.database), timeout=1.0)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            connection.rollback()
            return True

    def seen_workers(self) -> set[str]:
        """Names of the workers that have reported themselves."""
        with read_session(self.engine) as session:
            return {worker.name for worker in list_workers(session)}

    def child_pid(self, job_id: str) -> int:
        until(lambda: bool(self.attempts(job_id)) and self.attempts(job_id)[-1].pid is not None, 120)
        return int(self.attempts(job_id)[-1].pid or 0)

    def log(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-6000:] for path in sorted(self.folder.glob("*.log")))

    def close(self) -> None:
        for process in self.workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            end_tree(process.pid)
            process.wait(10)
        for job_id in self.jobs:
            for process in processes_of(job_id):
                process.kill()
        if self.broker is not None:
            self.broker.stop_seconds = 2
            self.broker.stop()
        self.engine.dispose()


def until(condition: Callable[[], bool], seconds: float, look: float = 0.05) -> None:
    """Wait for something to come true; TimeoutError when it does not. Patience is free: what holds is not waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(look)


def stand_in_digest(steps: int, seed: int = 0) -> str:
    """What the stand-in's chain of digests must end with, step by step, computed here."""
    state = hashlib.sha256(str(seed).encode()).hexdigest()
    for step in range(1, steps + 1):
        state = hashlib.sha256(f"{state}{step}".encode()).hexdigest()
    return state


def stand_in_losses(steps: int, seed: int = 0) -> Iterator[tuple[tuple[str, int], float]]:
    """The loss series that belongs to it."""
    for step in range(1, steps + 1):
        yield ("loss/total", step), int(stand_in_digest(step, seed)[:6], 16) / 1e6
