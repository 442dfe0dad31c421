"""The door, keys, other projects, and what every answer carries. Anonymous first, then another project."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from acamkd_core.spec.errors import CoreError
from server.app import require_a_key
from server.db.base import DEFAULT_PROJECT, new_id
from server.db.session import write_session
from server.db.tables import Artifact
from server.models import repository as models
from server.security import host_name
from tests.server.api.conftest import World
from tests.server.factories import make_job

API = "/api/v1"
JOB = {"dataset": "scenes", "student": "mobile_deeplabv3", "schedule": {"iterations": 10}, "name": "mine"}


def routes(world: World) -> list[tuple[str, str]]:
    """Every operation of the document, with made-up ids."""
    document = world.client.app.openapi()  # type: ignore[attr-defined]
    found = []
    for path, operations in document["paths"].items():
        for part in ("job", "name", "ref", "artifact_id", "key_id", "alias"):
            path = path.replace("{" + part + "}", "x1")
        found += [(method.upper(), path) for method in operations]
    return found


# What each operation would accept, so that nothing but the key is wrong with a request.
BODIES: dict[str, Any] = {
    f"POST {API}/jobs": {"json": JOB},
    f"POST {API}/datasets": {"json": {"name": "x1", "path": "x1"}},
    f"POST {API}/datasets/upload": {
        "params": {"name": "x1"},
        "content": b"PK",
        "headers": {"content-type": "application/zip"},
    },
    f"POST {API}/keys": {"json": {"name": "k"}},
    f"PUT {API}/models/x1/aliases/x1": {"json": {"version": 1}},
    f"PATCH {API}/jobs/x1": {"json": {}},
    f"GET {API}/compare": {"params": {"jobs": "x1"}},
    f"GET {API}/events": {"params": {"jobs": "x1"}},
}


def test_every_route_refuses_the_anonymous_where_keys_are_required(locked: World) -> None:
    checked = 0
    for method, path in routes(locked):
        if not path.startswith(API):
            assert locked.client.request(method, path).status_code == 200  # health says nothing of users
            continue
        answer = locked.client.request(method, path, **BODIES.get(f"{method} {path}", {}))
        assert answer.status_code == 401, (method, path, answer.text)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["code"] == "auth.unauthorized"
        checked += 1
    assert checked >= 28


def test_every_route_with_a_name_in_it_is_a_404_for_another_project(world: World) -> None:
    """One of each kind of thing, asked for by its owner and by a stranger with a valid key."""
    assert world.client.post(f"{API}/jobs", json=JOB).status_code == 201
    (world.roots / "data").mkdir()
    world.client.post(f"{API}/datasets", json={"name": "mine", "path": "data"})
    key_id = world.client.post(f"{API}/keys", json={"name": "k"}).json()["id"]
    (world.roots / "file").write_bytes(b"weights")
    sha256, size = world.context.blobs.put_file(world.roots / "file")
    with write_session(world.context.engine) as session:
        file = Artifact(
            project_id=DEFAULT_PROJECT, kind="export", name="m.onnx", format="onnx", sha256=sha256, bytes=size
        )
        session.add(file)
        session.flush()
        model = models.register(
            session, project_id=DEFAULT_PROJECT, name="mine", job_id=new_id(), artifact_id=file.id, arch="a", task="t",
            classes=[],
        )  # fmt: skip
        models.set_alias(session, model=model, alias="champion")
    stranger, asked = world.stranger(), 0
    document = world.client.app.openapi()  # type: ignore[attr-defined]
    for template, operations in document["paths"].items():
        if "{" not in template or template == f"{API}/recipes/{{name}}":  # recipes are everybody's
            continue
        names = {"artifact_id": file.id, "key_id": key_id, "alias": "champion"}
        path = re.sub(r"\{(\w+)\}", lambda match, names=names: names.get(match[1], "mine"), template)
        for method in operations:
            body = {"json": {"version": 1}} if method == "put" else {"json": {}} if method == "patch" else {}
            answer = world.client.request(method.upper(), path, headers=stranger, **body)
            assert answer.status_code == 404, (method, path, answer.text)
            if method == "get":
                assert world.client.get(path).status_code == 200, path
            asked += 1
    assert asked >= 22
    assert world.client.get(f"{API}/models/mine@champion").json()["aliases"] == ["champion", "latest"]
    assert world.client.get(f"{API}/jobs/mine").json()["state"] == "queued"


def test_with_a_key_it_answers_and_a_revoked_key_does_not(locked: World) -> None:
    headers = {"Authorization": f"Bearer {locked.key()}"}
    assert locked.client.get(f"{API}/jobs", headers=headers).status_code == 200
    made = locked.client.post(f"{API}/keys", json={"name": "ci"}, headers=headers)
    assert made.status_code == 201
    secret = made.json()["key"]
    listed = locked.client.get(f"{API}/keys", headers=headers)
    assert secret not in listed.text
    files = [path.read_bytes() for path in locked.context.settings.data_dir.glob("acamkd.db*")]
    assert any(made.json()["id"].encode() in content for content in files)
    assert not any(secret.encode() in content for content in files)  # only its hash is kept
    other = {"Authorization": f"Bearer {secret}"}
    assert locked.client.get(f"{API}/jobs", headers=other).status_code == 200
    assert locked.client.delete(f"{API}/keys/{made.json()['id']}", headers=headers).status_code == 200
    assert locked.client.get(f"{API}/jobs", headers=other).status_code == 401


def test_a_key_opens_although_its_use_cannot_be_noted(locked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody holds SQLite's write lock: one request of a key waits for it, the others do not even try."""
    headers = {"Authorization": f"Bearer {locked.key()}"}
    tried: list[str] = []

    def note(session: Session, *, key_id: str) -> None:
        tried.append(key_id)
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    monkeypatch.setattr("server.auth.repository.touch_key", note)
    assert [locked.client.get(f"{API}/jobs", headers=headers).status_code for _ in range(3)] == [200] * 3
    assert len(tried) == 1
    monkeypatch.undo()
    locked.context.key_use.__init__()  # type: ignore[misc]  # a minute later
    assert locked.client.get(f"{API}/keys", headers=headers).json()["items"][0]["last_used_at"] is not None


