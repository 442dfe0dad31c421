"""One attempt at one job, from the claim to its end: start the child, follow it, stop it, say how it ended."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from acamkd_core.spec.errors import CoreError
from server.db.session import write_session
from server.jobs.repository import Claim, Fenced, set_pid
from server.storage import Storage
from worker.child import Child
from worker.ending import STORE_AWAY, Ending, conclude, no_room, refused
from worker.environment import child_environment
from worker.inputs import prepare
from worker.lease import LeaseKeeper
from worker.reporter import Reporter, settle, write_run_file
from worker.settings import WorkerSettings

log = structlog.get_logger("worker.supervisor")

Intent = Literal["cancel", "pause", "release", "time_limit"]
_CANCEL_GRACE = 5.0  # a cancelled run needs no checkpoint, only a chance to end its own helpers
_PATIENCE = 60.0  # with a database that refuses reports
_SETTLE_SECONDS = 600.0  # with a store that is away when a run of hours has ended


@dataclass(frozen=True)
class Surroundings:
    """What every supervisor of a worker shares."""

    engine: Engine
    storage: Storage
    settings: WorkerSettings
    attempts: Path
    stopping: Callable[[], bool]
    on_end: Callable[[], None]


class Supervisor:
    """Sees one claimed attempt through. `run` returns when the job is no longer ours, whatever happened."""

    def __init__(self, claim: Claim, around: Surroundings, devices: tuple[str, ...], threads: int) -> None:
        self.claim, self.around, self.devices, self.threads = claim, around, devices, threads
        self.settings = around.settings
        self.folder = around.attempts / f"{claim.job_id}-{claim.attempt}"
        self.intent: Intent | None = None
        self._asked_at = 0.0
        self._child: Child | None = None
        self._failing_since: float | None = None
        self._log = log.bind(job=claim.name, id=claim.job_id, attempt=claim.attempt)
        self.lease = LeaseKeeper(
            around.engine,
            claim.job_id,
            claim.attempt,
            every=self.settings.beat_seconds,
            limit=self.settings.renew_limit_seconds,
            on_lost=self._kill_now,
        )

    def run(self) -> None:
        """From claim to end. A lost lease ends the child and says nothing more."""
        self._log.info("attempt begins", resumes_from=self.claim.checkpoint_iteration)
        self.lease.start()
        try:
            self._attempt()
        except Fenced:
            self._log.warning("attempt is fenced: dropped")
        finally:
            if self._child is not None:
                self._child.close()
            self.lease.stop()
            shutil.rmtree(self.folder, ignore_errors=True)
            self.around.on_end()

    def _attempt(self) -> None:
        try:
            child = self._begin()
        except CoreError as error:
            self._write_ending(refused(self.claim, error))
            return
        except OSError as error:
            self._write_ending(no_room(self.claim, error))
            return
        if child is None or self.lease.lost:  # lost while the child was being made: nobody else would end it
            return
        self._note_pid(child)
        reporter = Reporter(self.around.engine, self.around.storage, self.claim, self.folder)
        started = time.monotonic()
        self._follow(child, reporter, started)
        if self.lease.lost:
            return
        # The machine's own shutdown may have asked the child before we did.
        self.intent = self.intent or self._wanted(started)
        child.kill()  # helpers that outlived the child would still write into its folder
        settle(reporter, _SETTLE_SECONDS, hopeless=lambda: self.lease.lost or self.lease.cancel)
        if self.lease.cancel:  # it may have come while files waited for their store
            self.intent = "cancel"
        ending = conclude(child, reporter, self.intent, self.claim)
        self._write_ending(ending)

    def _begin(self) -> Child | None:
        """Fetches the inputs and starts the child; None when the lease was lost meanwhile.

        Raises:
            CoreError: an input is missing or damaged, or the store stayed away.
            OSError: this machine cannot run it, e.g. for want of disk space.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        run = self._prepare()
        if run is None:
            return None
        write_run_file(self.folder, json.dumps(run))
        environment = child_environment(self.claim.job_id, self.claim.attempt, self.devices)
        command = self.settings.child_command
        self._child = Child(command, self.folder, environment, self.claim.job_id, self.claim.attempt)
        return self._child

    def _prepare(self) -> dict[str, Any] | None:
        """What run.json says. A store that is away is waited for, as long as nobody wants something else."""
        began = time.monotonic()
        while not self.lease.lost:
            try:
                return prepare(
                    self.claim,
                    self.folder,
                    engine=self.around.engine,
                    storage=self.around.storage,
                    settings=self.settings,
                    threads=self.threads,
                    gpu=bool(self.devices),
                )
            except CoreError as error:
                late = time.monotonic() - began > _PATIENCE
                if error.code != STORE_AWAY or late or self._wanted(began) is not None:
                    raise
                self._log.warning("store is away", error=str(error))
                self.lease.changed.wait(1.0)
                self.lease.changed.clear()
        return None

    def _note_pid(self, child: Child) -> None:
        """For people to look at: a database that is busy right now must not cost the run."""
        try:
            with write_session(self.around.engine) as session:
                set_pid(session, job_id=self.claim.job_id, attempt=self.claim.attempt, pid=child.pid)
        except SQLAlchemyError as error:
            self._log.warning("pid not noted", pid=child.pid, error=str(error))

    def _follow(self, child: Child, reporter: Reporter, started: float) -> None:
        """Until the child has ended or the lease is lost."""
        looked = started
        while child.poll() is None and not self.lease.lost:
            self.lease.changed.wait(self.settings.tick_seconds)
            self.lease.changed.clear()
            now = time.monotonic()
            if now - looked > self.settings.renew_limit_seconds / 2:
                # This process was stopped (or the machine slept): the job may be somebody else's by now.
                self._log.warning("woke up", after=round(now - looked, 1))
                self.lease.renew()
            looked = now
            if self.lease.lost:
                break
            self._drain(reporter, child)
            self._steer(child, started)
            looked = time.monotonic()  # a long upload is no sleep

    def _drain(self, reporter: Reporter, child: Child) -> None:
        """Carry news; a database or store that is away is met with patience, as long as the lease holds."""
        try:
            reporter.drain()
            self._failing_since = None
        except Fenced:
            raise
        except Exception as error:
            now = time.monotonic()
            self._failing_since = self._failing_since or now
            self._log.warning("report failed, trying again", error=str(error))
            if now - self._failing_since > _PATIENCE:
                raise
            self.lease.changed.wait(0.5)

    def _steer(self, child: Child, started: float) -> None:
        """Ask the child to stop when somebody wants that, and end it when it does not listen."""
        wanted = self._wanted(started)
        if wanted is not None and self.intent is None:
            self.intent, self._asked_at = wanted, time.monotonic()
            self._log.info("stopping the run", why=wanted)
            child.ask_to_stop()
        elif wanted == "cancel" and self.intent != "cancel":
            self.intent = "cancel"  # cancelled while pausing or handing back
        if self.intent is not None:
            grace = min(_CANCEL_GRACE, self.settings.grace_seconds)
            grace = grace if self.intent == "cancel" else self.settings.grace_seconds
            if time.monotonic() - self._asked_at > grace:
                self._log.warning("the run did not stop in time: killed", grace=grace)
                child.kill()

    def _wanted(self, started: float) -> Intent | None:
        if self.lease.cancel:
            return "cancel"
        if self.lease.pause:
            return "pause"
        hours = self.claim.max_hours
        if hours is not None and self.claim.device_seconds + time.monotonic() - started > hours * 3600:
            return "time_limit"
        return "release" if self.around.stopping() else None

    def _write_ending(self, ending: Ending) -> None:
        """The end in one transaction; while the database is away, again and again until the lease is gone."""
        while not self.lease.lost:
            try:
                with self.lease.ending(), write_session(self.around.engine) as session:
                    state = ending.write(session)
                self._log.info("attempt ends", state=state, how=ending.describe())
                return
            except (Fenced, CoreError):
                raise
            except Exception as error:
                self._log.warning("end not written, trying again", error=str(error))
                self.lease.changed.wait(1.0)
                self.lease.changed.clear()

    def _kill_now(self) -> None:
        if self._child is not None:
            self._child.kill()
