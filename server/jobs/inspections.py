"""Inspections that the server queues by itself, for registered datasets."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy.orm import Session

from acamkd_core.spec.datasets import FOLDER_FORMATS
from acamkd_core.spec.job import InspectSpec
from acamkd_core.spec.origins import count_given, resolve
from server.auth.service import CallerScope
from server.context import wake_after_commit
from server.db.tables import Dataset, Job
from server.jobs import names, repository

PRIORITY = 10  # a person waits for the answer, and it takes seconds


def queue_inspection(session: Session, caller: CallerScope, *, dataset: Dataset, again: bool = False) -> Job:
    """Inserts the job that inspects a dataset's folder; `again` decodes every file whatever report a worker has kept."""
    kind = dataset.format if dataset.format in FOLDER_FORMATS else "auto"
    folder = {**dataset.options, "format": kind, "root": dataset.root}
    submitted: dict[str, Any] = {"kind": "inspect", "dataset": folder}
    if dataset.task is not None:  # asked for at registration, or what the last inspection found
        submitted["task"] = dataset.task
    if again:
        submitted["again"] = True
    base = f"inspect-{dataset.name}"[:72]
    free = not repository.names_taken(session, project_id=caller.project_id, names=[base])
    name = base if free else names.successor_name(session, caller.project_id, base)
    spec = InspectSpec.model_validate(submitted).model_copy(update={"name": name})
    resolved, origins = resolve(spec, automatic_paths=frozenset({"name"}))
    job, _ = repository.create(
        session,
        new=repository.NewJob(
            project_id=caller.project_id,
            name=name,
            kind="inspect",
            submitted=json.dumps(submitted),
            spec=resolved,
            origins=[origin.model_dump(mode="json") for origin in origins],
            summary={"dataset": dataset.name, "given": count_given(submitted)},
            dataset_id=dataset.id,
            priority=PRIORITY,
        ),
    )
    session.flush()
    wake_after_commit(session)
    return job
