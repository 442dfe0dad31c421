"""Downloads: interrupted, resumed, verified."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import threading
from pathlib import Path

import pytest

from acamkd_core.client import Client
from acamkd_core.client.artifacts import Artifacts
from acamkd_core.spec.errors import CoreError
from tests.acamkd_core.client.seed import Attempt
from tests.cli.running import TINY, RunningServer

SIZE = 3_000_000


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    return random.Random(5).randbytes(SIZE)


@pytest.fixture
def files(client: Client, server: RunningServer, tmp_path: Path, content: bytes) -> Artifacts:
    job = client.jobs.create(TINY)
    attempt = Attempt(server.data)
    source = tmp_path / "bundle.zip"
    source.write_bytes(content)
    attempt.export(source, kind="bundle", format="zip", verified=True)
    attempt.succeed()
    return job.artifacts


class CuttingProxy:
    """Passes bytes to the server, and cuts each of the first connections after so many bytes."""

    def __init__(self, port: int, *, cut_after: int, cuts: int) -> None:
        self.target, self.cut_after, self.cuts = port, cut_after, cuts
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self._pass, args=(near, far, None), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, self.cut_after), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed = 0
        try:
            while data := source.recv(65536):
                passed += len(data)
                if limit is not None and self.cuts > 0 and passed > limit:
                    self.cuts -= 1
                    break
                sink.sendall(data)
        except OSError:
            pass
        for one in (source, sink):
            # Closing alone sends nothing while the other thread still reads from it: the client would wait for its timeout.
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def test_a_broken_download_goes_on_where_it_stopped(
    files: Artifacts, server: RunningServer, tmp_path: Path, content: bytes
) -> None:
    proxy = CuttingProxy(server.port, cut_after=1_200_000, cuts=2)
    with Client(proxy.url) as through:
        artifact = through.jobs.page(limit=1).items[0]
        steps: list[int] = []
        bundle = through.jobs.get(artifact.id).artifacts["bundle"]
        path = bundle.download(f"{tmp_path}/out/", progress=lambda done, total: steps.append(done))
    proxy.listener.close()
    assert proxy.cuts == 0
    assert path == tmp_path / "out" / "bundle.zip"
    assert path.read_bytes() == content
    assert steps == sorted(steps)  # no byte came twice
    assert [entry.name for entry in path.parent.iterdir()] == ["bundle.zip"]


def test_a_part_from_an_earlier_call_is_used(files: Artifacts, tmp_path: Path, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    part = tmp_path / f".copy.zip.{digest[:12]}.part"
    part.write_bytes(content[:2_000_000])
    steps: list[int] = []
    path = files["bundle"].download(tmp_path / "copy.zip", progress=lambda done, total: steps.append(done))
    assert path.read_bytes() == content
    assert steps[0] > 2_000_000
    assert not part.exists()
    stamp = path.stat().st_mtime_ns
    assert files["bundle"].download(path).stat().st_mtime_ns == stamp  # whole already: not fetched again


def test_wrong_bytes_never_become_the_file(files: Artifacts, tmp_path: Path, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / f".copy.zip.{digest[:12]}.part").write_bytes(b"x" * 1000)
    with pytest.raises(CoreError) as raised:
        files["bundle"].download(tmp_path / "copy.zip")
    assert raised.value.code == "download.corrupt"
    assert not (tmp_path / "copy.zip").exists()
    assert files["bundle"].download(tmp_path / "copy.zip").read_bytes() == content


def test_files_by_name_and_a_helpful_miss(files: Artifacts) -> None:
    assert files["bundle.zip"].info.id == files["bundle"].info.id == files[files["bundle"].info.id].info.id
    assert files["bundle"].verified is True
    with pytest.raises(KeyError, match="there are: bundle"):
        files["onnx"]
