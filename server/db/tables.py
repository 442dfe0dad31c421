"""All tables. A row that a user can see carries `project_id`; ids are UUIDv7 text, so ordering by id is by age."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Float, ForeignKey, Index, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from server.db.base import Base, new_id, utcnow


def _id() -> Mapped[str]:
    return mapped_column(primary_key=True, default=new_id)


def _project() -> Mapped[str]:
    return mapped_column(ForeignKey("projects.id"), index=True)


def _job_key() -> Mapped[str]:
    return mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)


class Project(Base):
    """A scope: whoever holds a key of it sees its rows only."""

    __tablename__ = "projects"
    id: Mapped[str] = _id()
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class ApiKey(Base):
    """A key's hash; the key itself is shown once and never stored."""

    __tablename__ = "api_keys"
    id: Mapped[str] = _id()
    project_id: Mapped[str] = _project()
    name: Mapped[str]
    prefix: Mapped[str]
    key_hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Job(Base):
    """One job from submission to its end. `state` is changed by `server.jobs.states` only."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("project_id", "name"),
        UniqueConstraint("project_id", "idempotency_key"),
        CheckConstraint(
            "state IN ('waiting','queued','running','paused','succeeded','failed','cancelled')", name="state"
        ),
        Index("ix_jobs_state_priority_id", "state", "priority", "id"),
    )
    id: Mapped[str] = _id()
    project_id: Mapped[str] = _project()
    name: Mapped[str]
    kind: Mapped[str]
    state: Mapped[str]
    reason: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]  # ErrorInfo
    tags: Mapped[list[Any]] = mapped_column(default=list)
    notes: Mapped[str] = mapped_column(Text, default="")
    submitted: Mapped[str] = mapped_column(Text)  # as the user wrote it
    spec: Mapped[dict[str, Any]]  # resolved; shown as recorded, never re-validated
    origins: Mapped[list[Any]] = mapped_column(default=list)  # FieldOrigin
    summary: Mapped[dict[str, Any]] = mapped_column(default=dict)  # methods, student, teacher, dataset, seed
    inputs: Mapped[dict[str, Any]] = mapped_column(
        default=dict
    )  # "job:x" -> {"job": id}, "model:x@y" -> {"artifact": id}
    dataset_id: Mapped[str | None] = mapped_column(index=True)
    # what it asks for
    priority: Mapped[int] = mapped_column(default=0)
    gpus: Mapped[int] = mapped_column(default=0)
    labels: Mapped[list[Any]] = mapped_column(default=list)
    max_attempts: Mapped[int] = mapped_column(default=3)
    max_hours: Mapped[float | None] = mapped_column(Float)
    retry_of: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"))
    start_checkpoint: Mapped[str | None]  # artifact id: a retry may start from the old job's checkpoint
    # the lease
    attempt: Mapped[int] = mapped_column(default=0)  # number of the current or last attempt; the fence
    lease_beat: Mapped[int] = mapped_column(BigInteger, default=0)
    worker_id: Mapped[str | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    pause_requested: Mapped[bool] = mapped_column(default=False)
    # what it said so far
    event_seq: Mapped[int] = mapped_column(default=0)
    log_seq: Mapped[int] = mapped_column(default=0)
    progress: Mapped[dict[str, Any]] = mapped_column(default=dict)  # ProgressInfo
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)  # latest and final figures
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)  # dataset, profile, pairs, automatic, stage
    alarms: Mapped[int] = mapped_column(default=0)
    idempotency_key: Mapped[str | None]
    body_hash: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    updated_at: Mapped[datetime] = mapped_column(default=utcnow)
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class JobDependency(Base):
    """`job_id` waits until `parent_id` has succeeded."""

    __tablename__ = "job_dependencies"
    job_id: Mapped[str] = _job_key()
    parent_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, index=True)


class Attempt(Base):
    """One try at a job on one worker."""

    __tablename__ = "attempts"
    job_id: Mapped[str] = _job_key()
    number: Mapped[int] = mapped_column(primary_key=True)
    worker_id: Mapped[str | None]
    worker_name: Mapped[str | None]
    pid: Mapped[int | None]
    devices: Mapped[list[Any]] = mapped_column(default=list)
    started_at: Mapped[datetime] = mapped_column(default=utcnow)
    ended_at: Mapped[datetime | None]
    exit: Mapped[str | None]
    reason: Mapped[str | None]
    counted: Mapped[bool] = mapped_column(default=False)
    resumed_from: Mapped[int | None]
    last_checkpoint: Mapped[int | None]


class JobEvent(Base):
    """What happened, in order. Of `progress`, `metrics` and `log` only the newest row of a job is kept."""

    __tablename__ = "job_events"
    __table_args__ = (Index(None, "job_id", "kind", "seq"),)
    job_id: Mapped[str] = _job_key()
    seq: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    attempt: Mapped[int] = mapped_column(default=0)
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class MetricPoint(Base):
    """One number. NULL stands for a value that was not finite."""

    __tablename__ = "metric_points"
    __table_args__ = ({"sqlite_with_rowid": False},)
    job_id: Mapped[str] = _job_key()
    name: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    value: Mapped[float | None] = mapped_column(Float(53))
    attempt: Mapped[int]


class JobLog(Base):
    """One line of a job's log."""

    __tablename__ = "job_logs"
    job_id: Mapped[str] = _job_key()
    n: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    time: Mapped[datetime]
    level: Mapped[str]
    text: Mapped[str] = mapped_column(Text)


