"""Why two jobs must not be compared, in words."""

from __future__ import annotations

from typing import Any

from server.db.tables import Job
from server.jobs.compare import not_comparable


def job(name: str, *, state: str = "succeeded", digest: str = "a", iterations: int = 100) -> Job:
    spec: dict[str, Any] = {
        "dataset": {"splits": {"val": "val"}},
        "schedule": {"iterations": iterations},
        "batch": {"global_size": 8},
    }
    return Job(name=name, kind="distill", state=state, spec=spec, facts={"dataset": {"digest": digest}})


def test_equal_conditions_are_comparable() -> None:
    assert not_comparable([job("one"), job("two")]) == []


def test_every_reason_names_its_job() -> None:
    reasons = not_comparable(
        [
            job("base", state="running"),
            job("data", digest="b"),
            job("long", iterations=200),
            job("broken", state="failed"),
        ]
    )
    assert [reason.split(" ")[0] for reason in reasons] == ["data", "long", "base", "broken"]
    assert "another dataset" in reasons[0]
    assert "budget" in reasons[1]
    assert "still running" in reasons[2]
    assert "not finished" in reasons[3]
