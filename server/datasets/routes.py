"""Datasets: registered by path, or uploaded as a zip; inspected by a job of their own."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from acamkd_core.spec.api import DatasetCreate, DatasetInfo, Page
from server.context import Context
from server.datasets import service, upload
from server.datasets.upload import ReceivedZip
from server.deps import Caller, Config, ReadSession, WriteSession, get_context
from server.errors import documented

router = APIRouter(prefix="/datasets", tags=["datasets"], responses=documented(401, 422))


@router.get("")
def list_datasets(
    session: ReadSession,
    caller: Caller,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[DatasetInfo]:
    """Registered datasets, newest first."""
    return service.list_datasets(session=session, caller=caller, cursor=cursor, limit=limit)


@router.post("", status_code=201, responses=documented(409))
def create_dataset(body: DatasetCreate, session: WriteSession, caller: Caller, config: Config) -> DatasetInfo:
    """Registers a folder under a configured root and queues its inspection."""
    return service.create_dataset(session=session, caller=caller, config=config, request=body)


@router.post(
    "/upload",
    status_code=201,
    responses=documented(409, 413, 415),
    max_body_size=1 << 50,  # counted while it is received, against the settings
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "A zip with a dataset in any format that `auto` detects, below one folder or not.",
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
def upload_dataset(
    archive: ReceivedZip,
    caller: Caller,
    context: Annotated[Context, Depends(get_context)],
    name: Annotated[str, Query(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$", description="Name of the dataset.")],
) -> DatasetInfo:
    """Registers a zip, sent as the body, and queues its inspection. A refused archive leaves nothing behind."""
    return upload.upload_dataset(context=context, caller=caller, name=name, archive=archive)


@router.get("/{name}", responses=documented(404))
def get_dataset(name: str, session: ReadSession, caller: Caller) -> DatasetInfo:
    """One dataset with its inspection report; `name` or `name@version`."""
    return service.get_dataset(session=session, caller=caller, name=name)


@router.post("/{name}/inspect", responses=documented(404, 409))
def inspect_dataset(name: str, session: WriteSession, caller: Caller) -> DatasetInfo:
    """Inspects the folder again, after its files have changed."""
    return service.inspect_again(session=session, caller=caller, name=name)
