"""FGD: Yang, Li, Jiang, Gong, Yuan, Zhao, Yuan, "Focal and Global Knowledge Distillation for Detectors", CVPR 2022,
arXiv 2111.11837.

Focal part (section 3.1), F a map of C channels and H x W positions, boxes r of H_r x W_r cells:

    M = 1 inside boxes, else 0
    S = 1 / (H_r W_r) inside box r (the smallest box where several overlap), 1 / (number of background cells) outside
    A^S(F) = H W softmax_positions( mean_channels |F| / T ),    A^C(F) = C softmax_channels( mean_positions |F| / T )
    L_fea = alpha sum M S A^S_t A^C_t (t - s)^2  +  beta sum (1 - M) S A^S_t A^C_t (t - s)^2
    L_at  = gamma ( |A^S_t - A^S_s|_1 + |A^C_t - A^C_s|_1 )

Global part (section 3.2), R a global context block (GcBlock):

    R(F) = F + W_2( ReLU( LN( W_1( sum_p softmax_p(W_k F)_p F_p ) ) ) )
    L_global = lambda sum ( R_t(t) - R_s(s) )^2

All sums are over the map, means over the images; levels are added. T 0.5; anchor-based one-stage detectors alpha 1e-3,
beta 5e-4, gamma 1e-3, lambda 5e-6; two-stage 5e-5, 2.5e-5, 5e-5, 5e-7.

Choices the paper leaves open: a box covers every cell that it touches, at least one; teacher and student have a context
block each, both trained, with the last convolution at zero, so that R starts as the identity; W_1 halves the channels;
1x1 alignment where channels differ; the student is resized to the teacher's map; an image without boxes is all
background, and one that boxes fill has no background term. Deviations: none known.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from acamkd_core.methods.align import Align
from acamkd_core.methods.base import LevelPair, Method, StepContext
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.methods import FgdTerm


def box_weights(boxes: list[Tensor], size: tuple[int, int], cell: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """M S and (1 - M) S of every image, each N H W on the CPU in float64.

    Args:
        boxes: K x 4 an image, x1 y1 x2 y2 in pixels.
        size: height and width of the map.
        cell: height and width of one of its cells, in pixels.
    """
    height, width = size
    foreground = torch.zeros(len(boxes), height, width, dtype=torch.float64)
    for image, own in zip(foreground, boxes, strict=True):
        for x1, y1, x2, y2 in own.detach().double().cpu().tolist():
            left, right = _covered(x1 / cell[1], x2 / cell[1], width)
            top, bottom = _covered(y1 / cell[0], y2 / cell[0], height)
            region = image[top:bottom, left:right]
            # The larger weight is the smaller box's.
            region.clamp_(min=1.0 / ((bottom - top) * (right - left)))
    background = (foreground == 0).double()
    background /= background.sum(dim=(1, 2), keepdim=True).clamp_min(1.0)
    return foreground, background


def _covered(start: float, end: float, cells: int) -> tuple[int, int]:
    """First cell and the one after the last that [start, end] touches, inside a row of `cells`."""
    first = min(max(math.floor(start), 0), cells - 1)
    return first, min(max(math.ceil(end), first + 1), cells)


def attention(maps_NCHW: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """A^S (N H W, sums to H W) and A^C (N C, sums to C) of each image."""
    count, channels, height, width = maps_NCHW.shape
    size = maps_NCHW.abs()
    spatial = (size.mean(dim=1).flatten(1) / temperature).softmax(dim=1) * (height * width)
    channel = (size.mean(dim=(2, 3)) / temperature).softmax(dim=1) * channels
    return spatial.view(count, height, width), channel


def focal_losses(
    student_NCHW: Tensor, teacher_NCHW: Tensor, foreground_NHW: Tensor, background_NHW: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(foreground, background, attention): L_fea's two sums and L_at, unweighted, mean over images. Scalars."""
    count = teacher_NCHW.shape[0]
    spatial_t, channel_t = attention(teacher_NCHW, temperature)
    spatial_s, channel_s = attention(student_NCHW, temperature)
    # Squares summed over channels under A^C: no second map of C channels is needed for the two regions.
    energy_NHW = ((teacher_NCHW - student_NCHW).square() * channel_t[:, :, None, None]).sum(dim=1) * spatial_t
    shapes = (spatial_t - spatial_s).abs().sum() + (channel_t - channel_s).abs().sum()
    return (foreground_NHW * energy_NHW).sum() / count, (background_NHW * energy_NHW).sum() / count, shapes / count


class GlobalContext(nn.Module):
    """R(F): a map plus what its attention-pooled vector says, the same at every position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // 2)
        self.key = nn.Conv2d(channels, 1, 1)
        self.transform = nn.Sequential(
            nn.Linear(channels, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )
        last = self.transform[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        share_NP = self.key(maps_NCHW).flatten(1).softmax(dim=1)
        pooled_NC = torch.einsum("ncp,np->nc", maps_NCHW.flatten(2), share_NP)
        moved: Tensor = maps_NCHW + self.transform(pooled_NC)[:, :, None, None]
        return moved


class FgdLevel(nn.Module):
    """Alignment and the two context blocks of one level."""

    def __init__(self, pair: LevelPair) -> None:
        super().__init__()
        self.pair = pair
        self.align = Align(pair)
        self.student_context = GlobalContext(pair.teacher.channels)
        self.teacher_context = GlobalContext(pair.teacher.channels)

    def forward(self, ctx: StepContext, boxes: list[Tensor], temperature: float) -> list[Tensor]:
        """Foreground, background, attention, global: unweighted scalars."""
        student, teacher = self.align(ctx)
        size = (teacher.shape[2], teacher.shape[3])
        # The input's size in pixels, by the student's own map: the two networks may see different sizes.
        own = ctx.student.features[self.pair.name].shape[-2:]
        stride = self.pair.student.stride
        cell = (stride * own[0] / size[0], stride * own[1] / size[1])
        with torch.autocast(student.device.type, enabled=False):
            foreground, background = (weights.to(teacher) for weights in box_weights(boxes, size, cell))
            focal = focal_losses(student, teacher, foreground, background, temperature)
            whole = (self.teacher_context(teacher) - self.student_context(student)).square().sum()
            return [*focal, whole / teacher.shape[0]]


class Fgd(Method):
    """`fgd`: terms `fgd/foreground`, `fgd/background`, `fgd/attention`, `fgd/global`."""

    name = "fgd"
    options: FgdTerm

    def __init__(self, options: FgdTerm, pairs: list[LevelPair], *, num_classes: int) -> None:
        super().__init__(options, pairs, num_classes=num_classes)
        self.levels = nn.ModuleList(FgdLevel(pair) for pair in pairs)

    def forward(self, ctx: StepContext) -> dict[str, Tensor]:
        """Raises CoreError `method.needs_boxes` when the targets hold none (a job is refused before; see `spec.fit`)."""
        boxes = ctx.boxes()
        if boxes is None:
            raise CoreError(
                "method.needs_boxes",
                "fgd needs the boxes of objects, and these targets have none",
                field="method",
                value="fgd",
            )
        options = self.options
        weights = {
            "foreground": options.foreground_weight,
            "background": options.background_weight,
            "attention": options.attention_weight,
            "global": options.global_weight,
        }
        levels = [level(ctx, boxes, options.temperature) for level in self.levels]
        return {
            f"fgd/{name}": options.weight * factor * torch.stack([losses[index] for losses in levels]).sum()
            for index, (name, factor) in enumerate(weights.items())
        }
