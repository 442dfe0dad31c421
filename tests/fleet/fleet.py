"""The services of docker-compose.yml as plain processes: its commands and settings, at addresses of this machine.

What a container has by its image is given here: `acamkd` and the programs of PostgreSQL, Valkey and the store come from
wheels. Every part has a data folder of its own, as on hosts of their own. What it starts, it ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import redis
import yaml

from acamkd_core.client.client import Client
from cli.processes import end_tree
from cli.valkey import valkey_binary
from tests.services import S3, free_ports
from worker.processes import processes_of

COMPOSE = Path(__file__).resolve().parents[2] / "docker-compose.yml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
# All of 127.0.0.0/8 is this machine alone, but only 127.0.0.1 counts as loopback: the rules of any other bind hold.
HOST = "127.0.0.2" if sys.platform == "linux" else "0.0.0.0"
SECRETS = {"POSTGRES_PASSWORD": "pg-hush", "VALKEY_PASSWORD": "valkey-hush"}


def fill(value: str, variables: dict[str, str]) -> str:
    """What compose makes of a value: `${NAME:?message}` and `${NAME:-default}` filled in, `$$` as `$`."""

    def one(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if kind == ":?":
            return variables[name]
        return variables.get(name) or rest

    return re.sub(r"(?<!\$)\$\{(\w+)(:[?-])([^}]*)\}", one, str(value)).replace("$$", "$")


class Fleet:
    """Broker, server and workers on a given PostgreSQL and store."""

    def __init__(self, folder: Path, *, database: str, s3: S3) -> None:
        self.folder, self.s3 = folder, s3
        self.port, self.broker_port = free_ports(2)
        self.variables = {**SECRETS, "STORE_KEY_ID": s3.key_id, "STORE_SECRET": s3.secret}
        self.broker_url = f"redis://:{SECRETS['VALKEY_PASSWORD']}@127.0.0.1:{self.broker_port}/0"
        self.addresses = {
            "ACAMKD_DATABASE_URL": database,
            "ACAMKD_BROKER_URL": self.broker_url,
            "ACAMKD_STORAGE_URL": f"s3://{s3.bucket}/artifacts",
            "ACAMKD_STORAGE_ENDPOINT": s3.endpoint,
        }
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.jobs: list[str] = []

    def environment(self, service: str, name: str) -> dict[str, str]:
        """A service's own variables, and nothing of this machine that is named as a setting."""
        data = self.folder / name
        data.mkdir(exist_ok=True)
        given = {key: fill(value, self.variables) for key, value in SERVICES[service]["environment"].items()}
        assert set(self.addresses) <= set(given)
        given |= {**self.addresses, "ACAMKD_DATA_DIR": str(data), "ACAMKD_DATASET_ROOTS": str(self.folder / "datasets")}
        if service == "server":
            given |= {"ACAMKD_HOST": HOST, "ACAMKD_PORT": str(self.port)}
        if service.startswith("worker"):
            given |= {"ACAMKD_WORKER_NAME": name, "ACAMKD_THREADS": "1"}  # tests share few cores
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ACAMKD_")}
        return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}", **given}

    def once(self, service: str, command: list[str] | None = None) -> subprocess.CompletedProcess[str]:
        """`docker compose run --rm SERVICE [COMMAND]`."""
        return subprocess.run(
            command or SERVICES[service]["command"],
            env=self.environment(service, service),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def start(self, service: str, name: str = "", **settings: str) -> subprocess.Popen[bytes]:
        """One container of a service; `settings` are what `.env` would say besides."""
        name = name or service
        environment = self.environment(service, name) | {f"ACAMKD_{k.upper()}": v for k, v in settings.items()}
        return self._launch(name, SERVICES[service]["command"], environment)

    def start_broker(self) -> None:
        """Valkey by the command of the compose file, on a port of this machine."""
        shell, flag, line = SERVICES["valkey"]["command"]
        (data := self.folder / "valkey").mkdir(exist_ok=True)
        binary = valkey_binary()
        assert binary is not None, "no Valkey binary for this platform"
        assert line.startswith("exec valkey-server ")
        line = fill(line, {}).replace("exec valkey-server", f"exec '{binary}'")
        line += f" --bind 127.0.0.1 --port {self.broker_port} --dir '{data}'"
        own = SERVICES["valkey"]["environment"]
        environment = {**os.environ, **{key: fill(value, self.variables) for key, value in own.items()}}
        self._launch("valkey", [shell, flag, line], environment)
        until(self.broker_answers, 20)

    def broker_answers(self) -> bool:
        with contextlib.suppress(redis.RedisError), redis.Redis.from_url(self.broker_url, socket_timeout=1) as client:
            return bool(client.ping())
        return False

    def kill(self, name: str) -> None:
        """SIGKILL to a part, and to it alone."""
        process = self.running.pop(name)
        process.kill()
        process.wait(10)

    def client(self, key: str | None) -> Client:
        """The SDK at the server's address."""
        return Client(f"http://{HOST}:{self.port}", key)

    def wait_for_server(self) -> None:
        """Until it answers; at once in error when it has ended."""
        with self.client(None) as client:
            until(lambda: client.alive() or self.running["server"].poll() is not None, 60)
        assert self.running["server"].poll() is None, self.log()

    def log(self) -> str:
        """The end of everybody's log."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {path.stem}\n{path.read_text(errors='replace')[-4000:]}" for path in logs)

    def close(self) -> None:
        """Ends all of it, hard."""
        for process in self.running.values():
            end_tree(process.pid)
            process.wait(10)
        for job in self.jobs:
            for left in processes_of(job):
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()

    def _launch(self, name: str, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                command,
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.running[name]


def until(condition: Any, seconds: float) -> None:
    """Wait for something to come true; TimeoutError when it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(0.05)
