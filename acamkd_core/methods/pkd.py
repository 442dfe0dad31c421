"""PKD: Cao, Zhang, Gao, Cheng, Cheng, Zhang, "PKD: General Distillation Framework for Object Detectors via Pearson
Correlation Coefficient", NeurIPS 2022, arXiv 2207.02039.

The Pearson loss. Each channel is brought to zero mean and unit deviation over the m = N H W values of the batch,
in both networks, and the halved mean squared difference is taken:

    L = weight * 1/C * sum_c 1/(2m) * sum_i (s^_ci - t^_ci)^2   =   weight * mean over channels of (1 - r(s_c, t_c))

with Pearson's r: only the pattern of a channel is taught, not its scale or offset. Weight 6; 10 for different families.

Choices the paper leaves open: the deviation is the population's (over m, not m - 1), which makes the identity exact;
levels are added; 1x1 alignment where channels differ; the student is resized to the teacher's map.
Deviation: eps under the root. Without it a constant channel is 0/0.
The statistics are over the images of one forward pass, of all processes: with `batch.accumulate` these are fewer. The authors'
code takes each GPU's own.
"""

from __future__ import annotations

from torch import Tensor

from acamkd_core.methods.align import AlignedMethod, channel_moments
from acamkd_core.spec.methods import PkdTerm


def standardise(maps_NCHW: Tensor, eps: float) -> Tensor:
    """Each channel over (N, H, W) to zero mean and unit (population) deviation; constant channels become 0."""
    variance, mean = channel_moments(maps_NCHW)
    return (maps_NCHW - mean) * (variance + eps).rsqrt()


def correlation_loss(student_NCHW: Tensor, teacher_NCHW: Tensor, eps: float) -> Tensor:
    """Mean over channels of 1 - Pearson's r (eps 0). Scalar."""
    return (standardise(student_NCHW, eps) - standardise(teacher_NCHW, eps)).square().mean() / 2


class Pkd(AlignedMethod):
    """`pkd`: one term, `pkd`."""

    name = "pkd"
    options: PkdTerm

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return correlation_loss(student, teacher, self.options.eps)
