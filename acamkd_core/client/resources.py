"""Datasets, models, workers and keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from acamkd_core.client.artifacts import Artifact
from acamkd_core.client.transport import Transport
from acamkd_core.spec.api import (
    ApiKeyInfo,
    ArtifactInfo,
    DatasetInfo,
    ModelInfo,
    Page,
    WorkerInfo,
)
from acamkd_core.spec.errors import CoreError

M = TypeVar("M", bound=BaseModel)
_UPLOAD_CHUNK = 1 << 20


def _all(transport: Transport, page_of: type[Page[M]], path: str, **params: object) -> list[M]:
    rows: list[M] = []
    cursor: str | None = None
    while True:
        page = transport.get(page_of, path, cursor=cursor, **params)
        rows += page.items
        cursor = page.next_cursor
        if cursor is None:
            return rows


class Datasets:
    """`client.datasets`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> list[DatasetInfo]:
        """All registered datasets, newest first."""
        return _all(self._transport, Page[DatasetInfo], "/datasets", limit=200)

    def get(self, name: str) -> DatasetInfo:
        """One dataset with its inspection report; `name` or `name@version`."""
        return self._transport.get(DatasetInfo, f"/datasets/{name}")

    def add(
        self,
        name: str,
        path: str | Path,
        *,
        format: str = "auto",
        task: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> DatasetInfo:
        """Registers a folder that the server can see (under one of its roots), and queues its inspection.

        Args:
            format: `auto` detects it.
            task: which labels to take where a folder has several kinds.
            options: further fields of the format, as a job's `dataset` has them.

        Raises:
            ApiError: a path outside the roots, a name that is taken, an option that the format does not have.
        """
        body = {"name": name, "path": str(path), "format": format, "task": task, "options": dict(options or {})}
        return self._transport.send(DatasetInfo, "POST", "/datasets", json=body)

    def upload(
        self, name: str, archive: str | Path, *, progress: Callable[[int, int], None] | None = None
    ) -> DatasetInfo:
        """Sends a zip with a dataset in any format that `auto` detects, and queues its inspection.

        Raises:
            CoreError: `dataset.no_file`.
            ApiError: name taken, too large, not a zip, refused content.
        """
        path = Path(archive).expanduser()
        if not path.is_file():
            raise CoreError("dataset.no_file", f"there is no file {path}", field="archive", value=str(path))
        size = path.stat().st_size

        def chunks() -> Iterator[bytes]:
            done = 0
            with path.open("rb") as file:
                while chunk := file.read(_UPLOAD_CHUNK):
                    yield chunk
                    done += len(chunk)
                    if progress is not None:
                        progress(done, size)

        return self._transport.send(
            DatasetInfo, "POST", "/datasets/upload", params={"name": name}, content=chunks(), timeout=600.0,
            headers={"Content-Type": "application/zip", "Content-Length": str(size)},
        )  # fmt: skip

    def inspect(self, name: str) -> DatasetInfo:
        """Queues another inspection, after files have changed."""
        return self._transport.send(DatasetInfo, "POST", f"/datasets/{name}/inspect")

    def wait(self, name: str, *, timeout: float | None = None) -> DatasetInfo:
        """Blocks until the inspection has ended: `state` is ready or failed. Raises TimeoutError."""
        started = time.monotonic()
        while (info := self.get(name)).state == "inspecting":
            if timeout is not None and time.monotonic() - started > timeout:
                raise TimeoutError(f"dataset {name} is still being inspected after {timeout:g} s")
            time.sleep(0.5)
        return info


class Models:
    """`client.models`: what jobs produced."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, name: str | None = None) -> list[ModelInfo]:
        """All versions of all models (or of one), newest first."""
        return _all(self._transport, Page[ModelInfo], "/models", name=name, limit=200)

    def get(self, ref: str) -> ModelInfo:
        """One model: an id, `name` (newest version), `name@alias` or `name@3`."""
        return self._transport.get(ModelInfo, f"/models/{ref}")

    def alias(self, name: str, alias: str, version: int) -> ModelInfo:
        """Points an alias at a version, away from the version that had it."""
        return self._transport.send(ModelInfo, "PUT", f"/models/{name}/aliases/{alias}", json={"version": version})

    def drop_alias(self, name: str, alias: str) -> ModelInfo:
        """Takes an alias away."""
        return self._transport.send(ModelInfo, "DELETE", f"/models/{name}/aliases/{alias}")

    def file(self, ref: str) -> Artifact:
        """The weights of a model, to be downloaded."""
        info = self._transport.get(ArtifactInfo, f"/artifacts/{self.get(ref).artifact}")
        return Artifact(self._transport, info)


class Workers:
    """`client.workers`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> list[WorkerInfo]:
        """Workers that are online or were seen lately."""
        return self._transport.get(Page[WorkerInfo], "/workers").items


class Keys:
    """`client.keys`: API keys of the caller's project."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> list[ApiKeyInfo]:
        """All keys, without their secrets."""
        return self._transport.get(Page[ApiKeyInfo], "/keys").items

    def create(self, name: str) -> ApiKeyInfo:
        """A new key; `key` holds the secret, in this answer only."""
        return self._transport.send(ApiKeyInfo, "POST", "/keys", json={"name": name})

    def revoke(self, key_id: str) -> ApiKeyInfo:
        """Ends a key for ever."""
        return self._transport.send(ApiKeyInfo, "DELETE", f"/keys/{key_id}")
