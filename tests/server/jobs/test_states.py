"""The table of transitions, checked against the life of a job as it is documented, exhaustively."""

from __future__ import annotations

import ast
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import server
from acamkd_core.spec.api import TERMINAL_STATES, JobState, Reason
from server.jobs import states

STATES = get_args(JobState)
REASONS = (*get_args(Reason), None)
# written out by hand from the design, not derived from the table
ARROWS = {
    *itertools.product(["waiting"], ["queued", "failed", "cancelled"]),
    *itertools.product(["queued"], ["running", "paused", "cancelled"]),
    *itertools.product(["paused"], ["queued", "cancelled"]),
    *itertools.product(["running"], ["queued", "paused", "succeeded", "failed", "cancelled"]),
}


@dataclass
class Thing:
    name: str
    state: str
    reason: str | None


@pytest.mark.parametrize(("state", "to"), list(itertools.product(STATES, STATES)))
def test_exactly_the_designed_arrows_exist(state: str, to: str) -> None:
    open_reasons = {reason for reason in REASONS if states.allowed(state, to, reason)}
    assert bool(open_reasons) == ((state, to) in ARROWS)
    for reason in REASONS:
        thing = Thing("a", state, "before")
        if reason in open_reasons:
            states.change(thing, to, reason)
            assert (thing.state, thing.reason) == (to, reason)
        else:
            with pytest.raises(states.IllegalTransition):
                states.change(thing, to, reason)
            assert (thing.state, thing.reason) == (state, "before"), "a refused change leaves the job as it was"


@given(st.lists(st.tuples(st.sampled_from(STATES), st.sampled_from(REASONS)), max_size=40), st.booleans())
def test_terminal_is_final_on_every_path(steps: list[tuple[str, str | None]], waiting: bool) -> None:
    thing = Thing("a", "", None)
    states.begin(thing, "waiting" if waiting else "queued")
    ended = None
    for to, reason in steps:
        try:
            states.change(thing, to, reason)
        except states.IllegalTransition:
            continue
        assert ended is None, f"left {ended}"
        if to in TERMINAL_STATES:
            ended = (to, reason)
            assert reason is not None, "an end says why"
    if ended is not None:
        assert (thing.state, thing.reason) == ended


def test_failures_and_successes_do_not_share_reasons() -> None:
    by_end: dict[str, set[str | None]] = {}
    for (_, to), reasons in states.TRANSITIONS.items():
        by_end.setdefault(to, set()).update(reasons)
    assert by_end["succeeded"] == {"done", "early_stop"}
    assert by_end["cancelled"] == {"user_cancel"}
    assert not by_end["failed"] & (by_end["succeeded"] | by_end["cancelled"])


def test_nobody_else_assigns_a_jobs_state() -> None:
    root = Path(server.__file__).parent
    found = []
    for path in [*root.rglob("*.py"), *(root.parent / "worker").rglob("*.py")]:
        if path == root / "jobs" / "states.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            flat = [item for one in targets for item in (one.elts if isinstance(one, ast.Tuple) else [one])]
            for target in flat:
                if isinstance(target, ast.Attribute) and target.attr == "state":
                    found.append(f"{path.parent.name}/{path.name}: {ast.unparse(target)}")
    # datasets and workers have states of their own; an answer only tells one
    others = ("datasets/repository.py: row.", "workers/repository.py: row.", "jobs/submit.py: answer.")
    assert [line for line in found if not line.startswith(others)] == []
    assert found, "the search itself works"
