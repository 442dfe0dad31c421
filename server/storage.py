"""Content-addressed blobs by SHA-256, on local disk or S3-compatible storage.

A blob is visible only when complete: obstore writes aside and renames, or completes a multipart upload. A blob that
no row names is deleted by `sweep`, and spared while it is young: its row may be about to be written. `put_file`
therefore writes an old blob anew, so that the age of what it returns is known to be small.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, S3Store

from acamkd_core.spec.errors import CoreError
from server.presign import Presigner
from server.settings import Settings

CHUNK = 1024 * 1024
GONE = (NotFoundError, FileNotFoundError)  # obstore raises the built-in one for local files
UNREFERENCED_HOURS = 24.0
RETIRED_SECONDS = 600.0  # a replaced checkpoint may go this soon ...
FRESH_SECONDS = 300.0  # ... because whoever stores the same bytes again renews what is older than this


@dataclass(frozen=True)
class Blob:
    """A stored blob."""

    sha256: str
    size: int
    modified: datetime


class Storage:
    """The artifact store. Methods are safe to call from several threads."""

    def __init__(
        self,
        url: str,
        *,
        endpoint: str | None = None,
        region: str = "us-east-1",
        key_id: str | None = None,
        secret: str | None = None,
        presign: bool = False,
    ) -> None:
        """Args:
        url: `s3://bucket/prefix`, or a folder (`file://` is fine), which is created.
        presign: hand out presigned URLs (S3 with an explicit endpoint and keys only).
        """
        parts = urlsplit(url)
        self._local: Path | None = None
        self._presign: Callable[[str, str, int], str] | None = None
        self._store: Any
        if parts.scheme == "s3":
            # A store that swallows packets must not hold a thread for obstore's three minutes: callers try again.
            client = {"connect_timeout": "3s", "allow_http": bool(endpoint) and str(endpoint).startswith("http://")}
            retries = {"max_retries": 5, "retry_timeout": timedelta(seconds=30)}
            options: dict[str, Any] = {"region": region, "client_options": client, "retry_config": retries}
            if endpoint:
                options |= {"endpoint": endpoint}
            if key_id:
                options |= {"access_key_id": key_id, "secret_access_key": secret or ""}
            prefix = parts.path.strip("/")
            self._store = S3Store(parts.netloc, prefix=prefix or None, **options)
            if presign and endpoint and key_id:
                base = f"{endpoint.rstrip('/')}/{parts.netloc}/{prefix}".rstrip("/")
                signer = Presigner(region=region, key_id=key_id, secret=secret or "")
                self._presign = lambda key, name, seconds: signer.url(f"{base}/{key}", filename=name, seconds=seconds)
        elif parts.scheme in ("", "file"):
            self._local = Path(parts.path if parts.scheme else url).resolve()
            self._local.mkdir(parents=True, exist_ok=True)
            self._store = LocalStore(self._local)
        else:
            raise CoreError("storage.unknown", f"cannot store to {parts.scheme}://", hint="use s3:// or a folder")

    @classmethod
    def from_settings(cls, settings: Settings) -> Storage:
        """The store that the settings name."""
        return cls(
            settings.storage,
            endpoint=settings.storage_endpoint,
            region=settings.storage_region,
            key_id=settings.storage_key_id,
            secret=settings.storage_secret.get_secret_value() if settings.storage_secret else None,
            presign=settings.storage_presign,
        )

    def put_file(self, path: Path) -> tuple[str, int]:
        """Stores a file: (sha256, size). Visible only when complete.

        Raises:
            CoreError: `storage.full` or `storage.failed`; what was stored before is untouched.
        """
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
        known = self._head(sha256)
        young = known is not None and _age(known.modified) < FRESH_SECONDS
        if known is None or known.size != size or not young:
            attributes = None if self._local else {"Content-Disposition": "attachment"}
            try:
                obstore.put(self._store, _key(sha256), path, attributes=attributes)
            except (BaseError, OSError) as error:
                raise _failure(error, f"could not store {path.name} ({size} bytes)") from error
        return sha256, size

    def get_to_file(self, sha256: str, path: Path) -> None:
        """Fetches a blob into a file (written aside, verified, renamed).

        Raises:
            CoreError: `storage.missing`, `storage.corrupt`, `storage.full`, `storage.failed`.
        """
        aside = path.with_name(f".{path.name}.{os.getpid()}.part")
        digest = hashlib.sha256()
        try:
            with aside.open("wb") as file:
                for chunk in self.open_range(sha256):
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            if digest.hexdigest() != sha256:
                raise CoreError("storage.corrupt", f"blob {sha256} does not have the content of its name", value=sha256)
            aside.replace(path)
        except OSError as error:
            raise _failure(error, f"could not write {path.name}") from error
        finally:
            aside.unlink(missing_ok=True)

    def size(self, sha256: str) -> int | None:
        """Bytes of a blob; None when it is not there."""
        blob = self._head(sha256)
        return blob.size if blob is not None else None

    def open_range(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Chunks of bytes [start, end) of a blob. A missing blob is found at the call, not at the first chunk.

        Raises:
            CoreError: `storage.missing`, `storage.failed`.
        """
        size = self.size(sha256)
        if size is None:
            raise _missing(sha256)
        end = size if end is None else min(end, size)
        if start >= end:
            return iter(())
        try:
            answer = obstore.get(self._store, _key(sha256), options={"range": (start, end)})
        except GONE:
            raise _missing(sha256) from None
        except (BaseError, OSError) as error:
            raise _failure(error, "could not read a blob") from error
        return _chunks(answer.stream(min_chunk_size=CHUNK))

    def presigned_url(self, sha256: str, *, filename: str, seconds: int = 600) -> str | None:
        """A URL that downloads the blob as an attachment, without a key; None where the server hands it out itself."""
        if self._presign is None:
            return None
        return self._presign(_key(sha256), filename, seconds)

    def delete(self, sha256: str) -> None:
        """Deletes a blob; a missing one is fine."""
        try:
            obstore.delete(self._store, _key(sha256))
        except GONE:
            return
        except (BaseError, OSError) as error:
            raise _failure(error, "could not delete a blob") from error

    def blobs(self) -> Iterator[Blob]:
        """All blobs."""
        for page in obstore.list(self._store):
            for item in page:
                name = str(item["path"]).rsplit("/", 1)[-1]
                if len(name) == 64:
                    yield Blob(name, int(item["size"]), item["last_modified"])

    def sweep(
        self,
        referenced: Callable[[Collection[str]], set[str]],
        *,
        retired: Collection[str] = (),
        hours: float = UNREFERENCED_HOURS,
    ) -> list[str]:
        """Deletes blobs that nothing names and that are old enough; returns their digests.

        Args:
            referenced: says which of some digests a row still names (its own short transaction).
            retired: digests that lost their row a while ago: these need to be RETIRED_SECONDS old only.
            hours: age from which any other unnamed blob goes.
        """
        limits = dict.fromkeys(retired, RETIRED_SECONDS)
        old = [blob.sha256 for blob in self.blobs() if _age(blob.modified) >= limits.get(blob.sha256, hours * 3600)]
        gone: list[str] = []
        for first in range(0, len(old), 500):
            batch = old[first : first + 500]
            named = referenced(batch)
            for sha256 in batch:
                # looked at once more: somebody may have stored the same bytes again since the listing
                now = None if sha256 in named else self._head(sha256)
                if now is not None and _age(now.modified) >= limits.get(sha256, hours * 3600):
                    self.delete(sha256)
                    gone.append(sha256)
        self._sweep_unfinished(hours)
        return gone

    def _sweep_unfinished(self, hours: float) -> None:
        # a process killed in put_file leaves `<key>#<n>` behind (obstore's name for what it writes aside)
        if self._local is None:
            return
        for part in self._local.glob("*/*#*"):
            if time.time() - part.stat().st_mtime >= hours * 3600:
                part.unlink(missing_ok=True)

    def _head(self, sha256: str) -> Blob | None:
        try:
            meta = obstore.head(self._store, _key(sha256))
        except GONE:
            return None
        except (BaseError, OSError) as error:
            raise _failure(error, "the artifact store does not answer") from error
        return Blob(sha256, int(meta["size"]), meta["last_modified"])


def _chunks(stream: Any) -> Iterator[bytes]:
    for chunk in stream:
        yield bytes(chunk)


def _key(sha256: str) -> str:
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise CoreError("storage.bad_digest", "not a SHA-256 digest", value=sha256[:80])
    return f"{sha256[:2]}/{sha256}"


def _age(modified: datetime) -> float:
    return (datetime.now(UTC) - modified).total_seconds()


def _missing(sha256: str) -> CoreError:
    return CoreError("storage.missing", f"blob {sha256} is not in the artifact store", value=sha256)


def _failure(error: Exception, what: str) -> CoreError:
    text = str(error)
    if "No space left" in text or "os error 28" in text or "os error 122" in text:
        return CoreError("storage.full", f"{what}: no space left", hint="free some space; nothing stored was harmed")
    return CoreError("storage.failed", f"{what}: {text.splitlines()[0][:200] if text else type(error).__name__}")
