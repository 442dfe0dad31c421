"""Jobs side by side: what differs in their specs, and why their numbers may not be comparable."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from acamkd_core.spec.api import CompareAnswer, CompareJob
from acamkd_core.spec.errors import CoreError
from server.auth.service import CallerScope
from server.db.tables import Job
from server.jobs import metrics, repository
from server.jobs.service import find_job, job_summary

MAX_JOBS = 20
# Words about a job; they never change what it computes.
IGNORED = frozenset({"name", "tags", "notes", "version", "kind"})


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves of a spec by dotted path; a list of plain values is one leaf."""
    if isinstance(value, dict) and value:
        return {
            key: leaf
            for name, item in value.items()
            for key, leaf in flat(item, f"{path}.{name}" if path else name).items()
        }
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return {key: leaf for index, item in enumerate(value) for key, leaf in flat(item, f"{path}.{index}").items()}
    return {path: value}


def differing_fields(specs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """{path, values} for each field whose value is not the same in all specs; absent ones are null."""
    leaves = [flat({key: value for key, value in spec.items() if key not in IGNORED}) for spec in specs]
    paths = sorted({path for one in leaves for path in one})
    rows = [{"path": path, "values": [one.get(path) for one in leaves]} for path in paths]
    return [row for row in rows if any(value != row["values"][0] for value in row["values"][1:])]


def _budget(job: Job) -> tuple[Any, ...]:
    schedule, batch = job.spec.get("schedule") or {}, job.spec.get("batch") or {}
    return schedule.get("iterations"), schedule.get("epochs"), batch.get("global_size")


def not_comparable(jobs: list[Job]) -> list[str]:
    """Reasons to distrust a comparison with the first job, in words."""
    reasons: list[str] = []
    first = jobs[0]
    for other in jobs[1:]:
        a, b = first.facts.get("dataset") or {}, other.facts.get("dataset") or {}
        same_data = (
            a.get("digest") == b.get("digest") if a and b else first.spec.get("dataset") == other.spec.get("dataset")
        )
        if not same_data:
            reasons.append(f"{other.name} uses another dataset or version of it")
        elif (first.spec.get("dataset") or {}).get("splits") != (other.spec.get("dataset") or {}).get("splits"):
            reasons.append(f"{other.name} uses other splits")
        if first.kind == other.kind == "distill" and _budget(first) != _budget(other):
            reasons.append(f"{other.name} has another training budget")
    for job in jobs:
        if job.state in ("failed", "cancelled"):
            reasons.append(f"{job.name} was not finished ({job.state}): its figures are those of its last evaluation")
        elif job.state != "succeeded":
            reasons.append(f"{job.name} is still {job.state}: its figures will change")
    return reasons


def _per_class(session: Session, job: Job) -> dict[str, float | None]:
    """The student's scores per class: of the test, else of the newest evaluation."""
    rows = repository.events_of_kinds(session, job_id=job.id, kinds=["evaluation"], limit=500)
    student = [row.data for row in rows if row.data.get("role") == "student"]
    tests = [data for data in student if data.get("split") == "test"]
    chosen = (tests or student)[-1:]
    return dict(chosen[0].get("per_class") or {}) if chosen else {}


def compare(
    *, session: Session, caller: CallerScope, jobs: str, x: metrics.XAxis, names: str | None, points: int
) -> CompareAnswer:
    """Jobs side by side, the first being the baseline. Raises CoreError `job.not_found`, `compare.jobs`."""
    refs = [ref.strip() for ref in jobs.split(",") if ref.strip()]
    if not 1 <= len(refs) <= MAX_JOBS:
        raise CoreError("compare.jobs", f"name 1 to {MAX_JOBS} jobs", field="jobs", value=len(refs))
    rows = [find_job(session, caller, ref) for ref in refs]
    columns = [
        CompareJob(
            job=job_summary(row),
            per_class=_per_class(session, row),
            profile=row.facts.get("profile") or {},
            device_seconds=row.progress.get("device_seconds"),
        )
        for row in rows
    ]
    return CompareAnswer(
        jobs=columns,
        differing=differing_fields([row.spec for row in rows]),
        not_comparable=not_comparable(rows),
        series=[metrics.answer_for(session, row, names=names, x=x, points=points) for row in rows],
    )
