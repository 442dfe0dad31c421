"""The fleet of docker-compose.yml as processes: real PostgreSQL, real Valkey, a real S3-compatible store, the real
engine; two workers that share nothing but those."""

from __future__ import annotations

import hashlib
import json
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store
from safetensors.numpy import load_file

from acamkd_core.client.errors import ApiError
from acamkd_core.client.job import Job
from tests.fleet.fleet import SECRETS, SERVICES, Fleet, until
from tests.services import S3
from worker.processes import processes_of

pytestmark = pytest.mark.serial
on_postgresql = pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)
TINY: dict[str, Any] = {
    "dataset": {"format": "scenes", "train_images": 16, "val_images": 8, "test_images": 8, "size": [32, 48]},
    "student": {"arch": {"family": "deeplabv3", "width": 0.25, "output_stride": 16, "aspp_channels": 16}},
    "schedule": {"iterations": 6},
    "batch": {"global_size": 4},
    "evaluation": {"every": 3, "panels": 1},
    "exports": ["safetensors"],
}


@pytest.fixture
def fleet(tmp_path: Path, empty_database_url: str, s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """Everything but the workers, up and with a key in `fleet.key`."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = Fleet(tmp_path, database=empty_database_url, s3=s3)
    try:
        made.start_broker()
        yield made
    finally:
        made.close()


def bring_up(fleet: Fleet, workers: tuple[str, ...], **settings: str) -> str:
    """The order of the compose file: migrate, a first key, the server, the workers. Returns the key."""
    migrated = fleet.once("migrate")
    assert migrated.returncode == 0, migrated.stderr
    refused = fleet.once("server")
    assert refused.returncode != 0
    assert "needs an API key" in refused.stderr
    assert "Traceback" not in refused.stderr
    key = fleet.once("server", ["acamkd", "keys", "create", "admin"]).stdout.strip()
    fleet.start("server")
    for name in workers:
        fleet.start("worker-cpu", name, **settings)
    fleet.wait_for_server()
    return key


def submit(fleet: Fleet, key: str, name: str, **changes: Any) -> Job:
    job = fleet.client(key).jobs.create({**TINY, "name": name, **changes})
    fleet.jobs.append(job.id)
    return job


def wait(fleet: Fleet, job: Job, seconds: float = 240) -> Job:
    try:
        job.wait(timeout=seconds)
    except TimeoutError as error:
        raise AssertionError(f"{error}\n{fleet.log()}") from None
    assert job.state == "succeeded", f"{job.info.reason} {job.info.error}\n{fleet.log()}"
    return job


def stored(s3: S3, sha256: str) -> bytes:
    """A blob, read from the store itself."""
    keys = {"access_key_id": s3.key_id, "secret_access_key": s3.secret, "region": "us-east-1"}
    store = S3Store(s3.bucket, endpoint=s3.endpoint, client_options={"allow_http": True}, **keys)
    return bytes(obstore.get(store, f"artifacts/{sha256[:2]}/{sha256}").bytes())


@on_postgresql
def test_from_an_empty_database_to_a_verified_download(fleet: Fleet, s3: S3, tmp_path: Path) -> None:
    # what compose asks the store when it waits for it
    (line,) = SERVICES["store"]["healthcheck"]["test"][1:]
    path = re.search(r"http://127\.0\.0\.1:8333(/\S*)", line)
    assert path is not None
    assert urllib.request.urlopen(f"{s3.endpoint}{path[1]}", timeout=5).status == 200

    key = bring_up(fleet, ("a", "b"), poll_seconds="3")
    client = fleet.client(key)
    with pytest.raises(ApiError) as anonymous:
        fleet.client(None).jobs.list()
    assert anonymous.value.status == 401
    assert client.health().status == "ready"
    until(lambda: {worker.name for worker in client.workers.list()} == {"a", "b"}, 60)

    # the bell is gone: a job is accepted, says where it stands, and starts by polling
    fleet.kill("valkey")
    begun = time.monotonic()
    job = submit(fleet, key, "unheard")
    assert job.submitted is not None
    assert job.submitted.state == "queued"
    assert time.monotonic() - begun < 30  # not the minutes of a client that insists
    health = client.health()
    assert health.status == "degraded"
    assert (health.checks["database"], health.checks["storage"]) == ("ok", "ok")
    wait(fleet, job)
    assert [attempt.exit for attempt in job.attempts()] == ["succeeded"]
    fleet.start_broker()
    until(lambda: client.health().status == "ready", 120)

    file = job.artifacts["safetensors"]
    path_there = file.download(tmp_path / "out/")
    content = path_there.read_bytes()
    assert hashlib.sha256(content).hexdigest() == file.info.sha256
    assert stored(s3, file.info.sha256) == content
    assert len(load_file(path_there)) > 50
    assert not (tmp_path / "server" / "blobs").exists()

    # a worker signs off in order, and nobody's log tells a secret
    fleet.running["a"].terminate()
    assert fleet.running["a"].wait(120) == 0, fleet.log()
    until(lambda: {worker.name for worker in client.workers.list() if worker.state == "online"} == {"b"}, 60)
    logs = "".join(log.read_text(errors="replace") for log in tmp_path.glob("*.log"))
    assert not [secret for secret in (*SECRETS.values(), s3.secret, key) if secret in logs]
    lines = [json.loads(line) for line in (tmp_path / "server.log").read_text().splitlines() if line.startswith("{")]
    assert any(line["event"] == "request" and line.get("status") == 201 for line in lines)


@pytest.mark.long
@pytest.mark.timeout(600)
@on_postgresql
def test_another_host_takes_over_with_the_same_numbers(fleet: Fleet) -> None:
    """kill -9 of the worker that trains, with the intervals of production: the other one has nothing but the store."""
    key = bring_up(fleet, ("a", "b"))
    client = fleet.client(key)
    run: dict[str, Any] = {
        "schedule": {"iterations": 160},
        "checkpoint": {"every": 20},
        "evaluation": {"every": 80, "panels": 1},
    }
    run |= {"augment": {"scale": [0.5, 1.5], "crop": [32, 32], "flip": 0.5, "colour": 0.3}}
    disturbed = submit(fleet, key, "disturbed", **run)
    until(lambda: any(one.last_checkpoint for one in disturbed.attempts()), 240)
    first = disturbed.attempts()[-1]
    assert disturbed.refresh().state == "running"
    assert first.worker is not None
    fleet.kill(first.worker)
    begun = time.monotonic()
    until(lambda: len(disturbed.attempts()) == 2, 60)
    assert time.monotonic() - begun < 60
    alone = submit(fleet, key, "alone", **run)
    wait(fleet, disturbed)
    wait(fleet, alone)

    lost, second = disturbed.attempts()
    assert (lost.exit, second.exit) == ("lost", "succeeded")
    assert {lost.worker, second.worker} == {"a", "b"}
    assert second.resumed_from == lost.last_checkpoint
    assert second.resumed_from > 0  # type: ignore[operator]
    assert [one.worker for one in alone.attempts()] == [second.worker]
    digests = {name: client.models.get(name).weights_digest for name in ("disturbed", "alone")}
    assert digests["disturbed"]
    assert digests["disturbed"] == digests["alone"]
    names = [name for name in disturbed.metric_names() if not name.startswith("time/")]
    assert {"loss/total", "val/miou", "test/miou"} <= set(names)
    for name in names:
        one, other = disturbed.metrics(name), alone.metrics(name)
        assert (one.x, one.y) == (other.x, other.y), name
    assert processes_of(disturbed.id) == []
