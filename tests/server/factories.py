"""Jobs and files for tests, with overrides."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from server.db.base import DEFAULT_PROJECT, new_id
from server.db.session import read_session, write_session
from server.db.tables import Artifact, Job
from server.jobs.repository import Claim, NewJob, claim, create, get


def make_job(engine: Engine, **overrides: Any) -> Job:
    """A queued (or waiting) job, committed."""
    fields: dict[str, Any] = {
        "project_id": DEFAULT_PROJECT,
        "name": f"job-{new_id()}",
        "kind": "distill",
        "submitted": "dataset: scenes\n",
        "spec": {"version": 1},
    }
    with write_session(engine) as session:
        return create(session, new=NewJob(**{**fields, **overrides}))[0]


def claim_one(engine: Engine, **overrides: Any) -> Claim | None:
    """What one worker's slot does when woken."""
    fields: dict[str, Any] = {"worker_id": "w1", "worker_name": "worker one", "gpus": 0}
    with write_session(engine) as session:
        return claim(session, **{**fields, **overrides})


def read_job(engine: Engine, job_id: str) -> Job:
    """The job as it is committed now."""
    with read_session(engine) as session:
        job = get(session, project_id=DEFAULT_PROJECT, ref=job_id)
    assert job is not None
    return job


def make_artifact(session: Session, job_id: str | None, sha256: str, size: int, **more: Any) -> Artifact:
    """The row of a file, inserted."""
    values: dict[str, Any] = {"kind": "export", "name": f"{new_id()}.onnx", "format": "onnx"} | more
    row = Artifact(project_id=DEFAULT_PROJECT, job_id=job_id, sha256=sha256, bytes=size, **values)
    session.add(row)
    session.flush()
    return row
