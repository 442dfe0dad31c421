"""Logit distillation: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv 1503.02531.

    L = weight * tau^2 * mean over images and positions of KL( softmax(t / tau) || softmax(s / tau) )

tau^2 keeps the gradient's size independent of tau (section 2 of the paper). The mean is over images *and* positions:
`batchmean` of the usual KL function divides by the batch only, and so grows with the number of pixels.
No adapter is learnt: both networks must score the same classes. Several levels are added.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from acamkd_core.methods.align import constant, full_precision, match_size
from acamkd_core.methods.base import LevelPair, Method, StepContext
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.methods import LogitTerm


def kl_divergence(student_NC: Tensor, teacher_NC: Tensor, temperature: float) -> Tensor:
    """tau^2 KL(teacher || student) over dimension 1, mean over all others. Shapes N C or N C ..., result a scalar."""
    student_log = F.log_softmax(student_NC / temperature, dim=1)
    teacher_log = F.log_softmax(teacher_NC / temperature, dim=1)
    divergence = (teacher_log.exp() * (teacher_log - student_log)).sum(dim=1)
    return divergence.mean() * temperature**2


class Logit(Method):
    """`logit`: one term, `logit`."""

    name = "logit"
    options: LogitTerm

    def __init__(self, options: LogitTerm, pairs: list[LevelPair], *, num_classes: int) -> None:
        super().__init__(options, pairs, num_classes=num_classes)
        for pair in pairs:
            if pair.student.channels != pair.teacher.channels:
                raise CoreError(
                    "method.classes_differ",
                    f"logit compares class scores, but level {pair.name!r} has {pair.student.channels} channels in the "
                    f"student and {pair.teacher.channels} in the teacher",
                    hint="use feature_mse or acam, which adapt channels",
                    field="at",
                    value=pair.name,
                )

    def forward(self, ctx: StepContext) -> dict[str, Tensor]:
        terms = []
        for pair in self.pairs:
            student = full_precision(ctx.student.features[pair.name])
            teacher = full_precision(constant(ctx.teacher.features[pair.teacher_name]))
            if student.dim() == 4:
                student = match_size(student, (teacher.shape[-2], teacher.shape[-1]), level=pair.name)
            terms.append(kl_divergence(student, teacher, self.options.temperature))
        return {"logit": self.options.weight * torch.stack(terms).sum()}
