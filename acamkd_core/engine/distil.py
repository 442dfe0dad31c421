"""One distillation from data to verified download, as a straight line."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from acamkd_core import ranks
from acamkd_core.engine.build import build, load_data, runs_code
from acamkd_core.engine.deliver import deliver
from acamkd_core.engine.evaluate import Score, evaluate, evaluation_event
from acamkd_core.engine.inspection import check_dataset
from acamkd_core.engine.parts import Emit, Parts, Run
from acamkd_core.engine.precision import warn_if_slow
from acamkd_core.engine.profile import profile_model
from acamkd_core.engine.randomness import be_deterministic
from acamkd_core.engine.result import JobResult
from acamkd_core.engine.savings import recomputed
from acamkd_core.engine.trainer import Outcome, train
from acamkd_core.engine.watch import finite_or_null
from acamkd_core.models.base import TaskModel
from acamkd_core.models.resized import Resized
from acamkd_core.models.weights import weights_digest
from acamkd_core.spec.early import other_metric
from acamkd_core.spec.errors import CoreError, ErrorInfo
from acamkd_core.spec.events import AlarmEvent, LogEvent, MetricsEvent, ProfileEvent, ResolvedEvent, StageEvent
from acamkd_core.spec.job import JobSpec
from acamkd_core.spec.labels import network_label
from acamkd_core.spec.models import TeacherSpec
from acamkd_core.tasks.pictures import heat


def distil(spec: JobSpec, run: Run, *, emit: Emit, should_stop: Callable[[], bool], device: torch.device) -> JobResult:
    """Data, networks, teacher check, training, test score, exports, gate, bundle.

    Of several processes (`ranks.py`) all train and score; data are generated and inspected, and files written, by rank 0
    alone, and the others are done after the last score.

    Raises:
        CoreError, NonFiniteLoss: see `trainer.train`; `run_job` turns them into a failed result.
    """
    be_deterministic()
    # Attention that has made up its mind leaves gradients around 1e-40, which CPUs multiply in microcode: two matrix products of
    # ACAM-KD's backward pass took a hundred times as long as with ordinary ones (`python -m benchmarks.denormals`).
    torch.set_flush_denormal(True)
    first = ranks.rank() == 0
    emit(StageEvent(stage="data"))
    with ranks.first_alone():  # what it makes or fetches, the others find
        data = load_data(spec, run)
    if not ranks.from_first(lambda: check_dataset(data.dataset, run, emit=emit, should_stop=should_stop) is not None):
        return JobResult("stopped", "stopped")
    emit(StageEvent(stage="build", detail=runs_code(data)))
    with ranks.first_alone():
        built = build(data, run, device)
    spec, parts = built.spec, built.parts
    images = ", ".join(f"{count} {split}" for split, count in data.dataset.splits().items())
    emit(
        LogEvent(
            message=f"data: {data.dataset.name}@{data.dataset.digest}, {images}, {len(data.dataset.classes)} classes"
        )
    )
    for line in built.notes:
        emit(LogEvent(message=line))
    if run.resume is None:
        for info in built.warnings:
            emit(AlarmEvent(iteration=0, severity="warning", info=info))
        if first:
            warn_if_slow(spec, device, emit)
    emit(
        ResolvedEvent(
            spec=spec.model_dump(mode="json"), automatic=built.automatic, dataset=data.facts(), pairs=built.pairs
        )
    )
    if first:
        _profile(parts, spec, emit)

    teacher_metrics: dict[str, float] = {}
    if parts.teacher is not None and run.resume is None:
        emit(StageEvent(stage="teacher_check"))
        checked = _check_teacher(parts, spec, emit, should_stop)
        if checked is None:
            return JobResult("stopped", "stopped")
        teacher_metrics = checked

    with recomputed(parts.student, spec.train.grad_checkpoint):
        outcome = train(
            parts, spec, run, emit=emit, should_stop=should_stop, mask_picture=heat, teacher_metrics=teacher_metrics
        )
    if outcome.reason == "stopped":
        return JobResult("stopped", "stopped", iteration=outcome.position.iteration)

    chosen = outcome.best_student if spec.checkpoint.select == "best" else outcome.last_student
    parts.student.load_state_dict(chosen)
    ranks.copy_from_first(parts.student.buffers())  # averaged statistics are each process's own
    position = outcome.position
    metrics = {f"teacher/{k}": v for k, v in position.teacher_metrics.items()}
    if position.best_score is not None:
        metrics[f"best/{parts.task.primary_metric}"] = position.best_score

    score: Score | None = None
    if parts.test is not None:
        emit(StageEvent(stage="test"))
        score = evaluate(parts.student, parts.task, parts.test, device, should_stop=should_stop)
        if score is None:
            return JobResult("stopped", "stopped", iteration=position.iteration)
        emit(evaluation_event(score, "student", "test", position.iteration))
        values = {f"test/{k}": v for k, v in score.metrics.items()}
        metrics |= values
        primary = parts.task.primary_metric
        emit(
            LogEvent(
                message=f"test {primary} {score.metrics[primary]:.2f}, checkpoint of iteration {_chosen(spec, outcome)}"
            )
        )
        emit(MetricsEvent(iteration=position.iteration, **finite_or_null(values)))

    if parts.averaged is not None:
        found = _averaged(parts, emit, should_stop, position.iteration)
        if found is None:
            return JobResult("stopped", "stopped", iteration=position.iteration)
        metrics |= found

    if not first:
        return JobResult("succeeded", outcome.reason, iteration=position.iteration)
    ranks.plain_norm(parts.student)
    finished = deliver(built, data, run, metrics=metrics, test=score, emit=emit, should_stop=should_stop)
    if finished is None:
        return JobResult("stopped", "stopped", iteration=position.iteration)
    metrics |= finished
    emit(StageEvent(stage="done"))
    return JobResult(
        "succeeded",
        outcome.reason,
        metrics=metrics,
        weights_digest=weights_digest(parts.student.state_dict()),
        iteration=position.iteration,
    )


def _averaged(parts: Parts, emit: Emit, should_stop: Callable[[], bool], iteration: int) -> dict[str, float] | None:
    """The score over several views of the images, as `test_ms/<metric>` (`val_ms` without a test split); None on a stop.

    Only here: it costs about twenty passes, and selecting a checkpoint by it would select for what no exported file does.
    """
    split, data = ("test", parts.test) if parts.test is not None else ("val", parts.val)
    emit(StageEvent(stage="test", detail="multi-scale"))
    score = evaluate(parts.student, parts.task, data, parts.device, predict=parts.averaged, should_stop=should_stop)
    if score is None:
        return None
    values = {f"{split}_ms/{name}": value for name, value in score.metrics.items()}
    primary = parts.task.primary_metric
    emit(LogEvent(message=f"{split} {primary} over scales and mirrored images: {score.metrics[primary]:.2f}"))
    emit(MetricsEvent(iteration=iteration, **finite_or_null(values)))
    return values


def _chosen(spec: JobSpec, outcome: Outcome) -> int | None:
    position = outcome.position
    return position.best_iteration if spec.checkpoint.select == "best" else position.iteration


def _profile(parts: Parts, spec: JobSpec, emit: Emit) -> None:
    size = parts.input_size
    networks: list[tuple[Any, Any, Any]] = [("student", parts.student, spec.student)]
    if parts.teacher is not None:
        networks.insert(0, ("teacher", parts.teacher, spec.teacher))
    for role, network, described in networks:
        if isinstance(network, Resized):  # resizing is no part of the network
            facts = profile_model(network.inner, *network.seen(size))
        else:
            facts = profile_model(network, *size)
        emit(
            ProfileEvent(
                role=role, arch=network_label(described), parameters=facts.parameters, macs=facts.macs,
                latency_ms=facts.latency_ms, latency_conditions=facts.conditions,
            )
        )  # fmt: skip


def _unscored(teacher: TeacherSpec, emit: Emit) -> dict[str, float]:
    """A teacher that gives features and no boxes: nothing to score, which has to be said."""
    info = ErrorInfo(
        code="teacher.unscored",
        message="the teacher gives features only, so nobody has checked what it knows",
        hint="a wrong preprocess or wrong weights go unseen: compare the student with one trained alone",
        field="teacher",
    )
    if teacher.expect is not None:
        raise CoreError(
            info.code, "the teacher gives features only: there is no score to expect", field="teacher.expect",
            hint="leave teacher.expect out",
        )  # fmt: skip
    emit(AlarmEvent(iteration=0, severity="warning", info=info))
    return {}


def _check_teacher(parts: Parts, spec: JobSpec, emit: Emit, should_stop: Callable[[], bool]) -> dict[str, float] | None:
    """Scores the teacher on the split that selects, before anything learns from it. None when asked to stop.

    Raises:
        CoreError: `teacher.unexpected_score` outside `expect`, `teacher.below_constant` when always naming one class
            would score better (wrong preprocessing, wrong weights, permuted classes) and no `expect` says otherwise.
    """
    assert parts.teacher is not None
    assert spec.teacher is not None
    started, primary = time.monotonic(), parts.task.primary_metric
    if isinstance(parts.teacher, TaskModel) and not parts.teacher.scorable:
        return _unscored(spec.teacher, emit)
    score = evaluate(parts.teacher, parts.task, parts.val, parts.device, should_stop=should_stop)
    if score is None:
        return None
    emit(evaluation_event(score, "teacher", "val", 0))
    value = score.metrics[primary]
    emit(LogEvent(message=f"teacher scores {value:.2f} {primary} on val ({time.monotonic() - started:.1f} s)"))
    expect = spec.teacher.expect
    expected = None if expect is None else getattr(expect, primary)
    if expect is not None and (misfit := other_metric(expect, spec.task)) is not None:
        raise CoreError.of(misfit)
    if expect is not None and expected is not None and abs(value - expected) > expect.tolerance:
        raise CoreError(
            "teacher.unexpected_score",
            f"the teacher scores {value:.2f}, expected {expected:.2f} ± {expect.tolerance:.2f}",
            hint="check teacher.preprocess (order, range, mean, std), align_corners, and the class order",
            field="teacher.expect",
            value=round(value, 2),
        )
    constant = ranks.from_first(lambda: parts.task.constant_score(batch.targets for batch in parts.val))
    if value <= constant:
        info = ErrorInfo(
            code="teacher.below_constant",
            message=f"the teacher scores {value:.2f}, no better than the best constant answer ({constant:.2f})",
            hint="check teacher.preprocess and the weights; to use it all the same, state `teacher.expect`",
            field="teacher",
            value=round(value, 2),
        )
        if expect is None:
            raise CoreError.of(info)
        emit(AlarmEvent(iteration=0, severity="error", info=info))
    return score.metrics
