"""A submission from parsed mapping to queued job: parse, check, resolve, insert."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from acamkd_core.spec.api import FieldOrigin, SubmitAnswer
from acamkd_core.spec.errors import ErrorInfo, SpecInvalid
from acamkd_core.spec.job import InspectSpec, JobSpec, parse_job
from acamkd_core.spec.origins import count_given, resolve
from server.auth import repository as audit
from server.auth.service import CallerScope
from server.context import wake_after_commit
from server.db.tables import Job
from server.jobs import describe, estimate, names, repository
from server.jobs.checks import Checked, Scope, check_inspection, check_job
from server.settings import Settings


@dataclass(frozen=True)
class Prepared:
    """A checked submission, ready to be inserted."""

    spec: JobSpec | InspectSpec
    resolved: dict[str, Any]
    origins: list[FieldOrigin]
    given: int
    checked: Checked
    name: str


def _name(session: Session, caller: CallerScope, spec: JobSpec | InspectSpec, suggested: str | None) -> str:
    return spec.name or suggested or names.automatic_name(session, caller.project_id)


def prepare(
    *, session: Session, caller: CallerScope, config: Settings, submitted: dict[str, Any], name: str | None = None
) -> Prepared:
    """Parses, checks and resolves a submission.

    Args:
        name: the name of a job that came without one; None: two words.

    Raises:
        SpecInvalid: with every problem and its field.
    """
    spec = parse_job(submitted)
    scope = Scope(session, caller, config)
    settled: JobSpec | InspectSpec
    if isinstance(spec, InspectSpec):
        settled, checked = check_inspection(spec, scope)
    else:
        settled, checked = check_job(spec, scope)
    if checked.problems:
        raise SpecInvalid(checked.problems)
    chosen = _name(session, caller, spec, name)
    if spec.name is None:
        checked.automatic.add("name")
    settled = settled.model_copy(update={"name": chosen})
    resolved, origins = resolve(settled, automatic_paths=frozenset(checked.automatic))
    return Prepared(settled, resolved, origins, count_given(submitted), checked, chosen)


def _answer(prepared: Prepared) -> SubmitAnswer:
    count = len(prepared.origins)
    return SubmitAnswer(
        name=prepared.name,
        spec=prepared.resolved,
        origins=prepared.origins,
        given=prepared.given,
        resolved=count,
        findings=prepared.checked.findings,
        summary=describe.summary_lines(prepared.spec, prepared.checked, given=prepared.given, resolved=count),
    )


def dry_run(*, session: Session, caller: CallerScope, config: Settings, submitted: dict[str, Any]) -> SubmitAnswer:
    """What a submission would become. Raises SpecInvalid."""
    prepared = prepare(session=session, caller=caller, config=config, submitted=submitted)
    taken = repository.names_taken(session, project_id=caller.project_id, names=[prepared.name])
    if taken:
        message = f"there is a job named {prepared.name!r} already"
        raise SpecInvalid([ErrorInfo(code="job.name_taken", message=message, field="name", value=prepared.name)])
    return _answer(prepared)


def body_hash(submitted: dict[str, Any]) -> str:
    """Digest of a body by content: key order and white space do not matter."""
    text = json.dumps(submitted, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def submit(
    *,
    session: Session,
    caller: CallerScope,
    config: Settings,
    submitted: dict[str, Any],
    idempotency_key: str | None = None,
    name: str | None = None,
    retry_of: str | None = None,
    start_checkpoint: str | None = None,
) -> SubmitAnswer:
    """Inserts a job and asks for a wake-up after the commit.

    Raises:
        SpecInvalid: with every problem and its field.
        CoreError: `job.name_taken`, `job.idempotency_conflict`.
    """
    digest = body_hash(submitted)
    if idempotency_key is not None:
        earlier = repository.find_idempotent(
            session, project_id=caller.project_id, key=idempotency_key, body_hash=digest
        )
        if earlier is not None:  # before any check: what was accepted once stays accepted
            return stored_answer(session, earlier)
    prepared = prepare(session=session, caller=caller, config=config, submitted=submitted, name=name)
    spec, checked = prepared.spec, prepared.checked
    resources = spec.resources if isinstance(spec, JobSpec) else None
    job, new = repository.create(
        session,
        new=repository.NewJob(
            project_id=caller.project_id,
            name=prepared.name,
            kind=spec.kind,
            submitted=json.dumps(submitted, ensure_ascii=False),
            spec=prepared.resolved,
            origins=[origin.model_dump(mode="json") for origin in prepared.origins],
            summary=describe.row_summary(spec, checked)
            | {"findings": [finding.model_dump(mode="json") for finding in checked.findings], "given": prepared.given},
            inputs=checked.inputs,
            tags=spec.tags if isinstance(spec, JobSpec) else (),
            notes=spec.notes if isinstance(spec, JobSpec) else "",
            dataset_id=checked.dataset.id if checked.dataset is not None else None,
            priority=resources.priority if resources else 0,
            gpus=resources.gpus if resources else 0,
            labels=resources.labels if resources else (),
            max_attempts=resources.max_attempts if resources else 3,
            max_hours=resources.max_hours if resources else None,
            parents=list(checked.parents),
            retry_of=retry_of,
            start_checkpoint=start_checkpoint,
            idempotency_key=idempotency_key,
            body_hash=digest,
        ),
    )
    if not new:
        return stored_answer(session, job)
    session.flush()
    audit.record(session, project_id=caller.project_id, actor=caller.actor, action="job.submit", target=job.id)
    wake_after_commit(session)
    answer = _answer(prepared)
    answer.id, answer.state, answer.queue = job.id, job.state, describe.queue_info(session, job)  # type: ignore[assignment]
    seconds = estimate.eta_seconds(session, job, spec, checked) if isinstance(spec, JobSpec) else None
    eta = f"   ETA {estimate.duration(seconds)}" if seconds is not None else ""
    answer.summary.append(_queue_line(session, job, answer) + eta)
    return answer


def _queue_line(session: Session, job: Job, answer: SubmitAnswer) -> str:
    if answer.queue is None or answer.queue.position is None:
        return f"{job.state} {job.name}" + (f"  {answer.queue.why}" if answer.queue else "")
    total = repository.queued_total(session)
    return f"queued {job.name}  {describe.ordinal(answer.queue.position)} of {total}"


def stored_answer(session: Session, job: Job) -> SubmitAnswer:
    """The answer to a submission, from the row that it made: as recorded, never resolved anew."""
    origins = [FieldOrigin.model_validate(origin) for origin in job.origins]
    answer = SubmitAnswer.model_validate(
        {
            "id": job.id,
            "name": job.name,
            "state": job.state,
            "spec": job.spec,
            "origins": origins,
            "given": job.summary.get("given", 0),
            "resolved": len(origins),
            "findings": job.summary.get("findings", []),
            "queue": describe.queue_info(session, job),
        }
    )
    answer.summary = [
        f"spec   {answer.given} lines given, {answer.resolved} resolved",
        _queue_line(session, job, answer),
    ]
    return answer
