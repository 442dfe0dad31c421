"""Files of a run into the artifact store: checkpoints, panels, exports. First the whole blob, then its row.

A row that exists points at a blob that is complete; a kill in between leaves a blob without a row, which the sweeper
takes. So a checkpoint counts exactly when its row is committed under the fence.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.events import CheckpointEvent, ExportEvent, PanelEvent
from server.artifacts import repository as artifacts
from server.db.session import write_session
from server.jobs.repository import Claim
from server.storage import Storage

log = structlog.get_logger("worker.uploads")
FileEvent = PanelEvent | CheckpointEvent | ExportEvent
# What another try would not change. Anything else that a store says means that it is away, and may come back.
_FINAL = frozenset({"storage.full", "worker.path_outside"})
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


class Uploads:
    """What an attempt has announced and the store does not have yet, in order.

    Attributes:
        failure: why an export could not be stored, if one could not: such a run must not end as a success.
        lineage: what every exported file is told to come from, beside its numbers.
        notes: (level, text) for the job's own log: whoever reads it should know what is not kept, and why.
    """

    def __init__(self, engine: Engine, storage: Storage, claim: Claim, folder: Path) -> None:
        self._engine, self._storage, self._claim, self._folder = engine, storage, claim, folder.resolve()
        self.pending: list[FileEvent] = []
        self.failure: CoreError | None = None
        self.notes: list[tuple[str, str]] = []
        self._pause, self._not_before = _FIRST_PAUSE, 0.0
        self.exports: dict[str, str] = {}  # file name -> artifact id
        self.contact_sheet: str | None = None
        self.last_checkpoint: int | None = None
        self.lineage: dict[str, Any] = {}

    def add(self, event: FileEvent) -> None:
        """Take an announced file. A newer checkpoint makes older ones not worth uploading, except the best."""
        if isinstance(event, CheckpointEvent):
            self.pending = [
                old
                for old in self.pending
                if not isinstance(old, CheckpointEvent) or (old.is_best and not event.is_best)
            ]
        self.pending.append(event)

    def run(self) -> None:
        """Upload what is pending, one file and one short transaction at a time.

        A store that is away costs nothing but time: training goes on, and the files wait in the attempt's folder for
        the next call after a pause that doubles.

        Raises:
            Fenced: the attempt is over.
        """
        while self.pending and time.monotonic() >= self._not_before:
            event = self.pending[0]
            try:
                self._store(event)
                self._pause = _FIRST_PAUSE
            except CoreError as error:
                if error.code not in _FINAL:
                    self._wait(event, error)
                    return
                # A full store costs this file, never the last good checkpoint: that one has its row already.
                self._drop(event, error)
            except FileNotFoundError:
                log.warning("announced file is gone", job=self._claim.job_id, path=event.path)
            self.pending.pop(0)

    def give_up(self) -> None:
        """The run has ended and the store is still away: what waits is lost."""
        error = CoreError("storage.unavailable", "the artifact store did not come back", hint="see /readyz")
        for event in self.pending:
            self._drop(event, error)
        self.pending.clear()

    def _wait(self, event: FileEvent, error: CoreError) -> None:
        log.warning("store is away", job=self._claim.job_id, path=event.path, error=str(error), again_in=self._pause)
        if self._pause == _FIRST_PAUSE:
            self.notes.append(("warning", f"{event.path} waits: {error.info.message}"))
        self._not_before = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _drop(self, event: FileEvent, error: CoreError) -> None:
        log.error("file not stored", job=self._claim.job_id, path=event.path, error=str(error))
        self.notes.append(("error", f"{event.path} is not kept: {error}"))
        if isinstance(event, ExportEvent):
            self.failure = error

    def _store(self, event: FileEvent) -> None:
        path = (self._folder / event.path).resolve()
        if not path.is_relative_to(self._folder):
            raise CoreError("worker.path_outside", "the run announced a file outside its folder", value=event.path)
        sha256, size = self._storage.put_file(path)
        with write_session(self._engine) as session:
            match event:
                case PanelEvent():
                    self._panel_row(session, event, sha256, size)
                case CheckpointEvent():
                    self._checkpoint_row(session, event, sha256, size)
                case ExportEvent():
                    self._export_row(session, event, sha256, size, path.name)

    def _panel_row(self, session: Session, event: PanelEvent, sha256: str, size: int) -> None:
        artifacts.add_panel(
            session,
            job_id=self._claim.job_id,
            attempt=self._claim.attempt,
            sha256=sha256,
            size=size,
            **event.model_dump(include={"iteration", "image", "kind", "index", "caption", "stats"}),
        )

    def _checkpoint_row(self, session: Session, event: CheckpointEvent, sha256: str, size: int) -> None:
        artifacts.add_checkpoint(
            session,
            job_id=self._claim.job_id,
            attempt=self._claim.attempt,
            sha256=sha256,
            size=size,
            **event.model_dump(include={"iteration", "is_best", "is_last", "metrics"}),
        )
        self.last_checkpoint = event.iteration

    def _export_row(self, session: Session, event: ExportEvent, sha256: str, size: int, name: str) -> None:
        sheet = self._claim.kind == "inspect" and event.format == "png"
        kind = "report" if sheet else "bundle" if event.format == "zip" else "export"
        row = artifacts.add(
            session,
            job_id=self._claim.job_id,
            attempt=self._claim.attempt,
            kind=kind,
            name=name,
            format=event.format,
            sha256=sha256,
            size=size,
            verified=event.verified,
            details={"gate": event.gate, "weights_digest": event.weights_digest, **self.lineage},
        )
        self.exports[name] = row.id
        if sheet:
            self.contact_sheet = row.id
