"""Feature pyramid (Lin et al., CVPR 2017, arXiv 1612.03144), with the two coarse levels of RetinaNet or a pooled one.

Parameter names are torchvision's, so that its detectors' weights are a renaming away.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acamkd_core.models.base import Backbone, Level
from acamkd_core.spec.archs import PyramidArch

LEVELS = ("p3", "p4", "p5", "p6", "p7")
STRIDES = (8, 16, 32, 64, 128)


class Pyramid(nn.Module):
    """c3, c4, c5 to p3 to p7, or c2 to c5 to p2 to p6, all of the same channels.

    p2 or p3 to p5: 1x1 laterals, nearest upsampling, a 3x3 each. p6: 3x3 of stride 2 on c5 or p5, and p7 the same on
    relu(p6); or p6 is every second position of p5, and there is no p7.

    Args:
        inputs: channels of the backbone's levels that are taken, the last being c5's.
        channels: channels of every output.
        p6_from: `c5` (RetinaNet's paper), `p5` (torchvision, FCOS) or `pool` (Faster R-CNN).
        p7_relu: as the paper has it; without it p7 is made of p6 itself (mmdetection's RetinaNet).
    """

    def __init__(self, inputs: Sequence[int], channels: int, p6_from: str, *, p7_relu: bool = True) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(count, channels, 1)) for count in inputs)
        self.layer_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1)) for _ in inputs)
        first = inputs[-1] if p6_from == "c5" else channels
        self.p6_from, self.p7_relu = p6_from, p7_relu
        if p6_from != "pool":
            self.extra_blocks = nn.ModuleDict(
                {
                    "p6": nn.Conv2d(first, channels, 3, stride=2, padding=1),
                    "p7": nn.Conv2d(channels, channels, 3, stride=2, padding=1),
                }
            )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                assert module.bias is not None
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


def build_pyramid(arch: PyramidArch, backbone: Backbone) -> Pyramid:
    """The neck that fits the backbone."""
    c3, c4, c5 = (backbone.levels[name].channels for name in ("c3", "c4", "c5"))
    return Pyramid((c3, c4, c5), arch.fpn_channels, arch.p6_from, p7_relu=arch.p7_relu)


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
