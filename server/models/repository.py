"""All SQL about models: what a job produced, versioned by name, with movable aliases."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from server.db.base import new_id
from server.db.tables import Model, ModelAlias, Project


def register(
    session: Session,
    *,
    project_id: str,
    name: str,
    job_id: str,
    artifact_id: str,
    arch: str,
    task: str,
    classes: list[str],
    parameters: int | None = None,
    dataset: str | None = None,
    metrics: dict[str, float] | None = None,
    weights_digest: str | None = None,
) -> Model:
    """Adds the next version under a name and moves the alias `latest`; a job registers at most one: repeats return it."""
    # the project's row serialises two jobs that register under one name (PostgreSQL; SQLite has one writer anyway)
    session.execute(select(Project.id).where(Project.id == project_id).with_for_update())
    known = session.scalars(select(Model).where(Model.job_id == job_id, Model.name == name)).first()
    if known is not None:
        return known
    newest = select(func.max(Model.version)).where(Model.project_id == project_id, Model.name == name)
    row = Model(
        id=new_id(),
        project_id=project_id,
        name=name,
        version=(session.scalar(newest) or 0) + 1,
        job_id=job_id,
        artifact_id=artifact_id,
        arch=arch,
        task=task,
        classes=list(classes),
        parameters=parameters,
        dataset=dataset,
        metrics=metrics or {},
        weights_digest=weights_digest,
    )
    session.add(row)
    session.flush()
    set_alias(session, model=row, alias="latest")
    return row


def get(session: Session, *, project_id: str, ref: str) -> Model | None:
    """A model by id, `name@alias`, `name@version` or `name` (its newest version)."""
    by_id = session.get(Model, ref)
    if by_id is not None:
        return by_id if by_id.project_id == project_id else None
    name, _, wanted = ref.partition("@")
    query = select(Model).where(Model.project_id == project_id, Model.name == name)
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 10:  # longer numbers fit no column
        query = query.where(Model.version == int(wanted))
    elif wanted:
        query = query.join(ModelAlias, ModelAlias.model_id == Model.id).where(ModelAlias.alias == wanted)
    return session.scalars(query.order_by(Model.version.desc()).limit(1)).one_or_none()


def list_models(
    session: Session, *, project_id: str, name: str | None = None, cursor: str | None = None, limit: int = 50
) -> tuple[list[Model], str | None, int]:
    """A page, newest first: rows, next cursor, total."""
    query = select(Model).where(Model.project_id == project_id)
    if name:
        query = query.where(Model.name == name)
    total = session.scalar(select(func.count()).select_from(query.subquery())) or 0
    if cursor:
        query = query.where(Model.id < cursor)
    rows = list(session.scalars(query.order_by(Model.id.desc()).limit(limit + 1)))
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None, total


def aliases(session: Session, *, project_id: str) -> dict[str, list[str]]:
    """Aliases by model id."""
    found: dict[str, list[str]] = {}
    query = select(ModelAlias).where(ModelAlias.project_id == project_id).order_by(ModelAlias.alias)
    for row in session.scalars(query):
        found.setdefault(row.model_id, []).append(row.alias)
    return found


def set_alias(session: Session, *, model: Model, alias: str) -> None:
    """Moves an alias to this version."""
    session.merge(ModelAlias(project_id=model.project_id, name=model.name, alias=alias, model_id=model.id))
    session.flush()


def delete_alias(session: Session, *, project_id: str, name: str, alias: str) -> bool:
    """Takes an alias away; false when there was none."""
    row = session.get(ModelAlias, (project_id, name, alias))
    if row is None:
        return False
    session.delete(row)
    session.flush()
    return True
