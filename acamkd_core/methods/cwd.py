"""CWD: Shu, Liu, Gao, Yan, Shen, "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021, arXiv 2011.13256.

Section 3.2 (channel-wise distillation). Each channel of a map is softened to a distribution over its P positions,

    phi(y_c)_p = exp(y_cp / tau) / sum_q exp(y_cq / tau)
    L = weight * tau^2 / C * sum_c KL( phi(t_c) || phi(s_c) ),   mean over the batch

so a channel's scale and offset matter less than where it is large. tau 4; weight 3 on class scores, 50 on features.

Choices the paper leaves open: levels are added; 1x1 alignment where channels differ (the paper's "1x1 convolution when
the number of channels mismatches"), none where they agree; the student is resized to the teacher's map. Deviations: none.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from acamkd_core.methods.align import AlignedMethod
from acamkd_core.spec.methods import CwdTerm


def channel_divergence(student_NCHW: Tensor, teacher_NCHW: Tensor, temperature: float) -> Tensor:
    """tau^2 KL(teacher || student) of distributions over positions, mean over channels and images. Scalar."""
    student_log = F.log_softmax(student_NCHW.flatten(2) / temperature, dim=2)
    teacher_log = F.log_softmax(teacher_NCHW.flatten(2) / temperature, dim=2)
    divergence_NC = (teacher_log.exp() * (teacher_log - student_log)).sum(dim=2)
    return divergence_NC.mean() * temperature**2


class Cwd(AlignedMethod):
    """`cwd`: one term, `cwd`."""

    name = "cwd"
    options: CwdTerm

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return channel_divergence(student, teacher, self.options.temperature)
