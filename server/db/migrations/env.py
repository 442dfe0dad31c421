"""Alembic's entry: runs on the connection that `server.db.migrate` opened (and locked)."""

from typing import Any, Literal

from alembic import context

from server.db import tables  # noqa: F401  (fills the metadata)
from server.db.base import Base, UtcDateTime


def _render(kind: str, item: Any, _autogen: Any) -> str | Literal[False]:
    # migrations outlive the code: they name plain types, never ours
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
    render_item=_render,
    compare_type=True,
    transactional_ddl=True,
)
context.run_migrations()
