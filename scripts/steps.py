"""Runs commands one after another, with the time each took; the first failure ends it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


def environment() -> dict[str, str]:
    """Tools of the virtual environment first. One thread a process: tests run side by side."""
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def run(name: str, command: list[str], *, folder: Path = ROOT) -> None:
    """One step; its output goes through."""
    begun = time.monotonic()
    print(f"== {name}", flush=True)
    code = subprocess.run(command, cwd=folder, env=environment(), check=False).returncode
    print(f"== {name}: {'ok' if code == 0 else f'FAILED ({code})'}, {time.monotonic() - begun:.0f} s", flush=True)
    if code:
        raise SystemExit(code)