class Artifact(Base):
    """A visible file: its blob is complete in the store before this row exists."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("job_id", "kind", "name"),)
    id: Mapped[str] = _id()
    project_id: Mapped[str] = _project()
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    kind: Mapped[str]
    name: Mapped[str]
    format: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(index=True)
    iteration: Mapped[int | None]
    attempt: Mapped[int | None]
    verified: Mapped[bool | None]
    is_best: Mapped[bool] = mapped_column(default=False)
    is_last: Mapped[bool] = mapped_column(default=False)
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class RetiredBlob(Base):
    """A blob that lost a row (a replaced checkpoint): the sweeper may take it before the usual 24 hours."""

    __tablename__ = "retired_blobs"
    sha256: Mapped[str] = mapped_column(primary_key=True)
    retired_at: Mapped[datetime] = mapped_column(default=utcnow)


class Panel(Base):
    """A picture of the run page."""

    __tablename__ = "panels"
    job_id: Mapped[str] = _job_key()
    iteration: Mapped[int] = mapped_column(primary_key=True)
    image: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifacts.id", ondelete="CASCADE"), index=True)
    caption: Mapped[str] = mapped_column(Text, default="")
    stats: Mapped[dict[str, Any]] = mapped_column(default=dict)
    attempt: Mapped[int]


class Dataset(Base):
    """A registered dataset; `version` is the digest that its inspection found."""

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: Mapped[str] = _id()
    project_id: Mapped[str] = _project()
    name: Mapped[str]
    version: Mapped[str | None]
    format: Mapped[str]
    root: Mapped[str]
    state: Mapped[str] = mapped_column(default="inspecting")
    task: Mapped[str | None]
    classes: Mapped[list[Any]] = mapped_column(default=list)
    ignore_id: Mapped[int | None]
    images: Mapped[dict[str, Any]] = mapped_column(default=dict)
    options: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")  # further fields of the format
    errors: Mapped[int] = mapped_column(default=0)
    warnings: Mapped[int] = mapped_column(default=0)
    report: Mapped[dict[str, Any]] = mapped_column(default=dict)
    contact_sheet: Mapped[str | None]  # artifact id
    inspect_job: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Model(Base):
    """A model that a job produced."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("project_id", "name", "version"),)
    id: Mapped[str] = _id()
    project_id: Mapped[str] = _project()
    name: Mapped[str]
    version: Mapped[int]
    job_id: Mapped[str | None] = mapped_column(index=True)
    arch: Mapped[str]
    parameters: Mapped[int | None] = mapped_column(BigInteger)
    task: Mapped[str]
    classes: Mapped[list[Any]] = mapped_column(default=list)
    dataset: Mapped[str | None]
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    artifact_id: Mapped[str] = mapped_column(ForeignKey("artifacts.id"), index=True)
    weights_digest: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class ModelAlias(Base):
    """A movable name of one version, e.g. `champion`."""

    __tablename__ = "model_aliases"
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), index=True)


class Worker(Base):
    """A worker process and its slots. Whether it lives is read from `seen_at` for display only; leases are the truth."""

    __tablename__ = "workers"
    id: Mapped[str] = _id()
    name: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    state: Mapped[str] = mapped_column(default="online")
    slots: Mapped[int]
    devices: Mapped[list[Any]] = mapped_column(default=list)
    labels: Mapped[list[Any]] = mapped_column(default=list)
    versions: Mapped[dict[str, Any]] = mapped_column(default=dict)
    cpu_percent: Mapped[float | None] = mapped_column(Float)
    memory_mb: Mapped[float | None] = mapped_column(Float)
    started_at: Mapped[datetime] = mapped_column(default=utcnow)
    seen_at: Mapped[datetime] = mapped_column(default=utcnow)


class AuditEntry(Base):
    """Who did what."""

    __tablename__ = "audit_log"
    id: Mapped[str] = _id()
    project_id: Mapped[str] = _project()
    actor: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
