"""Uploads: a zip as the request's body, received aside, unpacked aside, registered, or gone without a trace."""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from acamkd_core.spec.api import DatasetInfo
from acamkd_core.spec.errors import CoreError
from server.auth.service import CallerScope
from server.context import Context, wants_wake
from server.datasets import repository, service
from server.datasets.unpack import Limits, unpack
from server.db.base import new_id
from server.db.session import read_session, write_session
from server.deps import Caller, get_context

ZIP_TYPES = frozenset({"application/zip", "application/x-zip-compressed", "application/octet-stream"})


async def receive(
    request: Request, caller: Caller, context: Annotated[Context, Depends(get_context)]
) -> AsyncIterator[Path]:
    """The body as a file that lives as long as the request. The caller has been checked before a byte is read.

    Raises:
        CoreError: another media type, too large, or the disk is full.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in ZIP_TYPES:
        raise CoreError("upload.wrong_type", "an upload is a zip, sent as application/zip", field="file")
    limit = context.settings.max_upload_bytes
    declared = request.headers.get("content-length", "0")
    folder = context.settings.uploads_dir
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    path = folder / f".incoming-{new_id()}.zip"
    received = 0
    try:
        with path.open("xb") as file:
            if declared.isascii() and declared.isdigit() and int(declared) > limit:
                raise CoreError(
                    "upload.too_large", f"an upload has at most {limit} bytes", field="file", value=declared
                )
            async for chunk in request.stream():
                received += len(chunk)
                if received > limit:
                    raise CoreError("upload.too_large", f"an upload has at most {limit} bytes", field="file")
                await asyncio.to_thread(file.write, chunk)
        yield path
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CoreError("upload.disk_full", "the disk is full; nothing was kept", field="file") from None
        raise
    finally:
        path.unlink(missing_ok=True)


ReceivedZip = Annotated[Path, Depends(receive, scope="function")]


def upload_dataset(*, context: Context, caller: CallerScope, name: str, archive: Path) -> DatasetInfo:
    """Unpacks and registers an archive.

    The unit of work is opened here, not by the route: files and rows have to go together when the commit fails, and
    unpacking must not hold the database's lock.

    Raises:
        CoreError: `upload.*`, `dataset.name_taken`.
    """
    settings = context.settings
    with read_session(context.engine) as session:
        if repository.get(session, project_id=caller.project_id, ref=name) is not None:
            raise CoreError(
                "dataset.name_taken", f"there is a dataset named {name!r} already", field="name", value=name
            )
    limits = Limits(settings.max_unpacked_files, settings.max_unpacked_bytes, settings.max_unpack_ratio)
    folder = settings.uploads_dir / f"{name}-{new_id()}"
    root = unpack(archive, folder, packed=archive.stat().st_size, limits=limits)
    try:
        with write_session(context.engine) as session:
            info = service.register(session, caller, name=name, format="auto", root=str(root))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if wants_wake(session):
        context.wakeups.wake()
    return info
