"""Settings of a worker: environment variables `ACAMKD_<NAME>`, or keyword arguments (tests)."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from pydantic import Field, field_validator

from server.settings import CommaList, Settings


class WorkerSettings(Settings):
    """What a worker shares with the server (database, broker, store, roots), and how patient it is.

    The intervals are one family, `beat < renew_limit < reap_after`: a supervisor that lost its lease has ended its
    child before anybody else may start the job again.
    """

    worker_name: str = Field(default_factory=socket.gethostname, description="Name shown on the Workers page.")
    slots: int = Field(default=0, ge=0, le=64, description="Jobs at once; 0: one a device set, at least one.")
    devices: str = Field(
        default="auto", description="Device sets of the slots: `0;1` or `0,1;2,3`; `auto`: one a GPU; `cpu`: none."
    )
    labels: CommaList = Field(default=(), description="Labels that jobs can ask for.")
    threads: int | None = Field(default=None, ge=1, description="CPU threads a job; automatic: cores over slots.")
    child_command: tuple[str, ...] = Field(
        default=(sys.executable, "-m", "acamkd_core.engine.run"), description="What runs a job (a JSON list)."
    )
    beat_seconds: float = Field(default=5.0, gt=0, description="Between two renewals of a job's lease.")
    renew_limit_seconds: float = Field(default=15.0, gt=0, description="Unrenewed for so long: the child is ended.")
    reap_after_seconds: float = Field(default=20.0, gt=0, description="The same beat for so long: the worker is lost.")
    reap_every_seconds: float = Field(default=2.0, gt=0, description="Between two looks of the reaper.")
    poll_seconds: float = Field(default=15.0, gt=0, description="An idle slot looks for work at least so often.")
    heartbeat_seconds: float = Field(default=5.0, gt=0, description="Between two reports of the worker itself.")
    grace_seconds: float = Field(default=60.0, gt=0, description="From SIGTERM to SIGKILL of a job's processes.")
    tick_seconds: float = Field(default=0.25, gt=0, description="Between two looks at a job's event file.")

    @field_validator("labels", mode="before")
    @classmethod
    def _split_labels(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @property
    def workers_dir(self) -> Path:
        """Where workers of this data folder keep their attempts and downloads."""
        return (self.data_dir / "workers").resolve()

    @property
    def cache_dir(self) -> Path:
        """Generated datasets and downloaded inputs, shared by all attempts."""
        return (self.data_dir / "cache").resolve()


def device_sets(devices: str, slots: int, visible: int) -> list[tuple[str, ...]]:
    """The devices of each slot.

    Args:
        devices: the setting of that name.
        slots: wished number of slots; 0 leaves it to the devices.
        visible: number of GPUs of the machine.

    Returns:
        One entry a slot: GPU ids, or an empty tuple for a slot on the CPU.

    Raises:
        ValueError: when more slots are wished than device sets are given.
    """
    if devices == "auto":
        sets: list[tuple[str, ...]] = [(str(index),) for index in range(visible)]
        if sets:
            return sets[:slots] if slots else sets
    elif devices != "cpu":
        sets = [tuple(part.strip() for part in group.split(",") if part.strip()) for group in devices.split(";")]
        if slots > len(sets):
            raise ValueError(f"{slots} slots for {len(sets)} device sets: two jobs would share a GPU")
        return sets[:slots] if slots else sets
    return [() for _ in range(max(1, slots))]
