"""Feature pyramid (Lin et al., CVPR 2017, arXiv 1612.03144), with the two coarse levels of RetinaNet or a pooled one.

Parameter names are torchvision's, so that its detectors' weights are a renaming away.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acamkd_core.models.base import Backbone, Level, at_least_fp32
from acamkd_core.spec.archs import PyramidArch

LEVELS = ("p3", "p4", "p5", "p6", "p7")
STRIDES = (8, 16, 32, 64, 128)
GROUPS = 32  # of group norm, in necks and heads


class Pyramid(nn.Module):
    """c3, c4, c5 to p3 to p7, or c2 to c5 to p2 to p6, all of the same channels.

    p2 or p3 to p5: 1x1 laterals, nearest upsampling, a 3x3 each. p6: 3x3 of stride 2 on c5 or p5, and p7 the same on
    relu(p6); or p6 is every second position of p5, and there is no p7.

    Args:
        inputs: channels of the backbone's levels that are taken, the last being c5's.
        channels: channels of every output.
        p6_from: `c5` (RetinaNet's paper), `p5` (torchvision, FCOS) or `pool` (Faster R-CNN).
        p7_relu: as the paper has it; without it p7 is made of p6 itself (mmdetection's RetinaNet).
        group_norm: behind every convolution, in place of its bias (RepPoints).
    """

    def __init__(
        self, inputs: Sequence[int], channels: int, p6_from: str, *, p7_relu: bool = True, group_norm: bool = False
    ) -> None:
        super().__init__()

        def block(count: int, kernel: int, stride: int = 1) -> nn.Sequential:
            padding = kernel // 2
            conv = nn.Conv2d(count, channels, kernel, stride=stride, padding=padding, bias=not group_norm)
            return nn.Sequential(conv, nn.GroupNorm(GROUPS, channels)) if group_norm else nn.Sequential(conv)

        self.inner_blocks = nn.ModuleList(block(count, 1) for count in inputs)
        self.layer_blocks = nn.ModuleList(block(channels, 3) for _ in inputs)
        first = inputs[-1] if p6_from == "c5" else channels
        self.p6_from, self.p7_relu = p6_from, p7_relu
        if p6_from != "pool":
            extra = {"p6": block(first, 3, stride=2), "p7": block(channels, 3, stride=2)}
            # torchvision's names: the bare convolution where there is no norm.
            self.extra_blocks = nn.ModuleDict({name: one if group_norm else one[0] for name, one in extra.items()})
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Levels by name, finest first."""
        numbers = range(6 - len(self.inner_blocks), 6)
        laterals = [block(features[f"c{number}"]) for block, number in zip(self.inner_blocks, numbers, strict=True)]
        merged = [laterals[-1]]
        for lateral in reversed(laterals[:-1]):
            size = (lateral.shape[-2], lateral.shape[-1])
            merged.insert(0, lateral + F.interpolate(merged[0], size=size, mode="nearest"))
        maps = [block(level) for block, level in zip(self.layer_blocks, merged, strict=True)]
        named = {f"p{number}": one for number, one in zip(numbers, maps, strict=True)}
        if self.p6_from == "pool":
            return {**named, "p6": maps[-1][:, :, ::2, ::2]}
        p6 = self.extra_blocks["p6"](features["c5"] if self.p6_from == "c5" else maps[-1])
        p7 = self.extra_blocks["p7"](F.relu(p6) if self.p7_relu else p6)
        return {**named, "p6": p6, "p7": p7}


def build_pyramid(arch: PyramidArch, backbone: Backbone, *, group_norm: bool = False) -> Pyramid:
    """The neck that fits the backbone."""
    c3, c4, c5 = (backbone.levels[name].channels for name in ("c3", "c4", "c5"))
    return Pyramid((c3, c4, c5), arch.fpn_channels, arch.p6_from, p7_relu=arch.p7_relu, group_norm=group_norm)


def pyramid_levels(backbone: Backbone, channels: int) -> dict[str, Level]:
    """All levels of a pyramid detector, in forward order."""
    neck = {name: Level(channels, stride, onward=True) for name, stride in zip(LEVELS, STRIDES, strict=True)}
    return {**backbone.levels, **neck}


def map_sizes(maps: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Height and width of each map; in a graph of free size they stay symbols."""
    return [(one.shape[-2], one.shape[-1]) for one in maps]


def real_cells(strides: Sequence[int], maps: Sequence[tuple[int, int]], size: tuple[int, int]) -> Tensor:
    """Which positions of these maps begin inside an image of (height, width) and not in the padding, P bool, on the CPU."""
    cells = []
    for stride, (rows, columns) in zip(strides, maps, strict=True):
        real = torch.zeros(rows, columns, dtype=torch.bool)
        real[: -(-size[0] // stride), : -(-size[1] // stride)] = True
        cells.append(real.flatten())
    return torch.cat(cells)


def grid_points(levels: Sequence[int], sizes: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions of maps of these levels (positions in p3 to p7) and sizes: (A2 in pixels, at multiples of strides; strides A)."""
    points, strides = [], []
    for level, (height, width) in zip(levels, sizes, strict=True):
        stride = float(STRIDES[level])
        y = torch.arange(height, device=device, dtype=torch.float32) * stride
        x = torch.arange(width, device=device, dtype=torch.float32) * stride
        y_HW, x_HW = torch.meshgrid(y, x, indexing="ij")
        points.append(torch.stack([x_HW, y_HW], dim=-1).reshape(-1, 2))
        strides.append(torch.full((height * width,), stride, device=device))
    return torch.cat(points), torch.cat(strides)


def flat_maps(maps: Sequence[Tensor]) -> Tensor:
    """NXHW of every level as one N x A x X, fp32 or more."""
    return torch.cat([at_least_fp32(one).flatten(2).transpose(1, 2) for one in maps], dim=1)
