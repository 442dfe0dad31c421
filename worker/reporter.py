"""What a child says, carried into the database and the artifact store, fenced by its attempt."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from acamkd_core.spec import events as ev
from acamkd_core.spec.programs import program_of
from server.db.session import write_session
from server.jobs.repository import Claim, Report, write_report
from server.storage import Storage
from worker.checkpoints import Uploads
from worker.tail import Tail

log = structlog.get_logger("worker.reporter")

_MOST_LOG_LINES = 20_000  # of one attempt: a library that prints every step must not fill the database
_LINE_LENGTH = 2_000


class Reporter:
    """Follows `events.jsonl` and `log.txt` of one attempt.

    A batch that could not be written stays pending and goes with the next one; every row is an upsert or carries the
    attempt, so that writing again after a kill changes nothing.
    """

    def __init__(self, engine: Engine, storage: Storage, claim: Claim, folder: Path) -> None:
        self._engine, self._claim = engine, claim
        self._events = Tail(folder / "events.jsonl")
        self._log = Tail(folder / "log.txt")
        self._log_lines = 0
        self._last_lines: list[str] = []
        self._report = Report()
        self._something = False
        self.uploads = Uploads(engine, storage, claim, folder)
        self.profile: dict[str, dict[str, Any]] = {}
        self.dataset: dict[str, Any] = {}
        self.inspection: dict[str, Any] | None = None
        self.result: ev.ResultEvent | None = None

    def drain(self) -> bool:
        """Take what is there and write it. Returns whether there was anything.

        Raises:
            Fenced: the attempt is over; nothing of this batch was written.
        """
        lines = self._events.lines()
        for line in lines:
            self._take(line)
        more = bool(lines) | self._take_log()
        if self._something:
            with write_session(self._engine) as session:
                write_report(session, job_id=self._claim.job_id, attempt=self._claim.attempt, report=self._report)
            self._report, self._something = Report(), False
        self.uploads.run()
        for level, text in self.uploads.notes:
            self._add_log(level, text)
        self.uploads.notes.clear()
        return more or self._something

    def last_log(self, count: int = 12) -> str:
        """The end of the child's own output, for a crash without a result."""
        return "\n".join(self._last_lines[-count:])

    def _take_log(self) -> bool:
        lines = self._log.lines()
        now = datetime.now(UTC)
        for raw in lines:
            text = raw.decode("utf-8", errors="replace").rstrip()[:_LINE_LENGTH]
            if not text:
                continue
            self._last_lines = [*self._last_lines[-50:], text]
            self._log_lines += 1
            if self._log_lines == _MOST_LOG_LINES:
                text = f"more than {_MOST_LOG_LINES} lines: the rest is not kept"
            if self._log_lines <= _MOST_LOG_LINES:
                self._add_log("info", text, now)
        return bool(lines)

    def _add_log(self, level: str, text: str, when: datetime | None = None) -> None:
        self._report.logs.append((when or datetime.now(UTC), level, text))
        self._something = True

    def _take(self, line: bytes) -> None:
        try:
            event = ev.parse_event(line)
        except ValidationError:
            log.warning("a line of events.jsonl is no event", job=self._claim.job_id, line=line[:200])
            return
        self._something = True
        match event:
            case ev.MetricsEvent():
                self._report.points += [(name, event.iteration, value) for name, value in event.values.items()]
            case ev.ProgressEvent():
                self._on_progress(event)
            case ev.EvaluationEvent():
                self._on_evaluation(event)
            case ev.StageEvent():
                self._report.progress = {**(self._report.progress or {}), "stage": event.stage}
                self._add_log("info", f"stage {event.stage} {event.detail}".rstrip(), _when(event))
            case ev.ResolvedEvent():
                self._report.spec = event.spec
                self.dataset = event.dataset
                if (program := program_of(event.spec, ran=True)) is not None:
                    self.uploads.lineage = {"teacher_program": program.model_dump()}
                self._report.facts |= {"dataset": event.dataset, "pairs": event.pairs, "automatic": event.automatic}
            case ev.ProfileEvent():
                self.profile[event.role] = event.model_dump(mode="json", exclude={"type", "time", "role"})
                self._report.facts["profile"] = dict(self.profile)
            case ev.RewoundEvent():
                self._event("attempt", {"number": event.attempt, "iteration": event.iteration, "rewound": True})
                self._add_log("info", f"rewound to step {event.iteration} (attempt {event.attempt})", _when(event))
            case ev.AlarmEvent():
                self._event("alarm", event.model_dump(mode="json"))
                self._add_log(event.severity, event.info.message, _when(event))
            case ev.LogEvent():
                self._add_log(event.level, event.message, _when(event))
            case ev.PanelEvent() | ev.CheckpointEvent() | ev.ExportEvent():
                self.uploads.add(event)
            case ev.InspectionEvent():
                self.inspection = event.report
            case ev.ResultEvent():
                self.result = event

    def _event(self, kind: str, data: dict[str, Any]) -> None:
        self._report.events.append((kind, data))

    def _on_progress(self, event: ev.ProgressEvent) -> None:
        fields = event.model_dump(mode="json", exclude={"type", "time"})
        fields["reported_at"] = _when(event).isoformat()
        self._report.progress = {**(self._report.progress or {}), **fields}
        self._report.points.append(("time/device_seconds", event.iteration, event.device_seconds))

    def _on_evaluation(self, event: ev.EvaluationEvent) -> None:
        self._event("evaluation", event.model_dump(mode="json"))
        if event.role == "teacher":
            self._report.metrics |= {f"teacher/{name}": value for name, value in event.metrics.items()}
            return
        scores = {f"{event.split}/{name}": value for name, value in event.metrics.items()}
        self._report.metrics |= scores
        if event.is_best:
            self._report.metrics |= {f"best/{name}": value for name, value in event.metrics.items()}
        self._report.points += [(name, event.iteration, value) for name, value in scores.items()]
        self._report.points += [
            (f"{event.split}/iou/{name}", event.iteration, value) for name, value in event.per_class.items()
        ]


def _when(event: ev.Event) -> datetime:
    return datetime.fromtimestamp(event.time, UTC)


def write_run_file(folder: Path, content: str) -> None:
    """Write run.json whole or not at all: the child must never read half of it."""
    aside = folder / "run.json.tmp"
    with aside.open("w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(folder / "run.json")


def settle(reporter: Reporter, seconds: float, *, hopeless: Callable[[], bool] = lambda: False) -> None:
    """Drain until the files hold nothing new: the child is gone, so this ends.

    A database or store that is away is tried again for `seconds`. Then the database's error is raised, and files that
    still wait are given up: an export among them makes the run fail. `hopeless` ends the patience at once.
    """
    deadline = time.monotonic() + seconds
    while True:
        late = time.monotonic() > deadline or hopeless()
        try:
            if not reporter.drain() and not reporter.uploads.pending:
                return
        except (OSError, SQLAlchemyError):
            if late:
                raise
            time.sleep(0.5)
        if reporter.uploads.pending:
            if late:
                reporter.uploads.give_up()
            time.sleep(0.2)
