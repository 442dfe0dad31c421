"""Bodies of requests about jobs."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from acamkd_core.spec.job import Name


class JobPatch(BaseModel):
    """What may change about a job at any time: words about it, never what it does."""

    model_config = ConfigDict(extra="forbid")
    name: Name | None = Field(default=None, description="New name, unique in the project.")
    tags: list[str] | None = Field(default=None, max_length=50, description="All tags, replacing the old ones.")
    notes: str | None = Field(default=None, max_length=10_000, description="Free text.")


class RetryRequest(BaseModel):
    """A new job from an ended one."""

    model_config = ConfigDict(extra="forbid")
    set: dict[str, Any] = Field(default={}, description="Dotted path to new value, e.g. {'batch.accumulate': 2}.")
    from_checkpoint: bool = Field(default=False, description="Start from the old job's last checkpoint.")


class CloneRequest(BaseModel):
    """A new job with the same spec, from the start."""

    model_config = ConfigDict(extra="forbid")
    name: Name | None = Field(default=None, description="Name of the new job; automatic: two words.")
    set: dict[str, Any] = Field(default={}, description="Dotted path to new value.")
