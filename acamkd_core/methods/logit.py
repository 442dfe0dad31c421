"""Logit distillation: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv 1503.02531.

    L = weight * tau^2 * mean over images and positions of KL( softmax(t / tau) || softmax(s / tau) )

tau^2 keeps the gradient's size independent of tau (section 2 of the paper). The mean is over images *and* positions:
`batchmean` of the usual KL function divides by the batch only, and so grows with the number of pixels.
No adapter is learnt: both networks must score the same classes. Several levels are added.

A detector scores every class by itself, a background among thousands of candidates: there it is the divergence of two yes-or-no
distributions, s = sigmoid(student / tau), t = sigmoid(teacher / tau), summed and divided as the heads' own class loss:

    L = weight * tau^2 / A * sum_{a,k} w_a [ t log(t / s) + (1 - t) log((1 - t) / (1 - s)) ]

with candidates a of the levels of the pairs, classes k, and w_a and A as in `crosskd.py`. The paper knows no detectors; a softmax over
classes that exclude no one would see neither the background nor two classes in one place (Yang et al., "Bridging Cross-task
Protocol Inconsistency for Distillation in Dense Object Detection", ICCV 2023, arXiv 2308.14286).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from acamkd_core.methods.align import constant, full_precision, match_size
from acamkd_core.methods.base import LevelPair, Method, StepContext
from acamkd_core.methods.dense import dense_heads, matched, over_all
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.methods import LogitTerm


def kl_divergence(student_NC: Tensor, teacher_NC: Tensor, temperature: float) -> Tensor:
    """tau^2 KL(teacher || student) over dimension 1, mean over all others. Shapes N C or N C ..., result a scalar."""
    student_log = F.log_softmax(student_NC / temperature, dim=1)
    teacher_log = F.log_softmax(teacher_NC / temperature, dim=1)
    divergence = (teacher_log.exp() * (teacher_log - student_log)).sum(dim=1)
    return divergence.mean() * temperature**2


def binary_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """tau^2 KL(teacher || student) of every logit by itself, as one of two outcomes. Shape of the inputs."""
    s, t = student / temperature, teacher / temperature
    yes = t.sigmoid() * (F.logsigmoid(t) - F.logsigmoid(s))
    no = (-t).sigmoid() * (F.logsigmoid(-t) - F.logsigmoid(-s))
    return (yes + no) * temperature**2


class Logit(Method):
    """`logit`: one term, `logit`."""

    name = "logit"
    options: LogitTerm

    def __init__(self, options: LogitTerm, pairs: list[LevelPair], *, num_classes: int) -> None:
        super().__init__(options, pairs, num_classes=num_classes)
        self.reads_raw = all(pair.name != "logits" for pair in pairs)  # a detector: its scores are no level
        for pair in pairs:
            if not self.reads_raw and pair.student.channels != pair.teacher.channels:
                raise CoreError(
                    "method.classes_differ",
                    f"logit compares class scores, but level {pair.name!r} has {pair.student.channels} channels in the "
                    f"student and {pair.teacher.channels} in the teacher",
                    hint="use feature_mse or acam, which adapt channels",
                    field="at",
                    value=pair.name,
                )

    def forward(self, ctx: StepContext) -> dict[str, Tensor]:
        """Raises CoreError of detectors: the codes of `dense_heads` and `matched`."""
        if self.reads_raw:
            return {"logit": self.options.weight * self._of_candidates(ctx)}
        terms = []
        for pair in self.pairs:
            student = full_precision(ctx.student.features[pair.name])
            teacher = full_precision(constant(ctx.teacher.features[pair.teacher_name]))
            if student.dim() == 4:
                student = match_size(student, (teacher.shape[-2], teacher.shape[-1]), level=pair.name)
            terms.append(kl_divergence(student, teacher, self.options.temperature))
        return {"logit": self.options.weight * torch.stack(terms).sum()}

    def _of_candidates(self, ctx: StepContext) -> Tensor:
        own, other, boxes = dense_heads(ctx, self.name)
        sizes = [getattr(target, "size", None) for target in ctx.targets]
        theirs = [pair.teacher_name for pair in self.pairs]
        student, _ = own.predictions(ctx.student.raw, [pair.name for pair in self.pairs])
        teacher, _ = other.predictions(ctx.teacher.raw, theirs)
        with torch.autocast(teacher.device.type, enabled=False):
            weights, mass = other.assign(ctx.teacher.raw, theirs, boxes, sizes)
            each = binary_divergence(*matched(student, teacher), self.options.temperature)
            return (weights.to(each).unsqueeze(2) * each).sum() / over_all(mass)
