"""How a job ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from acamkd_core.spec.errors import ErrorInfo


@dataclass
class JobResult:
    """`status` succeeded, failed or stopped; `reason` as in `ResultEvent`; metrics in points."""

    status: str
    reason: str
    error: ErrorInfo | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    weights_digest: str | None = None
    iteration: int = 0
