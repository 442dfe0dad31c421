"""Bodies of requests about jobs."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from acamkd_core.spec.job import Name
from server.bodies import Body


class JobPatch(Body):
    """What may change about a job at any time: words about it, never what it does."""

    name: Name | None = Field(default=None, description="New name, unique in the project.")
    tags: list[str] | None = Field(default=None, max_length=50, description="All tags, replacing the old ones.")
    notes: str | None = Field(default=None, max_length=10_000, description="Free text.")


class RetryRequest(Body):
    """A new job from an ended one."""

    set: dict[str, Any] = Field(default={}, description="Dotted path to new value, e.g. {'batch.accumulate': 2}.")
    from_checkpoint: bool = Field(default=False, description="Start from the old job's last checkpoint.")


class CloneRequest(Body):
    """A new job with the same spec, from the start."""

    name: Name | None = Field(default=None, description="Name of the new job; automatic: two words.")
    set: dict[str, Any] = Field(default={}, description="Dotted path to new value.")
