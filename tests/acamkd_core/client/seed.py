"""Rows as a worker writes them, through the server's own repositories."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from acamkd_core.spec.errors import ErrorInfo
from server.artifacts import repository as artifacts
from server.db.session import make_engine, write_session
from server.jobs.repository import Claim, Report, write_report
from server.jobs.repository.lease import finish
from server.settings import Settings
from server.storage import Storage
from tests.server.factories import claim_one


class Attempt:
    """A running attempt on the next queued job of a data folder."""

    def __init__(self, data: Path) -> None:
        self.settings = Settings(data_dir=data)
        self.engine: Engine = make_engine(self.settings.database)
        claim = claim_one(self.engine)
        assert claim is not None
        self.claim: Claim = claim

    def report(self, **fields: object) -> None:
        with write_session(self.engine) as session:
            write_report(session, job_id=self.claim.job_id, attempt=self.claim.attempt, report=Report(**fields))  # type: ignore[arg-type]

    def export(self, path: Path, *, kind: str, format: str, verified: bool | None) -> None:
        sha256, size = Storage.from_settings(self.settings).put_file(path)
        with write_session(self.engine) as session:
            artifacts.add(
                session, job_id=self.claim.job_id, attempt=self.claim.attempt, kind=kind, name=path.name,
                format=format, sha256=sha256, size=size, verified=verified,
            )  # fmt: skip

    def succeed(self) -> None:
        self.end("succeeded", "done")

    def end(self, state: str, reason: str, error: ErrorInfo | None = None) -> None:
        with write_session(self.engine) as session:
            finish(
                session, job_id=self.claim.job_id, attempt=self.claim.attempt, state=state, reason=reason, error=error
            )
        self.engine.dispose()
