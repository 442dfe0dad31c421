"""The training loop: read it top to bottom. Every side effect is one visible call; there are no hooks and no globals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from acamkd_core import ranks
from acamkd_core.engine import checkpoint as ckpt
from acamkd_core.engine import pull
from acamkd_core.engine.evaluate import Score, draw_panels, evaluate, evaluation_event
from acamkd_core.engine.learner import Learner
from acamkd_core.engine.optim import build_optimizer, rate, set_rate
from acamkd_core.engine.parts import Emit, Parts, Run
from acamkd_core.engine.precision import TYPES
from acamkd_core.engine.prepare import Preparation
from acamkd_core.engine.savings import compiled
from acamkd_core.engine.step import Buffers, NonFiniteLoss, clip_or_refuse, forward_backward
from acamkd_core.engine.teacher import Teacher
from acamkd_core.engine.watch import Clock, Watch, finite_or_null
from acamkd_core.memory import is_out_of_memory
from acamkd_core.spec.errors import CoreError, ErrorInfo
from acamkd_core.spec.events import AlarmEvent, CheckpointEvent, LogEvent, MetricsEvent, RewoundEvent, StageEvent
from acamkd_core.spec.job import JobSpec

OWN_LEARNING = ("diversity", "diffusion", "autoencoder")
"""Last parts of the names of terms that shape a method's masks and networks, and do not teach the student."""


@dataclass
class Outcome:
    """How training ended: `stopped` on request, `early_stop`, or `done`; and the weights to go on with."""

    reason: str
    position: ckpt.Position
    best_student: dict[str, Tensor]
    last_student: dict[str, Tensor]


