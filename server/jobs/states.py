"""The life of a job: one table of allowed transitions. Nothing else assigns a job's state.

waiting -> queued -> running -> succeeded | failed | cancelled
             ^  \\-> paused <-/     (released or paused runs go back; terminal is final: a retry is a new job)
"""

from __future__ import annotations

from typing import Protocol

from acamkd_core.spec.api import TERMINAL_STATES
from acamkd_core.spec.errors import CoreError

FAILURES = frozenset(
    {"spec_or_data", "out_of_memory", "non_finite_loss", "worker_lost", "dependency_failed", "time_limit", "bug"}
)
# (from, to) -> reasons that the new state may carry; None = no reason
TRANSITIONS: dict[tuple[str, str], frozenset[str | None]] = {
    ("waiting", "queued"): frozenset({None}),
    ("waiting", "failed"): frozenset({"dependency_failed"}),
    ("waiting", "cancelled"): frozenset({"user_cancel"}),
    ("queued", "running"): frozenset({None}),
    ("queued", "paused"): frozenset({"paused_by_user"}),
    ("queued", "cancelled"): frozenset({"user_cancel"}),
    ("paused", "queued"): frozenset({None}),
    ("paused", "cancelled"): frozenset({"user_cancel"}),
    ("running", "queued"): frozenset({"released", "worker_lost", "out_of_memory", "bug"}),
    ("running", "paused"): frozenset({"paused_by_user"}),
    ("running", "succeeded"): frozenset({"done", "early_stop"}),
    ("running", "failed"): FAILURES - {"dependency_failed"},
    ("running", "cancelled"): frozenset({"user_cancel"}),
}
INITIAL: dict[str, str | None] = {"queued": None, "waiting": "waits_for_teacher"}


class HasState(Protocol):
    """What a transition changes."""

    name: str
    state: str
    reason: str | None


class IllegalTransition(CoreError):
    """A change of state that the table does not allow."""

    def __init__(self, job: HasState, to: str, reason: str | None) -> None:
        hint = "terminal is final: retry makes a new job" if job.state in TERMINAL_STATES else None
        super().__init__(
            "job.illegal_transition",
            f"job {job.name!r} is {job.state} and cannot become {to} ({reason})",
            hint=hint,
            value=job.state,
        )


def allowed(state: str, to: str, reason: str | None) -> bool:
    """Whether the table has this transition with this reason."""
    return reason in TRANSITIONS.get((state, to), frozenset())


def change(job: HasState, to: str, reason: str | None = None) -> None:
    """Moves a job to another state. The caller holds the row's lock.

    Raises:
        IllegalTransition: the table does not have this step.
    """
    if not allowed(job.state, to, reason):
        raise IllegalTransition(job, to, reason)
    job.state, job.reason = to, reason


def begin(job: HasState, state: str) -> None:
    """Gives a new job its first state, `queued` or `waiting`."""
    job.state, job.reason = state, INITIAL[state]
