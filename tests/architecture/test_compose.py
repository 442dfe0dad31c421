"""docker-compose.yml and the Dockerfiles against the code: what they name must exist, and no secret may be in them.

tests/fleet runs the same commands and settings as processes.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from cli.main import app
from server.settings import LOOPBACK, Settings
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
WORKERS = ("worker-cpu", "worker-gpu")
DOCKERFILES = [ROOT / "server" / "Dockerfile", ROOT / "worker" / "Dockerfile"]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")


def commands_of(dockerfile: Path) -> list[list[str]]:
    """The words of a Dockerfile's lines, `COPY --from=...` among them."""
    return [shlex.split(line) for line in dockerfile.read_text().splitlines() if line and line[0] != "#"]


def test_the_fleet_is_complete() -> None:
    assert set(SERVICES) == {"postgres", "valkey", "store", "migrate", "server", *WORKERS}
    assert set(OURS) == {"migrate", "server", *WORKERS}
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    (device,) = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert SERVICES["worker-cpu"]["environment"]["ACAMKD_DEVICES"] == "cpu"
    named = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert {name for name in named if name.isalpha()} == set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_one_of_acamkd(name: str) -> None:
    program, command = OURS[name]["command"]
    assert program in PROJECT["scripts"]
    assert command == name.split("-")[0]
    assert command in typer.main.get_command(app).commands  # type: ignore[attr-defined]
    dockerfile = ROOT / OURS[name]["build"]["context"] / OURS[name]["build"]["dockerfile"]
    assert dockerfile in DOCKERFILES
    for one in ("CMD", "ENTRYPOINT"):
        for words in re.findall(rf"^{one} (.+)$", dockerfile.read_text(), re.M):
            assert yaml.safe_load(words)[0] == "acamkd"


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting(name: str) -> None:
    known = set((WorkerSettings if name in WORKERS else Settings).model_fields)
    set_here = [key for key in OURS[name]["environment"] if key.startswith("ACAMKD_")]
    named = {key.removeprefix("ACAMKD_").lower() for key in set_here}
    assert named <= known
    # `.env` is handed in too, and may not decide where things are
    assert {"data_dir", "database_url", "broker_url", "storage_url", "storage_endpoint", "dataset_roots"} <= named
    assert OURS[name]["environment"]["ACAMKD_DATA_DIR"] == "/data"


def test_server_and_workers_see_the_same_folders_of_the_host() -> None:
    seen = {name: SERVICES[name]["volumes"] for name in ("server", *WORKERS)}
    assert len(set(map(tuple, seen.values()))) == 1
    data, *folders = seen["server"]
    assert data == "data:/data"
    for folder, inside in zip(folders, ("/datasets", "/programs"), strict=True):
        found = re.fullmatch(r"\$\{([A-Z]+):-(.+?)\}:(.+):ro", folder)
        assert found is not None, "what jobs read is read-only"
        assert (example()[found.group(1)], found.group(3)) == (found.group(2), inside)
    # Mounted, and still off: an administrator has to say so.
    assert example()["ACAMKD_CODE_ROOTS"] == ""
    assert not any("ACAMKD_CODE_ROOTS" in service["environment"] for service in OURS.values())


def test_only_the_server_is_published_and_only_on_loopback() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service or "network_mode" in service] == ["server"]
    (published,) = SERVICES["server"]["ports"]
    default = re.fullmatch(r"\$\{PUBLISH:-([\d.]+):\d+\}:(\d+)", published)
    assert default is not None
    assert default.group(1) in LOOPBACK
    assert default.group(2) == SERVICES["server"]["environment"]["ACAMKD_PORT"]
    assert example()["PUBLISH"].startswith(default.group(1))
    # inside its container it listens beyond loopback: that alone makes keys required
    assert Settings(host=SERVICES["server"]["environment"]["ACAMKD_HOST"]).keys_required


