"""CanKD: Sun, Ohyama, "CanKD: Cross-Attention-based Non-local operation for Feature-based Knowledge Distillation",
WACV 2026, arXiv 2511.21503.

Every position of the student asks all positions of the teacher (a non-local block whose keys and values are another
network's), and what comes out is compared with the teacher. S is the aligned student's map, T the teacher's, K the number
of keys, C_q = floor(C / 2) channels inside:

    Q = W_q S,   K = pool2x2(W_k T),   V = pool2x2(W_v T)                  pool2x2: the largest of 2 x 2 positions
    Y = V (Q^T K / K)^T                                                    a dot product, no softmax
    Z = S + BN(W_z Y)                                                      the batch norm's scale and shift start at 0
    L = weight / 2 * mean( (IN(Z) - IN(T))^2 )                             IN: every channel of every image, eps 1e-5

Weight 5 (the authors' tables; 10 for one segmentation pair). At the start Z = S: the loss is then PKD's, but over one image.

Without a softmax the product is associative: Y = (V K^T / K) Q needs C_q x C_q numbers an image, where the matrix of
positions would need P x P / 4 (16.8 million for P = 8,192). The result is the same up to rounding.

Choices the paper leaves open: 1x1 alignment where channels differ; the student is resized to the teacher's map; levels are
added, each with its own block; a side of one position is not pooled; a map of one position is all 0 behind IN and teaches
nothing. Deviation: W_z has no bias (the batch norm behind it takes every bias off again).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acamkd_core.methods.align import Align
from acamkd_core.methods.base import LevelPair, Method, StepContext
from acamkd_core.spec.methods import CankdTerm

EPS = 1e-5


def instance_norm(maps_NCHW: Tensor) -> Tensor:
    """Each channel of each image to zero mean and unit (population) deviation; constant channels become 0."""
    variance, mean = torch.var_mean(maps_NCHW, dim=(2, 3), correction=0, keepdim=True)
    return (maps_NCHW - mean) * (variance + EPS).rsqrt()


def normalised_distance(fused_NCHW: Tensor, teacher_NCHW: Tensor) -> Tensor:
    """Half the mean squared difference of both maps behind IN. Scalar."""
    return (instance_norm(fused_NCHW) - instance_norm(teacher_NCHW)).square().mean() / 2


def non_local(query_NDP: Tensor, key_NDK: Tensor, value_NDK: Tensor) -> Tensor:
    """V (Q^T K / K)^T, shape N D P, without the P x K matrix."""
    return (value_NDK @ key_NDK.transpose(1, 2) / key_NDK.shape[2]) @ query_NDP


class CrossNonLocal(nn.Module):
    """Z of one level: the student's map plus what it finds in the teacher's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, inner, 1)
        self.out = nn.Conv2d(inner, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)

    def forward(self, student_NCHW: Tensor, teacher_NCHW: Tensor) -> Tensor:
        """N C H W; maps of at least two positions."""
        height, width = teacher_NCHW.shape[2:]
        window = (min(2, height), min(2, width))
        key, value = (F.max_pool2d(ask(teacher_NCHW), window).flatten(2) for ask in (self.key, self.value))
        found_NDHW = non_local(self.query(student_NCHW).flatten(2), key, value).unflatten(2, (height, width))
        fused: Tensor = student_NCHW + self.norm(self.out(found_NDHW))
        return fused


class CankdLevel(nn.Module):
    """Alignment and the block of one level."""

    def __init__(self, pair: LevelPair) -> None:
        super().__init__()
        self.align = Align(pair)
        self.block = CrossNonLocal(pair.teacher.channels)

    def forward(self, ctx: StepContext) -> Tensor:
        student, teacher = self.align(ctx)
        with torch.autocast(student.device.type, enabled=False):
            if teacher.shape[2:].numel() == 1:
                # Not a constant: whoever waits for gradients (DistributedDataParallel) waits for those of every part.
                return torch.stack([student.sum(), *(p.sum() for p in self.parameters())]).sum() * 0.0
            fused: Tensor = self.block(student, teacher)
            return normalised_distance(fused, teacher)


class Cankd(Method):
    """`cankd`: one term, `cankd`."""

    name = "cankd"
    options: CankdTerm

    def __init__(self, options: CankdTerm, pairs: list[LevelPair], *, num_classes: int) -> None:
        super().__init__(options, pairs, num_classes=num_classes)
        self.levels = nn.ModuleList(CankdLevel(pair) for pair in pairs)

    def forward(self, ctx: StepContext) -> dict[str, Tensor]:
        return {"cankd": self.options.weight * torch.stack([level(ctx) for level in self.levels]).sum()}
