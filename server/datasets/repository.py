"""All SQL about datasets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from acamkd_core.spec.errors import CoreError
from server.db.base import new_id
from server.db.tables import Dataset


def create(
    session: Session,
    *,
    project_id: str,
    name: str,
    format: str,
    root: str,
    inspect_job: str | None = None,
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Dataset:
    """Registers a dataset as `inspecting`. Raises CoreError `dataset.name_taken`."""
    row = Dataset(
        id=new_id(), project_id=project_id, name=name, format=format, root=root, inspect_job=inspect_job, task=task,
        options=dict(options or {}),
    )  # fmt: skip
    try:
        with session.begin_nested():
            session.add(row)
            session.flush()
    except IntegrityError:
        raise CoreError(
            "dataset.name_taken", f"there is a dataset named {name!r} already", field="name", value=name
        ) from None
    return row


def get(session: Session, *, project_id: str, ref: str) -> Dataset | None:
    """A dataset by id or name."""
    query = select(Dataset).where(Dataset.project_id == project_id, or_(Dataset.id == ref, Dataset.name == ref))
    return session.scalars(query.order_by(Dataset.id).limit(1)).one_or_none()


def list_datasets(
    session: Session, *, project_id: str, cursor: str | None = None, limit: int = 50
) -> tuple[list[Dataset], str | None, int]:
    """A page, newest first: rows, next cursor, total."""
    query = select(Dataset).where(Dataset.project_id == project_id)
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    if cursor:
        query = query.where(Dataset.id < cursor)
    rows = list(session.scalars(query.order_by(Dataset.id.desc()).limit(limit + 1)))
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None, total


def all_roots(session: Session) -> list[str]:
    """Folders of all registrations, over all projects."""
    return list(session.scalars(select(Dataset.root)))


def delete(session: Session, *, dataset: Dataset) -> None:
    """Forgets a registration; files are not touched here."""
    session.delete(dataset)
    session.flush()


def set_inspect_job(session: Session, *, dataset_id: str, job_id: str) -> None:
    """Notes the job that (re-)inspects a dataset, and sets it to `inspecting`."""
    row = session.get_one(Dataset, dataset_id)
    row.inspect_job, row.state = job_id, "inspecting"


def apply_inspection(session: Session, *, inspect_job: str, report: dict[str, Any], contact_sheet: str | None) -> None:
    """Fills a dataset from the report of its inspect job: `ready`, or `failed` when the report has errors. A job that
    belongs to no registered dataset changes nothing.

    Args:
        report: an `InspectionReport`: digest, task, classes, ignore_id, splits, findings (each with severity).
    """
    row = _of_job(session, inspect_job)
    if row is None:
        return
    severities = [str(finding.get("severity")) for finding in report.get("findings", [])]
    row.report, row.contact_sheet = report, contact_sheet
    row.errors, row.warnings = severities.count("error"), severities.count("warning")
    row.version = report.get("digest") or report.get("version")
    row.format = report.get("format") or row.format
    row.task = report.get("task")
    row.classes = list(report.get("classes") or [])
    row.ignore_id = report.get("ignore_id")
    row.images = {split["role"]: split["images"] for split in report.get("splits") or []}
    row.state = "failed" if row.errors else "ready"


def fail_inspection(session: Session, *, inspect_job: str) -> None:
    """The inspect job ended without a report."""
    row = _of_job(session, inspect_job)
    if row is not None and row.state == "inspecting":
        row.state = "failed"


def _of_job(session: Session, inspect_job: str) -> Dataset | None:
    query = select(Dataset).where(Dataset.inspect_job == inspect_job).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).one_or_none()
