"""PKD: Cao, Zhang, Gao, Cheng, Cheng, Zhang, "PKD: General Distillation Framework for Object Detectors via Pearson
Correlation Coefficient", NeurIPS 2022, arXiv 2207.02039.

The Pearson loss. Each channel is brought to zero mean and unit deviation over the m = N H W values of the batch,
in both networks, and the halved mean squared difference is taken:

    L = weight * 1/C * sum_c 1/(2m) * sum_i (s^_ci - t^_ci)^2   =   weight * mean over channels of (1 - r(s_c, t_c))

with Pearson's r: only the pattern of a channel is taught, not its scale or offset. Weight 6; 10 for different families.

Choices the paper leaves open: the deviation is the population's (over m, not m - 1), which makes the identity exact;
levels are added; 1x1 alignment where channels differ; the student is resized to the teacher's map.
Deviation: eps under the root. Without it a constant channel is 0/0.
The statistics are over the images of one forward pass: with `batch.accumulate` these are fewer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from acamkd_core.methods.align import Align
from acamkd_core.methods.base import LevelPair, Method, StepContext
from acamkd_core.spec.methods import PkdTerm


def standardise(maps_NCHW: Tensor, eps: float) -> Tensor:
    """Each channel over (N, H, W) to zero mean and unit (population) deviation; constant channels become 0."""
    variance, mean = torch.var_mean(maps_NCHW, dim=(0, 2, 3), correction=0, keepdim=True)
    return (maps_NCHW - mean) * (variance + eps).rsqrt()


def correlation_loss(student_NCHW: Tensor, teacher_NCHW: Tensor, eps: float) -> Tensor:
    """Mean over channels of 1 - Pearson's r (eps 0). Scalar."""
    return (standardise(student_NCHW, eps) - standardise(teacher_NCHW, eps)).square().mean() / 2


class Pkd(Method):
    """`pkd`: one term, `pkd`."""

    name = "pkd"
    options: PkdTerm

    def __init__(self, options: PkdTerm, pairs: list[LevelPair], *, num_classes: int) -> None:
        super().__init__(options, pairs, num_classes=num_classes)
        self.align = nn.ModuleList(Align(pair) for pair in pairs)

    def forward(self, ctx: StepContext) -> dict[str, Tensor]:
        terms = []
        for align in self.align:
            student, teacher = align(ctx)
            with torch.autocast(student.device.type, enabled=False):
                terms.append(correlation_loss(student, teacher, self.options.eps))
        return {"pkd": self.options.weight * torch.stack(terms).sum()}