def train(
    parts: Parts,
    spec: JobSpec,
    run: Run,
    *,
    emit: Emit,
    should_stop: Callable[[], bool],
    mask_picture: Callable[[np.ndarray], np.ndarray],
    teacher_metrics: dict[str, float] | None = None,
) -> Outcome:
    """Trains `parts.student` until the schedule, an early stop or `should_stop` ends it.

    Of several processes each has its share of every batch, all come to the same ends at the same steps, and `emit` and the
    run's folder are rank 0's: what the others say goes nowhere.

    Raises:
        NonFiniteLoss: before the optimizer saw the bad loss or gradient; a checkpoint of the last finite state was written.
        CoreError: `out_of_memory` when half the batch did not fit either, `disk.full`, `checkpoint.*`.
    """
    student, methods, device = parts.student, parts.method_modules, parts.device
    first_rank = ranks.rank() == 0
    optimizer = build_optimizer(spec.optimizer, student, methods)
    scaler = torch.amp.GradScaler(device.type, enabled=spec.train.precision == "fp16" and device.type == "cuda")
    preparation = Preparation(parts, spec)
    average = _clone(student) if spec.train.ema else None
    position = ckpt.Position(accumulate=spec.batch.accumulate, teacher_metrics=teacher_metrics or {})
    best: dict[str, Tensor] | None = None
    clock = Clock(parts.iterations, parts.global_batch, run.device_seconds)

    if run.resume is not None:
        state = ckpt.load(run.resume, spec)
        student.load_state_dict(state.student)
        methods.load_state_dict(state.methods)
        optimizer.load_state_dict(state.optimizer)
        scaler.load_state_dict(state.scaler)
        preparation.load(state.preparation)
        position, best, average = state.position, state.best_student, state.ema
        clock.device_seconds = max(run.device_seconds, state.device_seconds)
        emit(RewoundEvent(iteration=position.iteration, attempt=run.attempt))

    folder = ckpt.CheckpointFolder(run.folder / "checkpoints", position)

    def snapshot() -> ckpt.Checkpoint:
        return ckpt.Checkpoint(
            position=position, student=student.state_dict(), methods=methods.state_dict(), optimizer=optimizer.state_dict(),
            scaler=scaler.state_dict(), ema=average, best_student=best, device_seconds=clock.device_seconds, spec=spec.model_dump_json(),
            preparation=preparation.state(),
        )  # fmt: skip

    def save(is_best: bool, metrics: dict[str, float]) -> None:
        if not first_rank:
            return
        path = folder.write(snapshot(), is_best=is_best)
        emit(
            CheckpointEvent(
                iteration=position.iteration,
                path=str(path.relative_to(run.folder)),
                is_best=is_best,
                is_last=True,
                metrics=metrics,
            )
        )

    def outcome(reason: str) -> Outcome:
        last = average if average is not None else _clone(student)
        return Outcome(reason, position, best if best is not None else last, last)

    watch = Watch(position, emit)
    before = Buffers(student, methods)
    log_every = max(1, parts.iterations // 2000)
    # Diagnosing repeats a method's forward pass: at most 60 times a run.
    diagnose_every = max(1, parts.iterations // 60)
    tell_every = max(1, parts.iterations // 50)
    milestones = [m * (parts.batches_per_epoch if spec.schedule.epochs else 1) for m in spec.schedule.milestones]
    student.train()
    methods.train()
    teacher = Teacher(parts, spec, position)
    teacher.choose(lambda: next(parts.train(0)), emit)
    core = Learner(parts)
    fast = compiled(student, *_trial(parts, spec, position), emit) if spec.train.compile else None
    core.run = fast or core.run
    measurable = pull.is_possible(spec.train, compiled=fast is not None)
    learner = ranks.together(core)
    if not preparation.run(position, clock, emit=emit, should_stop=should_stop, save=lambda: save(False, {})):
        return outcome("stopped")
    batches = parts.train(position.iteration)
    emit(StageEvent(stage="train"))
    clock.start()
    if (event := clock.progress(position.iteration, parts.batches_per_epoch)) is not None:
        emit(event)

    while True:
        due = position.iteration > 0 and (
            position.iteration % parts.evaluate_every == 0 or position.iteration == parts.iterations
        )
        # `evaluated` is in the checkpoint: a stop in the middle of an evaluation repeats it after the resume.
        if due and position.evaluated != position.iteration:
            with _weights(student, average):
                ranks.copy_from_first(student.buffers())
                score = evaluate(student, parts.task, parts.val, device, should_stop=should_stop)
                if score is not None:
                    position.evaluated = position.iteration
                    is_best = _note_score(position, score.metrics[parts.task.primary_metric])
                    if is_best:
                        best = _clone(student)
                    emit(evaluation_event(score, "student", "val", position.iteration, is_best))
                    emit(LogEvent(message=_line(position, parts, score, is_best)))
                    named = _named(score, parts.task.class_metric, clock)
                    emit(MetricsEvent(iteration=position.iteration, **finite_or_null(named)))
                    first = position.iteration <= parts.evaluate_every
                    if first_rank:
                        for panel in draw_panels(
                            parts, run.folder, position.iteration, first=first, mask_picture=mask_picture
                        ):
                            emit(panel)
            # Only here: inside, the student holds its averaged weights, and a checkpoint needs the trained ones.
            if score is None:
                save(False, {})
                return outcome("stopped")
            save(is_best, {f"val/{k}": v for k, v in score.metrics.items()})
            clock.resume()
        # Not only after an evaluation of this attempt: one that was killed after its last checkpoint ends here too.
        if spec.evaluation.early_stop and position.evaluations_without_gain >= spec.evaluation.early_stop:
            emit(LogEvent(message=f"no gain in {spec.evaluation.early_stop} evaluations: stopping early"))
            return outcome("early_stop")
        if position.iteration >= parts.iterations:
            return outcome("done")
        if ranks.any_of(should_stop()):
            save(False, {})
            return outcome("stopped")

        step = position.iteration
        with clock.waiting():
            batch = next(batches)
        lr = rate(spec.schedule, spec.optimizer.lr, step, parts.iterations, milestones)
        set_rate(optimizer, lr)
        logging = (step + 1) % log_every == 0 or step % diagnose_every == 0
        before.keep()
        try:
            watching = watch if first_rank and step % diagnose_every == 0 else None
            terms, scalars = forward_backward(
                learner, teacher, parts, spec, scaler, batch, position, watching,
                pull_too=measurable and pull.is_due(step, diagnose_every),
            )  # fmt: skip
            clip_or_refuse(optimizer, scaler, spec.train.grad_clip, step, terms)
        except NonFiniteLoss as error:
            before.restore()
            save(False, {})
            emit(MetricsEvent(iteration=step + 1, **finite_or_null({f"loss/{k}": v for k, v in error.terms.items()})))
            raise
        except Exception as error:
            # A process that starts a step anew would leave the others waiting in it.
            if not is_out_of_memory(error) or ranks.world() > 1:
                raise
            _halve(position, spec, error, emit)
            before.restore()
            optimizer.zero_grad(set_to_none=True)
            batches = parts.train(step)
            continue
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        if average is not None and spec.train.ema:
            _update_average(average, student, spec.train.ema)
        position.iteration = step + 1
        clock.stepped()
        teacher.expect(parts.batches_per_epoch * parts.global_batch, emit)

        if logging:
            watch.terms(position.iteration, terms)
            watch.pull(position.iteration, scalars.get("kd/pull"), spec.distill)
            emit(
                MetricsEvent(
                    iteration=position.iteration,
                    **finite_or_null(_loss_values(terms, lr, scalars, bool(parts.methods))),
                )
            )
        if (event := clock.progress(position.iteration, parts.batches_per_epoch)) is not None:
            emit(event)
            watch.starvation(position.iteration, event.data_wait)
        if position.iteration == 1 or position.iteration % tell_every == 0:
            told = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
            emit(LogEvent(message=f"iteration {position.iteration}/{parts.iterations}: {told}, lr {lr:.3g}"))
        if position.iteration % parts.checkpoint_every == 0 and position.iteration % parts.evaluate_every:
            save(False, {})


def _trial(parts: Parts, spec: JobSpec, position: ckpt.Position) -> tuple[Tensor, Callable[[], torch.autocast]]:
    """Images of one pass as the student will see them, and the autocast they are seen in."""
    images = next(parts.train(0)).images
    images = images[: len(images) // position.accumulate].to(parts.device)
    if spec.train.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    kind, enabled = TYPES[spec.train.precision], spec.train.precision != "fp32"
    return images, lambda: torch.autocast(parts.device.type, dtype=kind, enabled=enabled)


def _note_score(position: ckpt.Position, score: float) -> bool:
    """Records a validation score; True when it is the best so far."""
    if position.best_score is None or score > position.best_score:
        position.best_score, position.best_iteration = score, position.iteration
        position.evaluations_without_gain = 0
        return True
    position.evaluations_without_gain += 1
    return False


def _line(position: ckpt.Position, parts: Parts, score: Score, is_best: bool) -> str:
    """An evaluation as a line of the log."""
    primary = parts.task.primary_metric
    return (
        f"iteration {position.iteration}/{parts.iterations}: val {primary} {score.metrics[primary]:.2f}"
        f"{' (best so far)' if is_best else f' (best {position.best_score:.2f} at {position.best_iteration})'}, {score.seconds:.1f} s"
    )


def _named(score: Score, class_metric: str, clock: Clock) -> dict[str, float]:
    """A validation score as metric points."""
    values = {f"val/{name}": value for name, value in score.metrics.items()}
    values |= {f"val/{class_metric}/{name}": value for name, value in score.per_class.items() if value is not None}
    # The only figure that is not repeatable: it lets charts use device time as their x axis.
    return values | {"time/device_seconds": clock.device_seconds}


def _loss_values(terms: dict[str, float], lr: float, scalars: dict[str, float], distilled: bool) -> dict[str, float]:
    """Terms, learning rate and diagnostics of a step as metric points."""
    total = sum(terms.values())
    values = {f"loss/{name}": value for name, value in terms.items()} | {"loss/total": total, "lr": lr} | scalars
    # What a method's own parts learn from is no part of what the student hears from its teacher.
    heard = {name: value for name, value in terms.items() if name.rpartition("/")[2] not in OWN_LEARNING}
    if distilled and (whole := sum(heard.values())):
        values["kd/share"] = sum(value for name, value in heard.items() if not pull.is_supervised(name)) / whole
    # A detector's loss has parts (task/class, task/box); charts and tables want one number for every task.
    if "task" not in terms:
        values["loss/task"] = sum(value for name, value in terms.items() if name.startswith("task/"))
    return values


def _halve(position: ckpt.Position, spec: JobSpec, error: Exception, emit: Emit) -> None:
    """One retry with half the batch and doubled accumulation, said aloud; a second failure is final.

    Below four images there is nothing to halve: batch norm cannot learn from a single image.
    """
    micro = spec.batch.global_size // position.accumulate
    if not spec.train.oom_retry or position.oom_retried or micro < 4:
        raise CoreError(
            "out_of_memory",
            f"a batch of {micro} images does not fit into memory",
            hint=f"retry with batch.accumulate={position.accumulate * 2}, a smaller crop, or a lower precision",
            field="batch.accumulate",
            value=position.accumulate,
        ) from error
    position.accumulate *= 2
    position.oom_retried = True
    info = ErrorInfo(
        code="out_of_memory.retry",
        message=f"out of memory: going on with {micro // 2} images a pass and {position.accumulate} passes a step",
        hint="batch norm sees smaller batches from here on: scores can differ slightly",
        field="batch.accumulate",
        value=position.accumulate,
    )
    emit(AlarmEvent(iteration=position.iteration, severity="warning", info=info))
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _clone(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


@torch.no_grad()
def _update_average(average: dict[str, Tensor], module: nn.Module, decay: float) -> None:
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            average[name].lerp_(tensor, 1.0 - decay)
        else:
            average[name].copy_(tensor)


class _weights:
    """Puts the averaged weights into the student for an evaluation, and the trained ones back."""

    def __init__(self, module: nn.Module, average: dict[str, Tensor] | None) -> None:
        self.module, self.average = module, average

    def __enter__(self) -> None:
        if self.average is not None:
            self.trained = _clone(self.module)
            self.module.load_state_dict(self.average)

    def __exit__(self, *_: object) -> None:
        if self.average is not None:
            self.module.load_state_dict(self.trained)


__all__ = ["NonFiniteLoss", "Outcome", "train"]
