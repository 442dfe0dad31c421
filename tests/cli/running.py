"""A real server process on a loopback port, with a data folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.services import free_ports


@dataclass
class RunningServer:
    """A started server; `stop` and `start` keep address and data."""

    url: str
    data: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "cli.main", "server", "--port", str(self.port), "--data", str(self.data)]
        with (self.data / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=clean_environment())
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"{self.url}/healthz", trust_env=False, timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.data / "server.log").read_text()[-3000:])
            time.sleep(0.1)

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(20)


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment without any setting of the platform."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ACAMKD_")}
    return kept | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONPATH": str(Path(__file__).parents[2])} | extra


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of this module."""
    [port] = free_ports(1)
    running = RunningServer(f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("server"), port)
    running.start()
    try:
        yield running
    finally:
        running.stop()


TINY = {
    "dataset": {"format": "scenes", "train_images": 16, "val_images": 4, "test_images": 4, "size": [48, 64]},
    "student": {"arch": {"family": "deeplabv3", "width": 0.35, "aspp_channels": 16}},
    "schedule": {"iterations": 6},
    "batch": {"global_size": 4},
    "exports": ["safetensors"],
}