def test_a_wrong_key_is_refused_on_loopback_too(world: World) -> None:
    for value in ("Bearer acamkd_wrong", "Basic YTpi", "Bearer", ""):
        assert world.client.get(f"{API}/jobs", headers={"Authorization": value}).status_code == 401
    assert world.client.get(f"{API}/jobs").status_code == 200


def test_another_project_sees_nothing_and_changes_nothing(world: World) -> None:
    assert world.client.post(f"{API}/jobs", json=JOB).status_code == 201
    (world.roots / "data").mkdir()
    assert world.client.post(f"{API}/datasets", json={"name": "data", "path": "data"}).status_code == 201
    key_id = world.client.post(f"{API}/keys", json={"name": "k"}).json()["id"]
    stranger = world.stranger()
    job = world.client.get(f"{API}/jobs/mine").json()["id"]
    for ref in ("mine", job):
        for path in ("", "/spec", "/metrics", "/logs", "/panels", "/panels/index", "/artifacts", "/attempts"):
            assert world.client.get(f"{API}/jobs/{ref}{path}", headers=stranger).status_code == 404
        for action in ("cancel", "pause", "resume", "retry", "clone"):
            assert world.client.post(f"{API}/jobs/{ref}/{action}", headers=stranger).status_code == 404
        assert world.client.patch(f"{API}/jobs/{ref}", json={"notes": "x"}, headers=stranger).status_code == 404
        assert world.client.get(f"{API}/compare?jobs={ref}", headers=stranger).status_code == 404
        assert world.client.get(f"{API}/events?jobs={ref}", headers=stranger).status_code == 404
    assert world.client.get(f"{API}/datasets/data", headers=stranger).status_code == 404
    assert world.client.delete(f"{API}/keys/{key_id}", headers=stranger).status_code == 404
    for listing in ("jobs", "datasets", "models"):
        assert world.client.get(f"{API}/{listing}", headers=stranger).json()["total"] == 0
    teacher = JOB | {"name": "thief", "teacher": "job:mine", "distill": "logit"}
    refused = world.client.post(f"{API}/jobs", json=teacher, headers=stranger)
    assert [problem["code"] for problem in refused.json()["problems"]] == ["teacher.unknown"]
    detail = world.client.get(f"{API}/jobs/mine").json()
    assert (detail["state"], detail["notes"]) == ("queued", "")


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil:8080", "", "127.0.0.1@evil", "a b"]
)
def test_foreign_hosts_are_refused(world: World, host: str) -> None:
    answer = world.client.get(f"{API}/jobs", headers={"Host": host})
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:9", "LOCALHOST"])
def test_own_hosts_are_served(world: World, host: str) -> None:
    assert world.client.get("/healthz", headers={"Host": host}).status_code == 200


