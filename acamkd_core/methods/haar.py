"""Two-dimensional Haar wavelets, orthonormal: a map as one coarse band and three bands of detail a scale, and back.

Of every 2 x 2 square  a b / c d  the bands hold  LL (a+b+c+d)/2,  LH (a+b-c-d)/2 (across rows),  HL (a-b+c-d)/2 (across
columns)  and  HH (a-b-c+d)/2.  The next scale splits LL again. Odd sides get a row or column of zeros first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def split(maps_NCHW: Tensor, scales: int) -> list[Tensor]:
    """The bands, finest first: LH, HL, HH of every scale, and LL of the last. 3 * scales + 1 of them."""
    bands: list[Tensor] = []
    low = maps_NCHW
    for _ in range(scales):
        low = F.pad(low, (0, low.shape[3] % 2, 0, low.shape[2] % 2))
        top, bottom = low[:, :, 0::2], low[:, :, 1::2]
        a, b, c, d = top[..., 0::2], top[..., 1::2], bottom[..., 0::2], bottom[..., 1::2]
        bands += [(a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2]
        low = (a + b + c + d) / 2
    return [*bands, low]


def merge(bands: list[Tensor], size: tuple[int, int]) -> Tensor:
    """The map of height and width `size` whose `split` gave these bands."""
    low = bands[-1]
    for scale in reversed(range(len(bands) // 3)):
        across_rows, across_columns, both = bands[3 * scale : 3 * scale + 3]
        # What was padded at this scale is cut off by the finer one, or at the end.
        low = low[:, :, : across_rows.shape[2], : across_rows.shape[3]]
        top = torch.stack([low + across_rows + across_columns + both, low + across_rows - across_columns - both], -1)
        bottom = torch.stack([low - across_rows + across_columns - both, low - across_rows - across_columns + both], -1)
        low = torch.stack([top.flatten(3), bottom.flatten(3)], dim=3).flatten(2, 3) / 2
    return low[:, :, : size[0], : size[1]]


def shapes(size: tuple[int, int], scales: int) -> list[tuple[int, int]]:
    """Height and width of every band of `split`, in its order."""
    found: list[tuple[int, int]] = []
    for _ in range(scales):
        size = (-(-size[0] // 2), -(-size[1] // 2))
        found += [size] * 3
    return [*found, size]
