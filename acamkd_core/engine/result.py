"""How a job ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from acamkd_core.spec.errors import ErrorInfo

# `lost`: this process of several ends because another one is gone, which has the better words.
EXIT_CODES = {"succeeded": 0, "failed": 1, "stopped": 3, "lost": 5}


@dataclass
class JobResult:
    """`status` succeeded, failed, stopped or lost; `reason` as in `ResultEvent`; metrics in points."""

    status: str
    reason: str
    error: ErrorInfo | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    weights_digest: str | None = None
    iteration: int = 0
