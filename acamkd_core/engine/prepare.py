"""What methods learn from the frozen teacher before distillation: their pre-stages, as one stage of the run.

All methods' pre-stages run side by side, so that one pass of the teacher a step serves them all. The stage sees the
training batches from the first on, in float32 (it has no loss scaling), and its time counts as device time. A checkpoint
knows where the stage is (`Position.prepared`) and its optimizer, so a resume goes on exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch

from acamkd_core import ranks
from acamkd_core.engine import checkpoint as ckpt
from acamkd_core.engine.parts import Emit, Parts
from acamkd_core.engine.randomness import seed_torch
from acamkd_core.engine.step import NonFiniteLoss, clip_or_refuse, split
from acamkd_core.engine.teacher import teach
from acamkd_core.engine.watch import Clock
from acamkd_core.methods.base import Method, PreStage
from acamkd_core.models.base import TaskModel
from acamkd_core.spec.events import LogEvent, StageEvent
from acamkd_core.spec.job import JobSpec

MOMENTUM, POWER = 0.9, 0.9
LINES = 10  # in the log


class Preparation:
    """The pre-stages of a run: `iterations` steps in all, none when no method has one."""

    def __init__(self, parts: Parts, spec: JobSpec) -> None:
        self.parts, self.spec = parts, spec
        self.stages: list[tuple[Method, PreStage]] = [
            (method, stage) for method in parts.methods if (stage := method.pre_stage) is not None and stage.iterations
        ]
        self.iterations = max((stage.iterations for _, stage in self.stages), default=0)
        groups = [
            {"params": stage.parameters, "lr": stage.lr, "weight_decay": stage.weight_decay} for _, stage in self.stages
        ]
        self.optimizer = torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM) if groups else None

    def state(self) -> dict[str, Any] | None:
        """The optimizer's state, for a checkpoint."""
        return self.optimizer.state_dict() if self.optimizer is not None else None

    def load(self, state: dict[str, Any] | None) -> None:
        """Takes over what `state` gave."""
        if self.optimizer is not None and state is not None:
            self.optimizer.load_state_dict(state)

    def run(
        self,
        position: ckpt.Position,
        clock: Clock,
        *,
        emit: Emit,
        should_stop: Callable[[], bool],
        save: Callable[[], None],
    ) -> bool:
        """Does what is left. False when `should_stop` ended it, after a checkpoint.

        Raises:
            NonFiniteLoss: before the tokens saw the bad gradient.
        """
        if position.prepared >= self.iterations:
            return True
        names = ", ".join(method.name for method, _ in self.stages)
        emit(StageEvent(stage="prepare", detail=names))
        batches = self.parts.train(position.prepared)
        parameters = [parameter for _, stage in self.stages for parameter in stage.parameters]
        clock.resume()
        try:
            for parameter in parameters:
                parameter.requires_grad_(True)
            while position.prepared < self.iterations:
                if ranks.any_of(should_stop()):
                    save()
                    return False
                terms = self._step(next(batches), position)
                position.prepared += 1
                clock.spent()
                # Iteration 0, and no rate yet: it says that the run is alive, and what the stage costs.
                if (event := clock.progress(position.iteration, self.parts.batches_per_epoch)) is not None:
                    emit(event)
                if position.prepared % max(1, self.iterations // LINES) == 0:
                    told = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
                    emit(LogEvent(message=f"{names}: preparing {position.prepared}/{self.iterations}: {told}"))
                if position.prepared % self.parts.checkpoint_every == 0 or position.prepared == self.iterations:
                    save()
                    clock.resume()
        finally:
            for parameter in parameters:
                parameter.requires_grad_(False)
                parameter.grad = None
        return True

    def _step(self, batch: Any, position: ckpt.Position) -> dict[str, float]:
        assert self.optimizer is not None
        step, parts = position.prepared, self.parts
        running = [(method, stage) for method, stage in self.stages if step < stage.iterations]
        for (_, stage), group in zip(self.stages, self.optimizer.param_groups, strict=True):
            group["lr"] = stage.lr * max(0.0, 1.0 - step / stage.iterations) ** POWER
        sums: dict[str, float] = {}
        for number, (images, targets) in enumerate(split(batch.images, batch.targets, position.accumulate)):
            seed_torch(self.spec.seed, "prepare", step, number, *ranks.own_seed())
            share = images.shape[0] / batch.images.shape[0]
            images = images.to(parts.device, non_blocking=True)
            if self.spec.train.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            out = teach(parts, images)
            for method, _ in running:
                prepared = method.prepare(out)
                terms = dict(prepared.terms)
                for entered in cast(TaskModel, parts.teacher).onward(prepared.replaced):
                    for name, value in parts.task.loss(cast(TaskModel, parts.teacher), entered, targets).items():
                        name = f"{method.name}/{name}"
                        terms[name] = terms[name] + value if name in terms else value
                total = torch.stack(list(terms.values())).sum()
                *values, whole = ranks.means([float(value.detach()) for value in (*terms.values(), total)])
                current = dict(zip(terms, values, strict=True))
                if not math.isfinite(whole):
                    raise NonFiniteLoss(0, current)
                (total * share).backward()
                for name, number_value in current.items():
                    sums[name] = sums.get(name, 0.0) + number_value * share
        ranks.average_gradients(parameter for _, stage in running for parameter in stage.parameters)
        clip_or_refuse(self.optimizer, torch.amp.GradScaler(enabled=False), None, -1, sums)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return sums
