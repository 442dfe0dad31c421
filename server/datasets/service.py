"""Datasets: registered under a name, inspected by a job, shown with their report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from acamkd_core.spec.api import DatasetCreate, DatasetInfo, Page
from acamkd_core.spec.datasets import folder_dataset
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.tasks import TaskName
from server.auth import repository as audit
from server.auth.service import CallerScope
from server.datasets import repository
from server.db.tables import Dataset
from server.jobs.inspections import queue_inspection
from server.paths import inside_roots
from server.settings import Settings


def dataset_info(row: Dataset) -> DatasetInfo:
    """A row as its read model."""
    return DatasetInfo.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "version": row.version,
            "format": row.format,
            "root": row.root,
            "state": row.state,
            "task": row.task,
            "classes": row.classes,
            "ignore_id": row.ignore_id,
            "images": row.images,
            "options": row.options,
            "errors": row.errors,
            "warnings": row.warnings,
            "report": row.report,
            "contact_sheet": row.contact_sheet,
            "inspect_job": row.inspect_job,
            "created_at": row.created_at,
        }
    )


def list_datasets(*, session: Session, caller: CallerScope, cursor: str | None, limit: int) -> Page[DatasetInfo]:
    """Datasets of the project, newest first."""
    rows, next_cursor, total = repository.list_datasets(
        session, project_id=caller.project_id, cursor=cursor, limit=limit
    )
    return Page(items=[dataset_info(row) for row in rows], next_cursor=next_cursor, total=total)


def _find(session: Session, caller: CallerScope, name: str) -> Dataset:
    bare, _, version = name.partition("@")
    row = repository.get(session, project_id=caller.project_id, ref=bare)
    if row is None or (version and not (row.version or "").startswith(version)):
        raise CoreError("dataset.not_found", f"there is no dataset {name!r}", value=name)
    return row


def get_dataset(*, session: Session, caller: CallerScope, name: str) -> DatasetInfo:
    """One dataset by name or `name@version`. Raises CoreError `dataset.not_found`."""
    return dataset_info(_find(session, caller, name))


def register(
    session: Session,
    caller: CallerScope,
    *,
    name: str,
    format: str,
    root: str,
    task: TaskName | None = None,
    options: Mapping[str, Any] | None = None,
) -> DatasetInfo:
    """Adds a row and queues its inspection. Raises CoreError `dataset.name_taken`."""
    row = repository.create(
        session, project_id=caller.project_id, name=name, format=format, root=root, task=task, options=options
    )
    job = queue_inspection(session, caller, dataset=row)
    repository.set_inspect_job(session, dataset_id=row.id, job_id=job.id)
    session.flush()
    audit.record(session, project_id=caller.project_id, actor=caller.actor, action="dataset.create", target=row.id)
    return dataset_info(row)


def create_dataset(*, session: Session, caller: CallerScope, config: Settings, request: DatasetCreate) -> DatasetInfo:
    """Registers a folder.

    Raises:
        CoreError: outside the roots, missing, no folder, name taken.
        SpecInvalid: options that the format does not have.
    """
    root = inside_roots(request.path, config, field="path", kind="folder")
    if not root.is_dir():
        raise CoreError("dataset.not_a_folder", "a dataset is a folder", field="path", value=request.path)
    folder_dataset(request.format, str(root), request.options)  # refuses what the format does not have
    return register(
        session, caller, name=request.name, format=request.format, root=str(root), task=request.task, options=request.options
    )  # fmt: skip


def inspect_again(*, session: Session, caller: CallerScope, name: str) -> DatasetInfo:
    """Queues another inspection.

    Raises:
        CoreError: `dataset.not_found`; `inspection.conflict` while one is under way.
    """
    row = _find(session, caller, name)
    if row.state == "inspecting":
        raise CoreError("inspection.conflict", f"dataset {name!r} is being inspected already", value=row.inspect_job)
    job = queue_inspection(session, caller, dataset=row, again=True)
    repository.set_inspect_job(session, dataset_id=row.id, job_id=job.id)
    session.flush()
    return dataset_info(row)
