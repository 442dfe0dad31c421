"""RepPoints in loops and single numbers, written from the paper and mmdetection's rules; and a network under its names."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.acamkd_core.models.openmmlab_reference import FPN, MMResNet

TAPS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
STRIDES = (8, 16, 32, 64, 128)


def deformed(maps: Tensor, offsets: Tensor, weight: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """A 3x3 deformable convolution with padding 1: `offsets` N 18 H W are y before x, from each tap's ordinary place."""
    if groups > 1:  # each a convolution of its own, read at the same places
        parts = zip(maps.chunk(groups, 1), weight.chunk(groups), strict=True)
        return torch.cat([deformed(one, offsets, kernel, stride) for one, kernel in parts], 1)
    images, _, height, width = offsets.shape
    rows = []
    for n in range(images):
        for y in range(height):
            for x in range(width):
                total = maps.new_zeros(weight.shape[0])
                for tap, (dy, dx) in enumerate(TAPS):
                    at_y = stride * y + dy + offsets[n, 2 * tap, y, x]
                    at_x = stride * x + dx + offsets[n, 2 * tap + 1, y, x]
                    total = total + weight[:, :, dy + 1, dx + 1] @ between(maps[n], at_y, at_x)
                rows.append(total)
    return torch.stack(rows).view(images, height, width, -1).permute(0, 3, 1, 2)


def between(map_CHW: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """The map at a place between positions: each of the four around it counts by its nearness, those outside are zero."""
    _, height, width = map_CHW.shape
    value = map_CHW.new_zeros(map_CHW.shape[0])
    top, left = math.floor(y.item()), math.floor(x.item())
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < height and 0 <= column < width:
                value = value + map_CHW[:, row, column] * (1 - (y - row).abs()) * (1 - (x - column).abs())
    return value


def moment_box(points: Sequence[float], transfer: Sequence[float], stride: int, x: int, y: int) -> list[float]:
    """x1 y1 x2 y2 in pixels of nine points (y before x, in strides) around a position."""
    box = []
    for values, factor, at in ((points[1::2], transfer[0], x), (points[0::2], transfer[1], y)):
        mean = sum(values) / 9
        half = math.sqrt(sum((one - mean) ** 2 for one in values) / 8) * math.exp(factor)
        box.append(((mean - half + at) * stride, (mean + half + at) * stride))
    return [box[0][0], box[1][0], box[0][1], box[1][1]]


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(one[2] - one[0]) * (one[3] - one[1]) for one in (a, b)]
    return width * height / (sum(areas) - width * height)


def nearest(points: Sequence[tuple[float, float, int]], objects: Sequence[Sequence[float]]) -> list[int]:
    """The first stage: object of each position (x, y, stride), -1 for none. Objects come one after the other."""
    owner, distance = [-1] * len(points), [math.inf] * len(points)
    levels = [int(math.log2(stride)) for _, _, stride in points]
    for number, (x1, y1, x2, y2) in enumerate(objects):
        level = int((math.log2((x2 - x1) / 4) + math.log2((y2 - y1) / 4)) / 2)
        level = min(max(level, min(levels)), max(levels))
        best, least = -1, math.inf
        for index, (x, y, _) in enumerate(points):
            if levels[index] != level:
                continue
            away = math.hypot((x - (x1 + x2) / 2) / (x2 - x1), (y - (y1 + y2) / 2) / (y2 - y1))
            if away < least:
                best, least = index, away
        if best >= 0 and least < distance[best]:
            owner[best], distance[best] = number, least
    return owner


def overlapping(found: Sequence[Sequence[float]], objects: Sequence[Sequence[float]]) -> list[int]:
    """The second stage: object of each predicted box, -1 background, -2 neither."""
    table = [[iou(one, other) for other in objects] for one in found]
    owner = []
    for row in table:
        best = max(row, default=0.0)
        owner.append(row.index(best) if best >= 0.5 else -1 if best < 0.4 else -2)
    for number in range(len(objects)):
        best = max(row[number] for row in table)
        for index, row in enumerate(table):
            if row[number] == best and best > 0:
                owner[index] = number
    return owner


def focal(logit: float, positive: bool) -> float:
    """Alpha 0.25, gamma 2."""
    p = 1 / (1 + math.exp(-logit))
    return -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)


def smooth_l1(difference: float) -> float:
    size = abs(difference)
    return size**2 / 0.22 if size < 0.11 else size - 0.055


class GroupNormed(nn.Module):
    """Convolution without bias, group norm, and in towers a ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, relu: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.gn = nn.GroupNorm(32, outputs)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.gn(self.conv(x))
        return F.relu(x) if self.relu else x


class Deformed(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, channels, 3, 3) / math.sqrt(9 * channels))


class DeformedPack(nn.Module):
    """A backbone's 3x3 convolution that moves its taps by itself."""

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.stride = plain.weight, plain.stride[0]
        self.conv_offset = nn.Conv2d(plain.in_channels, 18, 3, self.stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        return deformed(x, self.conv_offset(x), self.weight, self.stride)


class MMRepPoints(nn.Module):
    """Images to class logits, first and refined points of each level."""

    def __init__(self, channels: int, depth: int, classes: int, *, deformable: bool = False) -> None:
        super().__init__()
        self.backbone = MMResNet(50, segmentation=False)
        for number in (2, 3, 4) if deformable else ():
            for block in self.backbone.get_submodule(f"layer{number}").children():
                block.conv2 = DeformedPack(block.get_submodule("conv2"))  # type: ignore[arg-type]
        self.neck = FPN([512, 1024, 2048], channels, on_output=False)
        self.neck.lateral_convs = nn.ModuleList(GroupNormed(i, channels, 1, relu=False) for i in (512, 1024, 2048))
        self.neck.fpn_convs = nn.ModuleList(
            GroupNormed(i, channels, 3, s, relu=False)
            for i, s in ((channels, 1), (channels, 1), (channels, 1), (2048, 2), (channels, 2))
        )
        head = self.bbox_head = nn.Module()
        head.cls_convs = nn.ModuleList(GroupNormed(channels, channels, 3, relu=True) for _ in range(depth))
        head.reg_convs = nn.ModuleList(GroupNormed(channels, channels, 3, relu=True) for _ in range(depth))
        head.reppoints_cls_conv, head.reppoints_pts_refine_conv = Deformed(channels), Deformed(channels)
        head.reppoints_cls_out = nn.Conv2d(channels, classes, 1)
        head.reppoints_pts_init_conv = nn.Conv2d(channels, channels, 3, padding=1)
        head.reppoints_pts_init_out = nn.Conv2d(channels, 18, 1)
        head.reppoints_pts_refine_out = nn.Conv2d(channels, 18, 1)
        head.moment_transfer = nn.Parameter(torch.tensor([0.3, -0.2]))

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        head, outs = self.bbox_head, []
        base = torch.tensor([part for tap in TAPS for part in tap], dtype=x.dtype).view(1, 18, 1, 1)
        for level in self.neck(self.backbone(x)[1:]):
            cls = reg = level
            for one, other in zip(head.cls_convs, head.reg_convs, strict=True):
                cls, reg = one(cls), other(reg)
            first = head.reppoints_pts_init_out(F.relu(head.reppoints_pts_init_conv(reg)))
            scores, moved = (
                out(F.relu(deformed(features, first - base, conv.weight)))
                for out, features, conv in (
                    (head.reppoints_cls_out, cls, head.reppoints_cls_conv),
                    (head.reppoints_pts_refine_out, reg, head.reppoints_pts_refine_conv),
                )
            )
            outs.append((scores, first, moved + first))
        return outs
