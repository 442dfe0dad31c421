"""Bring a student's map to the teacher's channels and size, and both to full precision, before they are compared.

Shape legend: N batch, C teacher channels, H W positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acamkd_core import ranks
from acamkd_core.methods.base import LevelPair, Method, StepContext
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.fit import MAX_RESIZE


def constant(tensor: Tensor) -> Tensor:
    """The tensor without gradient, fit to be saved for backward (a tensor of inference mode is not: it is copied)."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


def full_precision(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 become float32; float32 and float64 stay. Squares and exponentials overflow in half."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def channel_moments(maps_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """(population variance, mean) of each channel over (N, H, W), both 1 C 1 1; over the images of all processes."""
    if ranks.world() == 1:
        variance, mean = torch.var_mean(maps_NCHW, dim=(0, 2, 3), correction=0, keepdim=True)
        return variance, mean
    # Images may be padded to another size in another process: sums, not means of means.
    values = ranks.total(maps_NCHW.numel() / maps_NCHW.shape[1])
    mean = ranks.added(maps_NCHW.sum(dim=(0, 2, 3), keepdim=True)) / values
    return ranks.added((maps_NCHW - mean).square().sum(dim=(0, 2, 3), keepdim=True)) / values, mean


def refuse_far(have: tuple[int, int], size: tuple[int, int], *, level: str) -> None:
    """Refuses two maps whose sizes are too far apart to be compared.

    Raises:
        CoreError: `method.size_mismatch` when a side differs by more than a factor of 4: that is two different levels.
    """
    factor = max(max(a, b) / min(a, b) for a, b in zip(have, size, strict=True))
    if factor > MAX_RESIZE:
        raise CoreError(
            "method.size_mismatch",
            f"level {level!r}: the student's map is {have[0]}x{have[1]}, the teacher's {size[0]}x{size[1]}",
            hint=f"compare levels whose sizes differ by at most a factor of {MAX_RESIZE:g} (`at`, `teacher_at`)",
            field="at",
            value=level,
        )


def match_size(student_NCHW: Tensor, size: tuple[int, int], *, level: str) -> Tensor:
    """The student's map at the teacher's size, bilinear (corners not aligned); the same tensor when sizes agree.

    Raises:
        CoreError: see `refuse_far`.
    """
    have = (student_NCHW.shape[-2], student_NCHW.shape[-1])
    if have == size:
        return student_NCHW
    refuse_far(have, size, level=level)
    return F.interpolate(student_NCHW, size=size, mode="bilinear", align_corners=False)


class Align(nn.Module):
    """f_align of one level: a 1x1 convolution where channels differ (FitNets), none where they agree, then the size.

    `ACAM-KD`, `FitNets` and most feature methods do this; whether to adapt equal channels too is left open by most
    papers. Here equal channels are compared as they are, so that class scores keep their meaning.
    """

    def __init__(self, pair: LevelPair) -> None:
        super().__init__()
        self.pair = pair
        same = pair.student.channels == pair.teacher.channels
        self.adapter = None if same else nn.Conv2d(pair.student.channels, pair.teacher.channels, kernel_size=1)

    def forward(self, ctx: StepContext) -> tuple[Tensor, Tensor]:
        """(student, teacher), both N C H W of the teacher's shape; the teacher's carries no gradient.

        Raises:
            CoreError: see `match_size`.
        """
        student = full_precision(ctx.student.features[self.pair.name])
        teacher = full_precision(constant(ctx.teacher.features[self.pair.teacher_name]))
        with torch.autocast(student.device.type, enabled=False):
            if self.adapter is not None:
                student = self.adapter(student)
            student = match_size(student, (teacher.shape[-2], teacher.shape[-1]), level=self.pair.name)
        return student, teacher


class AlignedMethod(Method):
    """Base of methods that compare aligned maps level by level and add the results: one term, named as the method."""

    def __init__(self, options: Any, pairs: list[LevelPair], *, num_classes: int) -> None:
        super().__init__(options, pairs, num_classes=num_classes)
        self.align = nn.ModuleList(Align(pair) for pair in pairs)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Unweighted scalar of one level; both maps N C H W in full precision, outside of autocast."""
        raise NotImplementedError

    def scale(self, step: int) -> float:
        """Factor on the sum over levels at this iteration."""
        return float(self.options.weight)

    def forward(self, ctx: StepContext) -> dict[str, Tensor]:
        values = []
        for align in self.align:
            student, teacher = align(ctx)
            with torch.autocast(student.device.type, enabled=False):
                values.append(self.compare(student, teacher))
        return {self.name: self.scale(ctx.step) * torch.stack(values).sum()}