def test_order_health_and_privileges() -> None:
    for name, service in SERVICES.items():
        # ours that stay up have theirs in the Dockerfile
        assert "healthcheck" in service or name in OURS, name
    for name in ("server", *WORKERS):
        needs = {part: need["condition"] for part, need in SERVICES[name]["depends_on"].items()}
        healthy = dict.fromkeys(("postgres", "valkey", "store"), "service_healthy")
        assert needs == {**healthy, "migrate": "service_completed_successfully"}
        assert SERVICES[name]["restart"] == "unless-stopped"
    for service in OURS.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    grace = WorkerSettings().grace_seconds + 30  # what the worker takes at most to hand its jobs back
    for name in WORKERS:
        assert float(SERVICES[name]["stop_grace_period"].removesuffix("m")) * 60 > grace


def test_secrets_come_from_the_environment_alone() -> None:
    wanted = {name for name in re.findall(r"(?<!\$)\$\{(\w+)", TEXT)}
    assert wanted == {name for name in example() if not name.startswith("ACAMKD_")}
    secrets = [name for name in example() if re.search("PASSWORD|SECRET", name)]
    assert not any(example()[name] for name in secrets)
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|KEY_ID", key):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), f"{name}: {key}"  # unset: compose stops
            if "URL" in key and "@" in value:
                assert re.search(r":\$\{\w+PASSWORD:\?[^}]+\}@", value), f"{name}: {key}"
    assert ".*" in (ROOT / ".dockerignore").read_text().split()  # .env and .git stay out of images
    assert ".env" in (ROOT / ".gitignore").read_text().split()


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_dockerfiles(dockerfile: Path) -> None:
    text, commands = dockerfile.read_text(), commands_of(dockerfile)
    assert {name.lower() for name in re.findall(r"ACAMKD_([A-Z_]+)=", text)} <= set(WorkerSettings.model_fields)
    assert re.search(r"^USER (?!root)\w+", text, re.M), "runs as root"
    assert re.search(r"^HEALTHCHECK ", text, re.M)
    images = [words[1] for words in commands if words[0] == "FROM"]
    assert images[-1] == "python:3.11-slim"
    for words in commands:
        if words[0] == "COPY" and not words[1].startswith("--from"):
            assert all((ROOT / source).exists() for source in words[1:-1]), words
        if words[:3] == ["RUN", "pip", "install"]:
            assert words[3:5] == ["-c", "constraints.txt"], "versions must be pinned"
    # where the built dashboard is copied to is where the server looks for it
    if dockerfile.parent.name == "server":
        assert ["COPY", "--from=dashboard", "/build/dist", "frontend/dist"] in commands
        assert images[0].startswith("node:")


def test_the_server_image_installs_no_torch_and_the_worker_image_does() -> None:
    """Followed through the extras that the Dockerfiles name, down to the requirements."""

    def requirements(extras: list[str]) -> set[str]:
        found = set(PROJECT["dependencies"])
        for extra in extras:
            for line in PROJECT["optional-dependencies"][extra]:
                inner = re.fullmatch(r"acamkd\[(.+)\]", line)
                found |= requirements(inner.group(1).split(",")) if inner else {line}
        return found

    installed = {}
    for path in DOCKERFILES:
        (extras,) = re.findall(r'-e "\.\[(.+)\]"', path.read_text())
        installed[path.parent.name] = {re.split(r"[^\w-]", line)[0] for line in requirements(extras.split(","))}
    assert {"fastapi", "psycopg", "obstore", "typer"} <= installed["server"]
    assert not {"torch", "torchvision", "timm", "onnxruntime"} & installed["server"]
    assert {"torch", "torchvision", "onnxruntime", "celery", "psycopg", "obstore"} <= installed["worker"]
    # every pin is one version, and what the images install first is pinned
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
    assert {name.lower() for name in installed["server"] | installed["worker"]} <= {name.lower() for name in pins}
