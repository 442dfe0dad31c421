"""How an attempt ended, decided from its last word, its exit code and what it was asked; then written at once."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from acamkd_core.spec.errors import CoreError, ErrorInfo
from server.datasets import repository as datasets
from server.jobs.repository import Claim, end_involuntarily, finish, release
from server.models import repository as models
from worker.child import Child
from worker.reporter import Reporter

# A run that says so was disturbed from outside: it is as good as killed, and goes on from its checkpoint.
STORE_AWAY = "storage.failed"  # the store does not answer, or not as it should: it may come back
_INVOLUNTARY = frozenset({"data.loader_killed"})


@dataclass(frozen=True)
class Ending:
    """One transaction that ends the attempt. `write` returns the job's new state."""

    what: str
    write: Callable[[Session], str]

    def describe(self) -> str:
        return self.what


def conclude(child: Child, reporter: Reporter, intent: str | None, claim: Claim) -> Ending:
    """Decide. A complete result counts even when the process was killed after saying it.

    Args:
        child: has ended.
        reporter: has read everything.
        intent: why the child was asked to stop, if it was.
    """
    result, failure = reporter.result, reporter.uploads.failure
    if result is not None and result.status == "succeeded":
        if failure is None:
            return Ending("succeeded", lambda session: _succeed(session, claim, reporter))
        if intent != "cancel":
            return _failed(claim, "bug", failure.info)
    if intent == "cancel":
        return _finished(claim, "cancelled", "user_cancel")
    if result is not None and result.error is not None and result.error.code in _INVOLUNTARY:
        killed = result.error
        return Ending(
            "lost a helper",
            lambda session: end_involuntarily(
                session, job_id=claim.job_id, attempt=claim.attempt, reason="worker_lost", error=killed
            ),
        )
    if result is not None and result.status == "failed":
        known = result.reason not in ("done", "early_stop", "stopped")
        return _failed(claim, result.reason if known else "bug", result.error, result.metrics)
    if intent == "time_limit":
        hours = f"{claim.max_hours:g}"
        error = ErrorInfo(
            code="job.time_limit",
            message=f"the run reached its limit of {hours} hours",
            hint="raise resources.max_hours and retry: it can go on from its last checkpoint",
            field="resources.max_hours",
            value=claim.max_hours,
        )
        return _failed(claim, "time_limit", error)
    if intent in ("pause", "release"):
        return Ending(
            intent,
            lambda session: release(session, job_id=claim.job_id, attempt=claim.attempt, pause=intent == "pause"),
        )
    reason, error = _crash(child, reporter)
    return Ending(
        f"crash: {reason}",
        lambda session: end_involuntarily(
            session, job_id=claim.job_id, attempt=claim.attempt, reason=reason, error=error
        ),
    )


def refused(claim: Claim, error: CoreError) -> Ending:
    """It could not start: an input is not what its row says. A store that is away is no fault of the job: it goes back
    to the queue, whether or not somebody meanwhile asked for a cancel or a pause."""
    if error.code == STORE_AWAY:
        return Ending("store away", lambda session: release(session, job_id=claim.job_id, attempt=claim.attempt))
    return _failed(claim, "bug" if error.code.startswith("storage.") else "spec_or_data", error.info)


def no_room(claim: Claim, error: OSError) -> Ending:
    """This machine cannot run it; another one, or this one later, may."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    info = ErrorInfo(
        code="worker.disk_full" if full else "worker.cannot_start",
        message="the worker's disk is full"
        if full
        else f"the worker could not start the run: {error.strerror or error}",
        hint="free some space in its data folder" if full else "the worker's log has the details",
        value=error.filename,
    )
    return Ending(
        f"no start: {info.message}",
        lambda session: end_involuntarily(
            session, job_id=claim.job_id, attempt=claim.attempt, reason="worker_lost", error=info
        ),
    )


def _crash(child: Child, reporter: Reporter) -> tuple[str, ErrorInfo]:
    """No result and nobody asked: who ended it?"""
    code = child.poll()
    if child.out_of_memory():
        return "out_of_memory", ErrorInfo(
            code="job.out_of_memory",
            message="the kernel ended the run because the machine's (or container's) memory was full",
            hint="a smaller batch.global_size, augment.crop or batch.workers needs less",
            field="batch.global_size",
        )
    tail = reporter.last_log()
    if reporter.result is not None and reporter.result.status == "stopped":
        return "worker_lost", ErrorInfo(code="job.killed", message="the run was asked to stop from outside")
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return "worker_lost", ErrorInfo(
            code="job.killed", message=f"the run was ended from outside ({name})", hint=tail or None, value=name
        )
    return "bug", ErrorInfo(
        code="job.crashed",
        message=f"the run ended with code {code} and without a result",
        hint=tail or "its log is empty",
        value=code,
    )


def _failed(claim: Claim, reason: str, error: ErrorInfo | None, metrics: dict[str, float] | None = None) -> Ending:
    return _finished(claim, "failed", reason, error, metrics)


def _finished(
    claim: Claim,
    state: str,
    reason: str,
    error: ErrorInfo | None = None,
    metrics: dict[str, float] | None = None,
) -> Ending:
    def write(session: Session) -> str:
        if claim.kind == "inspect":
            datasets.fail_inspection(session, inspect_job=claim.job_id)
        finish(
            session,
            job_id=claim.job_id,
            attempt=claim.attempt,
            state=state,
            reason=reason,
            error=error,
            metrics=metrics or None,
        )
        return state

    return Ending(f"{state}: {reason}", write)


def _succeed(session: Session, claim: Claim, reporter: Reporter) -> str:
    """Result, model and state appear together or not at all."""
    result = reporter.result
    assert result is not None
    finish(
        session,
        job_id=claim.job_id,
        attempt=claim.attempt,
        state="succeeded",
        reason="early_stop" if result.reason == "early_stop" else "done",
        metrics=result.metrics,
    )
    if claim.kind == "inspect" and reporter.inspection is not None:
        sheet = reporter.uploads.contact_sheet
        datasets.apply_inspection(session, inspect_job=claim.job_id, report=reporter.inspection, contact_sheet=sheet)
    elif claim.kind == "distill":
        _register_model(session, claim, reporter)
    return "succeeded"


def _register_model(session: Session, claim: Claim, reporter: Reporter) -> None:
    result = reporter.result
    weights = [name for name in reporter.uploads.exports if name.endswith(".safetensors")]
    if not weights or result is None:
        return
    profile: dict[str, Any] = reporter.profile.get("student", {})
    dataset = reporter.dataset
    arch = (claim.spec.get("student") or {}).get("arch") or {}
    digest = str(dataset.get("digest") or "")
    models.register(
        session,
        project_id=claim.project_id,
        name=claim.name,
        job_id=claim.job_id,
        artifact_id=reporter.uploads.exports[weights[0]],
        arch=str(profile.get("arch") or arch.get("family") or "unknown"),
        task=str(claim.spec.get("task") or "semantic_segmentation"),
        classes=[_class_name(item) for item in dataset.get("classes") or []],
        parameters=profile.get("parameters"),
        dataset="@".join(filter(None, [str(dataset.get("name") or ""), digest[:6]])) or None,
        metrics=result.metrics,
        weights_digest=result.weights_digest,
    )


def _class_name(item: Any) -> str:
    return str(item.get("name", "")) if isinstance(item, dict) else str(item)