def test_host_names_are_parsed_strictly() -> None:
    assert host_name("[::1]:80") == "::1"
    assert host_name("Lab.Example.:443") == "lab.example"
    assert host_name("a:b") is None


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "http://127.0.0.1:9999", "null", "http://localhost:8080", "file://"]
)
def test_foreign_origins_are_refused_and_nothing_happens(world: World, origin: str) -> None:
    answer = world.client.post(f"{API}/jobs", json=JOB, headers={"Origin": origin})
    assert answer.status_code == 403
    assert world.client.get(f"{API}/jobs").json()["total"] == 0


def test_own_and_listed_origins_are_served(make_world: Callable[..., World]) -> None:
    world = make_world(allowed_origins=("https://lab.example",), allowed_hosts=("lab.example",))
    for origin in ("http://127.0.0.1:8080", "https://lab.example"):
        assert world.client.get(f"{API}/jobs", headers={"Origin": origin}).status_code == 200
    assert world.client.get("/healthz", headers={"Host": "lab.example"}).status_code == 200


def test_every_answer_carries_the_headers(world: World) -> None:
    for path, host in (("/healthz", None), (f"{API}/jobs", None), (f"{API}/nope", None), ("/", None), ("/", "evil")):
        headers = world.client.get(path, headers={"Host": host} if host else {}).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "unsafe-eval'" not in headers["content-security-policy"].replace("wasm-unsafe-eval'", "")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert len(headers["x-request-id"]) == 32


def test_a_request_id_is_kept_only_when_it_is_plain(world: World) -> None:
    assert world.client.get("/healthz", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert world.client.get("/healthz", headers={"X-Request-Id": "a b\t{}"}).headers["x-request-id"] != "a b\t{}"


def test_large_bodies_are_refused(world: World) -> None:
    big = world.client.post(f"{API}/jobs", content=b" " * 1_000_001, headers={"content-type": "application/json"})
    assert (big.status_code, big.json()["code"]) == (413, "request.too_large")
    patch = world.client.patch(f"{API}/jobs/x", content=b" " * 3_000_000, headers={"content-type": "application/json"})
    assert patch.status_code == 413
    assert patch.headers["content-type"] == "application/problem+json"


def test_a_bug_says_nothing_of_the_inside(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def boom(**_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("server.jobs.service.list_jobs", boom)
    answer = world.client.get(f"{API}/jobs")
    assert (answer.status_code, answer.json()["code"]) == (500, "server.error")
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"]


def test_logs_are_json_lines_with_the_request_id() -> None:
    code = (
        "from server import logs\nlogs.configure(json_lines=True)\nimport structlog, logging\n"
        "with structlog.contextvars.bound_contextvars(request_id='r1'):\n"
        "    structlog.get_logger('a').info('request', path='/x')\n"
        "    try:\n        secret = 'hunter2'; 1 / 0\n"
        "    except ZeroDivisionError:\n        logging.getLogger('b').exception('failed')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    first, second = [json.loads(line) for line in done.stderr.splitlines()]
    assert (first["event"], first["path"], first["request_id"], first["level"]) == ("request", "/x", "r1", "info")
    assert (second["event"], second["request_id"], second["level"]) == ("failed", "r1", "error")
    assert "ZeroDivisionError" in second["exception"]


def test_a_bind_beyond_loopback_needs_a_key_to_start(make_world: Callable[..., World]) -> None:
    world = make_world(host="0.0.0.0")
    with pytest.raises(CoreError, match="needs an API key"):
        require_a_key(world.context)
    world.key()
    require_a_key(world.context)
    assert world.client.get(f"{API}/jobs").status_code == 401


def test_the_server_imports_no_torch_and_no_worker() -> None:
    code = (
        "import sys, server.app\n"
        "bad = {'torch', 'torchvision', 'numpy', 'PIL', 'worker', 'cli', 'acamkd_core.engine'} & set(sys.modules)\n"
        "assert not bad, bad\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_bad_rows_never_reach_another_project(world: World) -> None:
    """A job made by a worker-side path is found by its owner only, whatever its name looks like."""
    job = make_job(world.context.engine, name="ghost")
    assert world.client.get(f"{API}/jobs/ghost").status_code == 200
    assert world.client.get(f"{API}/jobs/{job.id}", headers=world.stranger()).status_code == 404
