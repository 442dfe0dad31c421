"""Dilated depthwise convolutions that train on CPUs without waiting for one operator.

oneDNN (PyTorch 2.13, x86) has no fast backward pass for a depthwise convolution with dilation: the three of a MobileNetV2
at output stride 16 took a quarter of its training step. The positions of a dilated convolution fall into d x d
phases that never meet; taken apart, each is an ordinary convolution with a fast backward pass, of the same values.
`python -m benchmarks.dilated` times both.
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def phase_conv(maps_NCHW: Tensor, weight_C1kk: Tensor, dilation: int) -> Tensor:
    """What `F.conv2d(maps, weight, padding=dilation * (k // 2), dilation=dilation, groups=C)` gives, phase by phase.

    Args:
        maps_NCHW: any float type.
        weight_C1kk: k odd.

    Returns:
        N C H W, in the memory layout of the input.
    """
    n, c, h, w = maps_NCHW.shape
    d = dilation
    # Rows and columns up to the next multiple of d are zeros, as the padding is.
    x = F.pad(maps_NCHW.permute(0, 2, 3, 1), (0, 0, 0, -w % d, 0, -h % d))
    rows, columns = x.shape[1] // d, x.shape[2] // d
    x = x.reshape(n, rows, d, columns, d, c).permute(2, 4, 0, 1, 3, 5).reshape(d * d * n, rows, columns, c)
    x = F.conv2d(x.permute(0, 3, 1, 2), weight_C1kk, padding=weight_C1kk.shape[-1] // 2, groups=c)
    x = x.permute(0, 2, 3, 1).reshape(d, d, n, rows, columns, c).permute(2, 3, 0, 4, 1, 5)
    x = x.reshape(n, rows * d, columns * d, c)[:, :h, :w].permute(0, 3, 1, 2)
    return x.contiguous() if maps_NCHW.is_contiguous() else x


class DilatedDepthwise(nn.Conv2d):
    """A depthwise convolution (stride 1, "same" padding) that goes phase by phase where it is trained on a CPU.

    Without a gradient it is the plain operator: evaluation, exports and the counting of multiply-adds see nothing else.
    """

    @classmethod
    def of(cls, plain: nn.Conv2d) -> Self:
        """With the weight of `plain` itself, not a copy."""
        kernel, step = plain.kernel_size[0], plain.dilation[0]
        new = cls(
            plain.in_channels, plain.out_channels, kernel, padding=step * (kernel // 2), dilation=step,
            groups=plain.groups, bias=False, device="meta",
        )  # fmt: skip
        new.weight = plain.weight
        return new

    def forward(self, input: Tensor) -> Tensor:
        learns = torch.is_grad_enabled() and (input.requires_grad or self.weight.requires_grad)
        if not learns or input.device.type != "cpu":
            return super().forward(input)
        return phase_conv(input, self.weight, self.dilation[0])


def replace_dilated(network: nn.Module) -> None:
    """Puts `DilatedDepthwise` where the network has such a convolution, in place; names and weights stay."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and _is_one(child):
                setattr(parent, name, DilatedDepthwise.of(child))


def _is_one(conv: nn.Conv2d) -> bool:
    (k, k2), (d, d2) = conv.kernel_size, conv.dilation
    same = conv.stride == (1, 1) and k % 2 == 1 and conv.padding == (d * (k // 2),) * 2 and conv.padding_mode == "zeros"
    depthwise = conv.groups == conv.in_channels == conv.out_channels and conv.bias is None
    return depthwise and same and k == k2 and d == d2 > 1
