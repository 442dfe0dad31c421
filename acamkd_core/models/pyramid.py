"""Feature pyramid (Lin et al., CVPR 2017, arXiv 1612.03144) with the two coarse levels of RetinaNet.

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
    """c3, c4, c5 to p3 to p7, all of the same channels.

    p3 to p5: 1x1 laterals, nearest upsampling, a 3x3 each. p6: 3x3 of stride 2 on c5 or p5; p7: the same on
    relu(p6).

    Args:
        inputs: channels of c3, c4, c5.
        channels: channels of every output.
        p6_from: `c5` (RetinaNet's paper) or `p5` (torchvision, FCOS).
    """

    def __init__(self, inputs: tuple[int, int, int], channels: int, p6_from: str) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(count, channels, 1)) for count in inputs)
        self.layer_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1)) for _ in inputs)
        first = inputs[-1] if p6_from == "c5" else channels
        self.p6_from = p6_from
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
        laterals = [block(features[name]) for block, name in zip(self.inner_blocks, ("c3", "c4", "c5"), strict=True)]
        merged = [laterals[2]]
        for lateral in (laterals[1], laterals[0]):
            size = (lateral.shape[-2], lateral.shape[-1])
            merged.insert(0, lateral + F.interpolate(merged[0], size=size, mode="nearest"))
        maps = [block(level) for block, level in zip(self.layer_blocks, merged, strict=True)]
        p6 = self.extra_blocks["p6"](features["c5"] if self.p6_from == "c5" else maps[-1])
        p7 = self.extra_blocks["p7"](F.relu(p6))
        return dict(zip(LEVELS, (*maps, p6, p7), strict=True))


def build_pyramid(arch: PyramidArch, backbone: Backbone) -> Pyramid:
    """The neck that fits the backbone."""
    c3, c4, c5 = (backbone.levels[name].channels for name in ("c3", "c4", "c5"))
    return Pyramid((c3, c4, c5), arch.fpn_channels, arch.p6_from)


def pyramid_levels(backbone: Backbone, channels: int) -> dict[str, Level]:
    """All levels of a pyramid detector, in forward order."""
    neck = {name: Level(channels, stride, onward=True) for name, stride in zip(LEVELS, STRIDES, strict=True)}
    return {**backbone.levels, **neck}


def map_sizes(maps: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Height and width of each map; in a graph of free size they stay symbols."""
    return [(one.shape[-2], one.shape[-1]) for one in maps]


def real_cells(
    levels: Sequence[int], maps: Sequence[tuple[int, int]], size: tuple[int, int], device: torch.device
) -> Tensor:
    """Which positions of these levels begin inside an image of (height, width) and not in the padding, P bool."""
    cells = []
    for level, (rows, columns) in zip(levels, maps, strict=True):
        real = torch.zeros(rows, columns, dtype=torch.bool, device=device)
        real[: -(-size[0] // STRIDES[level]), : -(-size[1] // STRIDES[level])] = True
        cells.append(real.flatten())
    return torch.cat(cells)
