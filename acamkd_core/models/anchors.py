"""Anchor boxes, and boxes as offsets to them (Girshick et al. 2014): what anchor-based detectors share.

Shape legend: A anchors of all levels, x1 y1 x2 y2 in pixels of the network's input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# exp of more would be a box of 62.5 times its anchor: a first wild step of training must not overflow.
MAX_LOG_SCALE = math.log(1000 / 16)


def base_anchors(sizes: list[float], ratios: tuple[float, ...], *, rounding: bool) -> Tensor:
    """Anchors around the origin, (ratios x sizes) x 4, ratio-major. A ratio is height over width at equal area."""
    rows = []
    for ratio in ratios:
        for size in sizes:
            side = float(int(size)) if rounding else size
            height, width = side * math.sqrt(ratio), side / math.sqrt(ratio)
            rows.append([-width / 2, -height / 2, width / 2, height / 2])
    anchors = torch.tensor(rows, dtype=torch.float32)
    return anchors.round() if rounding else anchors


def grid_anchors(base_B4: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """Anchors at every position of a map (height, width): (height x width x B) x 4; centred at multiples of the stride."""
    y = torch.arange(size[0], device=base_B4.device, dtype=torch.float32) * stride
    x = torch.arange(size[1], device=base_B4.device, dtype=torch.float32) * stride
    y_HW, x_HW = torch.meshgrid(y, x, indexing="ij")
    shift_P4 = torch.stack([x_HW, y_HW, x_HW, y_HW], dim=-1).reshape(-1, 1, 4)
    return (shift_P4 + base_B4).reshape(-1, 4)


def encode(boxes_A4: Tensor, anchors_A4: Tensor, weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Offsets of boxes to their anchors, A4: shifts of the centre in anchor sides, logarithms of the sides' ratios."""
    centre, side = _centred(boxes_A4)
    anchor_centre, anchor_side = _centred(anchors_A4)
    factors = boxes_A4.new_tensor(weights)
    return torch.cat([(centre - anchor_centre) / anchor_side, (side / anchor_side).log()], dim=-1) * factors


def decode(offsets: Tensor, anchors_A4: Tensor, weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """The boxes that offsets (... A 4) mean: the inverse of `encode`."""
    centre, side = _centred(anchors_A4)
    shift_x, shift_y, log_w, log_h = offsets.unbind(-1)
    x = shift_x / weights[0] * side[..., 0] + centre[..., 0]
    y = shift_y / weights[1] * side[..., 1] + centre[..., 1]
    half_w = (log_w / weights[2]).clamp(max=MAX_LOG_SCALE).exp() * side[..., 0] / 2
    half_h = (log_h / weights[3]).clamp(max=MAX_LOG_SCALE).exp() * side[..., 1] / 2
    return torch.stack([x - half_w, y - half_h, x + half_w, y + half_h], dim=-1)


Sizes = Sequence[tuple[int, int] | None] | Tensor | None
"""Height and width of each image of a batch inside an input that is partly padding; None: all of the input. In a graph N2."""


def clip_each(boxes_NA4: Tensor, image_size: tuple[int, int], sizes: Sizes = None) -> Tensor:
    """Boxes of a batch cut to the input, or each image's to what of the input is not padding."""
    if isinstance(sizes, Tensor):
        corner_NA4 = sizes.flip(-1).repeat(1, 2).view(sizes.shape[0], *[1] * (boxes_NA4.dim() - 2), 4)
        return torch.minimum(boxes_NA4.clamp(min=0), corner_NA4)
    if sizes is None or all(size is None for size in sizes):
        return clip_to(boxes_NA4, image_size)
    return torch.stack([clip_to(one, size or image_size) for one, size in zip(boxes_NA4, sizes, strict=True)])


def clip_to(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Boxes (... 4) cut to an image of (height, width)."""
    height, width = image_size
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack(
        [x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)], dim=-1
    )  # fmt: skip


def _centred(boxes_A4: Tensor) -> tuple[Tensor, Tensor]:
    """(centres A2, sides A2)."""
    side = boxes_A4[..., 2:] - boxes_A4[..., :2]
    return boxes_A4[..., :2] + side / 2, side
