"""The worker as a whole: its folder, its row, its slots, its reaper; started once, stopped once."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import threading
from typing import IO

import psutil
import structlog

from acamkd_core.spec.errors import CoreError
from server.artifacts.sweeper import Sweeper
from server.db.base import new_id
from server.db.session import make_engine, write_session
from server.jobs.reaper import Reaper
from server.jobs.repository import Claim, claim
from server.queue import WakeUps
from server.storage import Storage
from server.workers import repository as workers
from worker.folders import clear_the_dead, own_folder
from worker.processes import end_orphans
from worker.settings import WorkerSettings, device_sets
from worker.slots import Slots
from worker.supervisor import Supervisor, Surroundings

log = structlog.get_logger("worker")


class WorkerService:
    """Everything that a worker process runs besides Celery."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings, self.id = settings, new_id()
        self.engine = make_engine(settings.database)
        self.storage = Storage.from_settings(settings)
        self.wakeups = WakeUps(settings.broker_url)
        try:
            self.devices = device_sets(settings.devices, settings.slots, visible_gpus())
        except ValueError as error:
            raise CoreError("worker.devices", str(error), value=settings.devices) from None
        self.slots: Slots[Claim] = Slots(len(self.devices), self._claim, self._run, settings.poll_seconds)
        self.threads = settings.threads or max(1, (os.cpu_count() or 1) // self.slots.count)
        self.reaper = Reaper(
            self.engine,
            after=settings.reap_after_seconds,
            every=settings.reap_every_seconds,
            on_requeued=self._wake,
        )
        self.sweeper = Sweeper(self.engine, self.storage)
        self._stop = threading.Event()
        self._started = self._stopped = False
        self._registered = False
        self._lock: IO[str] | None = None
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._around: Surroundings | None = None

    def start(self) -> None:
        """Take a folder, end what an earlier worker left in it, then look for work."""
        if self._started:
            return
        self._started = True
        folder, self._lock = own_folder(self.settings.workers_dir, self.settings.worker_name)
        attempts = folder / "attempts"
        attempts.mkdir(exist_ok=True)
        for pid in [*end_orphans(attempts), *clear_the_dead(self.settings.workers_dir)]:
            log.warning("ended an orphan of an earlier worker", pid=pid)
        for leftover in attempts.iterdir():
            shutil.rmtree(leftover, ignore_errors=True)
        self._around = Surroundings(
            engine=self.engine,
            storage=self.storage,
            settings=self.settings,
            attempts=attempts,
            stopping=lambda: self.slots.stopping,
            on_end=self._wake,
        )
        self._heart.start()
        self.reaper.start()
        self.sweeper.start()
        self.slots.start()
        log.info("worker ready", id=self.id, slots=self.slots.count, devices=self.devices)

    def stop(self) -> None:
        """Hand running jobs back (each with a checkpoint if its grace allows), sign off."""
        if not self._started or self._stopped:
            return
        self._stopped = True
        if not self.slots.stop(self.settings.grace_seconds + 30):
            log.error("a slot did not end in time; its child ends with this process")
        self.reaper.stop()
        self.sweeper.stop()
        self._stop.set()
        self._heart.join(5)
        try:
            if self._registered:
                with write_session(self.engine) as session:
                    workers.stopped(session, worker_id=self.id)
        except Exception as error:  # the row then says `lost`, which is what a database outage looks like
            log.warning("could not sign off", error=str(error))
        self.wakeups.close()
        self.engine.dispose()
        if self._lock is not None:
            self._lock.close()

    def _claim(self, slot: int) -> Claim | None:
        devices = self.devices[slot]
        with write_session(self.engine) as session:
            return claim(
                session,
                worker_id=self.id,
                worker_name=self.settings.worker_name,
                gpus=len(devices),
                devices=devices,
                labels=self.settings.labels,
            )

    def _run(self, slot: int, work: Claim) -> None:
        assert self._around is not None
        Supervisor(work, self._around, self.devices[slot], self.threads).run()

    def _wake(self) -> None:
        # A finished teacher frees its students, a released job wants another worker: both would wait for a poll.
        if self.settings.broker_url:
            self.wakeups.wake()

    def _beat(self) -> None:
        """The worker's own sign of life, for the Workers page; leases do not depend on it."""
        me = psutil.Process()
        while True:
            try:
                self._report(me)
            except Exception as error:
                log.warning("worker report failed", error=str(error))
            if self._stop.wait(self.settings.heartbeat_seconds):
                return

    def _report(self, me: psutil.Process) -> None:
        family = [me, *me.children(recursive=True)]
        memory = 0.0
        for process in family:
            try:
                memory += process.memory_info().rss / 2**20
            except psutil.NoSuchProcess:
                continue
        cpu = psutil.cpu_percent(interval=None)
        with write_session(self.engine) as session:
            known = self._registered and workers.seen(
                session, worker_id=self.id, cpu_percent=cpu, memory_mb=round(memory, 1)
            )
            if not known:
                workers.register(
                    session,
                    worker_id=self.id,
                    name=self.settings.worker_name,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    slots=self.slots.count,
                    devices=[",".join(one) or "cpu" for one in self.devices],
                    labels=self.settings.labels,
                    versions=versions(),
                )
        self._registered = True
        if self._around is not None:
            (self._around.attempts.parent / "heartbeat").touch()  # what a container's health check looks at


def versions() -> dict[str, str]:
    """Versions shown on the Workers page; asked of the package metadata, so that torch stays out of this process."""
    found = {"python": platform.python_version(), "system": platform.system()}
    for package in ("acamkd", "torch", "torchvision", "onnxruntime", "celery"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def visible_gpus() -> int:
    """NVIDIA GPUs of this machine, by its own tool; 0 where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    try:
        listing = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())
