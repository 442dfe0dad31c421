"""Models by name: what jobs produced, and the aliases that move between versions."""

from __future__ import annotations

from sqlalchemy.orm import Session

from acamkd_core.spec.api import ModelInfo, Page
from acamkd_core.spec.errors import CoreError
from server.auth import repository as audit
from server.auth.service import CallerScope
from server.db.tables import Model
from server.models import repository


def _info(row: Model, aliases: dict[str, list[str]]) -> ModelInfo:
    return ModelInfo(
        id=row.id,
        name=row.name,
        version=row.version,
        aliases=sorted(aliases.get(row.id, [])),
        job=row.job_id,
        arch=row.arch,
        parameters=row.parameters,
        task=row.task,
        classes=row.classes,
        dataset=row.dataset,
        metrics=row.metrics,
        artifact=row.artifact_id,
        weights_digest=row.weights_digest,
        created_at=row.created_at,
    )


def list_models(
    *, session: Session, caller: CallerScope, name: str | None, cursor: str | None, limit: int
) -> Page[ModelInfo]:
    """All versions of all models, newest first."""
    rows, next_cursor, total = repository.list_models(
        session, project_id=caller.project_id, name=name, cursor=cursor, limit=limit
    )
    aliases = repository.aliases(session, project_id=caller.project_id)
    return Page(items=[_info(row, aliases) for row in rows], next_cursor=next_cursor, total=total)


def _find(session: Session, caller: CallerScope, ref: str) -> Model:
    row = repository.get(session, project_id=caller.project_id, ref=ref)
    if row is None:
        raise CoreError("model.not_found", f"there is no model {ref!r}", hint="`acamkd models` lists them", value=ref)
    return row


def get_model(*, session: Session, caller: CallerScope, ref: str) -> ModelInfo:
    """One model by id, name, `name@alias` or `name@version`. Raises CoreError `model.not_found`."""
    row = _find(session, caller, ref)
    return _info(row, repository.aliases(session, project_id=caller.project_id))


def put_alias(*, session: Session, caller: CallerScope, name: str, alias: str, version: int) -> ModelInfo:
    """Moves an alias. Raises CoreError `model.not_found`, `model.alias_reserved`."""
    if alias == "latest":
        raise CoreError("model.alias_reserved", "`latest` always names the newest version", field="alias", value=alias)
    row = _find(session, caller, f"{name}@{version}")
    repository.set_alias(session, model=row, alias=alias)
    audit.record(
        session,
        project_id=caller.project_id,
        actor=caller.actor,
        action="model.alias",
        target=row.id,
        details={"alias": alias, "version": version},
    )
    session.flush()
    return _info(row, repository.aliases(session, project_id=caller.project_id))


def delete_alias(*, session: Session, caller: CallerScope, name: str, alias: str) -> ModelInfo:
    """Takes an alias away. Raises CoreError `model.not_found`, `model.alias_reserved`."""
    if alias == "latest":
        raise CoreError("model.alias_reserved", "`latest` always names the newest version", field="alias", value=alias)
    row = _find(session, caller, f"{name}@{alias}")
    repository.delete_alias(session, project_id=caller.project_id, name=name, alias=alias)
    audit.record(
        session,
        project_id=caller.project_id,
        actor=caller.actor,
        action="model.alias_deleted",
        target=row.id,
        details={"alias": alias},
    )
    session.flush()
    return _info(row, repository.aliases(session, project_id=caller.project_id))
