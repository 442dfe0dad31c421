"""Files of a job, and their download: resumed where it broke, verified, and visible only when whole."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from acamkd_core.client.errors import Unreachable
from acamkd_core.client.transport import Transport, backoff
from acamkd_core.spec.api import ArtifactInfo
from acamkd_core.spec.errors import CoreError

CHUNK = 1 << 20
TRIES = 6


class Artifact:
    """One file in the artifact store. `info` is what the server says of it."""

    def __init__(self, transport: Transport, info: ArtifactInfo) -> None:
        self._transport = transport
        self.info = info

    def __repr__(self) -> str:
        return f"<Artifact {self.info.name} {self.info.bytes} bytes verified={self.info.verified}>"

    @property
    def name(self) -> str:
        """File name."""
        return self.info.name

    @property
    def verified(self) -> bool | None:
        """Whether the export passed its gate; None where there is no gate for its format."""
        return self.info.verified

    def download(self, to: str | Path = ".", *, progress: Callable[[int, int], None] | None = None) -> Path:
        """Fetches the file; an interrupted download goes on where it stopped, also in a later call.

        Args:
            to: a folder (existing, or with a trailing slash), or the file's path.
            progress: called with (bytes there, bytes in all).

        Returns:
            Where the file lies. It appears there only after its SHA-256 was checked.

        Raises:
            CoreError: `download.corrupt` when the bytes are not the recorded ones, `download.disk`.
            ApiError, Unreachable: as everywhere.
        """
        target = self._target(to)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_file() and _sha256(target) == self.info.sha256:
                return target
            # Named by its content, so that a part of another version is never continued.
            part = target.with_name(f".{target.name}.{self.info.sha256[:12]}.part")
            self._fetch(part, progress)
            os.replace(part, target)
        except OSError as error:
            raise CoreError(
                "download.disk", f"{target} cannot be written: {error.strerror or error}", value=str(target)
            ) from None
        return target

    def _target(self, to: str | Path) -> Path:
        path = Path(to).expanduser()
        # Only the last part of a name counts: a server must not choose where its files go.
        name = Path(self.info.name.replace("\\", "/")).name or "download"
        return path / name if path.is_dir() or str(to).endswith(("/", os.sep)) else path

    def _fetch(self, part: Path, progress: Callable[[int, int], None] | None) -> None:
        total, attempt = self.info.bytes, 0
        with part.open("a+b") as file:
            if file.seek(0, os.SEEK_END) > total:
                file.truncate(0)
            while (start := file.seek(0, os.SEEK_END)) < total:
                try:
                    self._continue(file, start, progress)
                except Unreachable:
                    if file.seek(0, os.SEEK_END) > start:
                        attempt = 0  # it moves: patience is for standstill
                    attempt += 1
                    if attempt >= TRIES:
                        raise
                    time.sleep(backoff(attempt))
            file.flush()
            os.fsync(file.fileno())
        if _sha256(part) != self.info.sha256:
            part.unlink()
            raise CoreError(
                "download.corrupt",
                f"{self.info.name} did not arrive as it was recorded (SHA-256 differs)",
                hint="download it again",
                value=self.info.sha256,
            )

    def _continue(self, file: BinaryIO, start: int, progress: Callable[[int, int], None] | None) -> None:
        # Compressed transfer would make byte positions meaningless.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with self._transport.stream(f"/artifacts/{self.info.id}/download", headers=headers) as response:
            if response.status_code != 206 and start:
                file.truncate(0)  # the whole file comes
                start = 0
            done = start
            for chunk in response.iter_bytes(CHUNK):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, self.info.bytes)
            if done < self.info.bytes:
                raise Unreachable(self._transport.url, f"the connection ended at byte {done} of {self.info.bytes}")


class Artifacts(Mapping[str, Artifact]):
    """A job's files by format (`onnx`, `safetensors`), by `bundle`, by file name or by id; the newest of each wins."""

    def __init__(self, transport: Transport, infos: list[ArtifactInfo]) -> None:
        self.all = [Artifact(transport, info) for info in infos]
        self._by_key: dict[str, Artifact] = {}
        for one in sorted(self.all, key=lambda artifact: artifact.info.created_at):
            if one.info.kind in ("export", "bundle"):
                self._by_key["bundle" if one.info.kind == "bundle" else one.info.format] = one

    def __getitem__(self, key: str) -> Artifact:
        if key in self._by_key:
            return self._by_key[key]
        for one in reversed(self.all):
            if key in (one.info.name, one.info.id):
                return one
        raise KeyError(f"no artifact {key!r}; there are: {', '.join(self._by_key) or 'none yet'}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_key)

    def __len__(self) -> int:
        return len(self._by_key)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
