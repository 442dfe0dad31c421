"""The server as its own process, as `acamkd up` starts it; and the committed OpenAPI document."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.server.api.conftest import World
from tests.server.factories import make_job

ROOT = Path(__file__).resolve().parents[3]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def assert_soon(server: psutil.Process) -> None:
    """The first answer costs little more than the libraries behind it: 1.4 times on the machine where this was written,
    where that is 1.3 s. Processor time, because a test must not depend on what else the machine does."""
    used = sum(server.cpu_times()[:2])
    before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    libraries = "import fastapi, uvicorn, sqlalchemy.orm, pydantic_settings, httpx"
    subprocess.run([sys.executable, "-c", libraries], check=True, timeout=120)
    assert used < 2.5 * (sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before)


@pytest.mark.serial
def test_it_answers_soon_and_stops_at_once_with_open_streams(world: World) -> None:
    make_job(world.context.engine, name="open")
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "server.app:serve_app", "--factory", "--port", str(port)]
    environment = os.environ | {"ACAMKD_DATA_DIR": str(world.context.settings.data_dir), "ACAMKD_LOG_JSON": "1"}
    log = world.roots / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=file, stdout=file)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            try:
                if httpx.get(f"{url}/healthz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        assert_soon(psutil.Process(process.pid))
        secret = httpx.post(f"{url}/api/v1/keys", json={"name": "k"}, timeout=60).json()["key"]
        with httpx.stream("GET", f"{url}/api/v1/events?jobs=open", timeout=20) as response:
            lines = response.iter_lines()
            assert any(line.startswith("data:") for line in lines)
            process.send_signal(signal.SIGTERM)
            list(lines)  # the stream ends in order, not by a broken connection
            process.wait(60)  # uvicorn's own patience with open streams has no end
    finally:
        process.kill()
        process.wait()
    assert secret not in log.read_text()
    events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert any(event["event"] == "request" and event["path"] == "/healthz" for event in events)
    (ready,) = [event for event in events if event["event"] == "server ready"]
    assert (ready["database"], ready["broker"], ready["keys_required"]) == ("sqlite", False, False)
    (made,) = [event for event in events if event["event"] == "key.create"]
    (asked,) = [event for event in events if event.get("path") == "/api/v1/keys"]
    assert (made["actor"], made["request_id"]) == ("local", asked["request_id"])  # who did what, and in which request


def test_the_committed_openapi_document_is_the_code_s(world: World) -> None:
    committed = json.loads((ROOT / "frontend" / "openapi.json").read_text())
    document = world.client.app.openapi()  # type: ignore[attr-defined]
    assert json.loads(json.dumps(document)) == committed, "run: python -m server.openapi > frontend/openapi.json"


def test_every_error_in_the_document_is_a_problem(world: World) -> None:
    document = world.client.get("/api/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    refusals = 0
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if path.startswith("/api") and status[0] in "45":
                    assert list(response["content"]) == ["application/problem+json"], (path, status)
                    refusals += 1
    assert refusals > 60
    names = [operation["operationId"] for operations in document["paths"].values() for operation in operations.values()]
    assert len(set(names)) == len(names)


def test_the_form_schema_draws_one_field_an_option(world: World) -> None:
    schema = world.client.get("/api/v1/schema/job").json()
    text = json.dumps(schema)
    assert '{"type": "null"}' not in text
    assert "prefixItems" not in text
    for name, definition in schema["$defs"].items():
        for tag in ("method", "family", "format"):
            if "const" in (field := definition.get("properties", {}).get(tag, {})):
                assert "default" not in field, name
                assert tag in definition["required"], name
    catalog = world.client.get("/api/v1/catalog").json()
    assert {"acam", "logit", "feature_mse", "cwd", "pkd", "mgd"} <= {method["name"] for method in catalog["methods"]}
    assert all(method["description"] and method["options"]["properties"] for method in catalog["methods"])
    # parameter counts by hand (MobileNetV2 DeepLabV3 variants at 19 classes)
    counts = {preset["name"]: preset["parameters"] for preset in catalog["presets"]}
    assert counts["deeplabv3-mobilenet_v2-3.2m"] == 3_233_171


def test_the_dashboard_falls_back_to_its_index(tmp_path: Path) -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from server.dashboard import mount

    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<html>")
    (tmp_path / "assets" / "a.js").write_text("1")
    (tmp_path.parent / "outside.txt").write_text("secret")
    app = FastAPI()
    mount(app, tmp_path)
    client = TestClient(app)
    assert client.get("/runs/brave-otter?tab=masks").text == "<html>"
    assert client.get("/assets/a.js").headers["cache-control"].endswith("immutable")
    assert client.get("/assets/b.js").status_code == 404
    assert client.get("/api/v1/nope").status_code == 404
    assert "secret" not in client.get("/..%2foutside.txt").text
