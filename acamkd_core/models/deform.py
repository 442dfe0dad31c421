"""Deformable convolution (Dai et al., "Deformable Convolutional Networks", ICCV 2017, arXiv 1703.06211) in plain torch.

Every tap of the kernel reads the map at a place of its own, between positions bilinearly, as zero outside. It computes what
torchvision's `deform_conv2d` does (without modulation), from operators that every build of torch and every ONNX
runtime has. On a GPU the gradient's sums have no fixed order, so runs repeat there to rounding, not to the last bit.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acamkd_core.models.base import at_least_fp32


def deform_conv(maps_NCHW: Tensor, places: Tensor, weight_OCkk: Tensor, *, stride: int = 1, groups: int = 1) -> Tensor:
    """N O H W.

    Args:
        maps_NCHW: what is read.
        places: where each tap reads, tap by tap y before x, in positions of the map from the output's own: N x 2kk x H x W.
            The offsets of the paper are these less the taps' places in an ordinary kernel.
        weight_OCkk: the kernel, as an ordinary convolution has it.
        stride, groups: as an ordinary convolution's; the places are those of all groups.
    """
    # As a 1x1 convolution over (channel, tap), so that counters of multiply-adds and lower precision see a convolution.
    return F.conv2d(_read(maps_NCHW, places, stride), weight_OCkk.flatten(1)[:, :, None, None], groups=groups)


def _read(maps: Tensor, places: Tensor, stride: int) -> Tensor:
    """The map's values at all places, N (C kk) H W, fp32 or more: bfloat16 cannot tell neighbours of a wide map apart."""
    maps, places = at_least_fp32(maps), at_least_fp32(places)
    height, width = maps.shape[-2:]
    rows, columns = places.shape[-2:]
    y_NKHW, x_NKHW = places.unflatten(1, (-1, 2)).unbind(2)
    y = y_NKHW + stride * torch.arange(rows, device=maps.device, dtype=maps.dtype)[:, None]
    x = x_NKHW + stride * torch.arange(columns, device=maps.device, dtype=maps.dtype)
    # -1 and 1 are the map's outer edges here, not its outermost positions: a map of one column has no extent between those.
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    found = F.grid_sample(maps, grid.flatten(1, 2), mode="bilinear", padding_mode="zeros", align_corners=False)
    taps: Tensor = found.unflatten(2, (places.shape[1] // 2, rows))
    return taps.flatten(1, 2)


class DeformConv2d(nn.Module):
    """A square deformable convolution of stride 1 without bias, whose places are given."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, maps: Tensor, places: Tensor) -> Tensor:
        return deform_conv(maps, places, self.weight)


class DeformConv2dPack(nn.Module):
    """What takes the place of an ordinary 3x3 convolution with its weight, in backbones: a second convolution, of zeros at
    first, says how far each tap moves. Names as mmdetection's.
    """

    taps: Tensor

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.stride, self.groups = plain.weight, plain.stride[0], plain.groups
        taps = [(float(y), float(x)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        self.register_buffer("taps", torch.tensor(taps).view(1, -1, 1, 1), persistent=False)
        self.conv_offset = nn.Conv2d(plain.in_channels, 2 * len(taps), 3, stride=self.stride, padding=1)
        nn.init.zeros_(self.conv_offset.weight)
        assert self.conv_offset.bias is not None
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, maps: Tensor) -> Tensor:
        places = self.conv_offset(maps) + self.taps
        return deform_conv(maps, places, self.weight, stride=self.stride, groups=self.groups)
