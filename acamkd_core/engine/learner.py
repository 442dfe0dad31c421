"""Everything that learns as one module, so that one DistributedDataParallel can hold it: student, adapters, mask units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from acamkd_core.engine.parts import Parts
from acamkd_core.engine.placebo import context_of, without_training
from acamkd_core.methods.base import StepContext
from acamkd_core.models.base import ModelOutput


class Learner(nn.Module):
    """The student's forward pass, the supervised loss, and every method's terms."""

    run: Callable[[Tensor], ModelOutput]
    """The student's forward pass, perhaps compiled."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.run = parts.student.__call__
        self.student, self.methods = parts.student, parts.method_modules
        self._parts = parts  # the teacher in it is no part of the module: it does not learn

    def forward(
        self, images: Tensor, targets: Any, teacher: ModelOutput | None, step: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], StepContext | None]:
        """(named weighted terms, what the methods saw). Methods have no terms without a teacher's output."""
        parts = self._parts
        out = self.run(images)
        terms = dict(parts.task.loss(self.student, out, targets))
        if teacher is None:
            return terms, None
        context = StepContext(
            teacher=teacher, student=parts.as_compared(out), teacher_head=getattr(parts.teacher, "head", None),
            student_head=getattr(self.student, "head", None), targets=targets, step=step, num_steps=parts.iterations,
            generator=generator, random_head=without_training(parts.random_head, images), teacher_zoom=parts.teacher_zoom,
        )  # fmt: skip
        for method in parts.methods:
            for name, value in method(context_of(method, context)).items():
                terms[name] = terms[name] + value if name in terms else value
        return terms, context
