"""mmdetection's Faster R-CNN under its tensor names, image by image and level by level, written from its configs and rules.

RoIAlign is a product with two interpolation matrices here, suppression a loop over single boxes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.acamkd_core.models.openmmlab_reference import CNA, MMResNet

STRIDES = (4, 8, 16, 32, 64)
LIMIT = abs(math.log(16 / 1000))


class PooledFPN(nn.Module):
    """c2 to c5 to p2 to p5, and p6: max pooling of one position, stride 2."""

    def __init__(self, inputs: list[int], channels: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(CNA(count, channels, 1, norm="", act="") for count in inputs)
        self.fpn_convs = nn.ModuleList(CNA(channels, channels, norm="", act="") for _ in inputs)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        laterals = [conv(one) for conv, one in zip(self.lateral_convs, maps, strict=True)]
        for index in (2, 1, 0):
            size = laterals[index].shape[2:]
            laterals[index] = laterals[index] + F.interpolate(laterals[index + 1], size=size, mode="nearest")
        outs = [conv(one) for conv, one in zip(self.fpn_convs, laterals, strict=True)]
        return [*outs, F.max_pool2d(outs[-1], 1, stride=2)]


class MMFasterRCNN(nn.Module):
    """`forward`: images to the pyramid and the proposal head's scores and offsets of each level."""

    def __init__(self, channels: int, hidden: int, classes: int, depth: int = 50, **backbone: bool | int) -> None:
        super().__init__()
        self.backbone = MMResNet(depth, segmentation=False, **backbone)
        self.neck = PooledFPN([256, 512, 1024, 2048], channels)
        rpn = self.rpn_head = nn.Module()
        rpn.rpn_conv = nn.Conv2d(channels, channels, 3, padding=1)
        rpn.rpn_cls = nn.Conv2d(channels, 3, 1)
        rpn.rpn_reg = nn.Conv2d(channels, 12, 1)
        self.roi_head = nn.Module()
        head = self.roi_head.bbox_head = nn.Module()
        head.fc_cls = nn.Linear(hidden, classes + 1)
        head.fc_reg = nn.Linear(hidden, 4 * classes)
        head.shared_fcs = nn.ModuleList([nn.Linear(channels * 49, hidden), nn.Linear(hidden, hidden)])

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        levels = self.neck(self.backbone(images))
        hidden = [F.relu(self.rpn_head.rpn_conv(one)) for one in levels]
        return levels, [self.rpn_head.rpn_cls(one) for one in hidden], [self.rpn_head.rpn_reg(one) for one in hidden]

    def proposals(self, scores: list[Tensor], offsets: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The best of one image, R4; `scores` 3HW and `offsets` 12HW of each level, `size` its height and width."""
        boxes, marks = [], []
        for stride, score, offset in zip(STRIDES, scores, offsets, strict=True):
            rows, columns = score.shape[1:]
            anchors = torch.zeros(rows, columns, 3, 4)
            for number, ratio in enumerate((0.5, 1.0, 2.0)):
                half_w, half_h = 4 * stride / math.sqrt(ratio), 4 * stride * math.sqrt(ratio)
                anchors[:, :, number, 0::2] = torch.arange(columns)[None, :, None] * stride
                anchors[:, :, number, 1::2] = torch.arange(rows)[:, None, None] * stride
                anchors[:, :, number] += torch.tensor([-half_w, -half_h, half_w, half_h])
            mark, order = score.permute(1, 2, 0).flatten().sigmoid().sort(descending=True)
            mark, order = mark[:1000], order[:1000]
            box = moved(anchors.view(-1, 4)[order], offset.permute(1, 2, 0).reshape(-1, 4)[order], size)
            real = (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])
            kept = suppressed(box[real], mark[real], 0.7)
            boxes.append(box[real][kept])
            marks.append(mark[real][kept])
        order = torch.cat(marks).argsort(descending=True)[:1000]
        return torch.cat(boxes)[order]

    def regions(self, levels: list[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """(class logits R(K+1), offsets R4K) of one image's boxes; `levels` CHW, p2 to p5."""
        pooled = []
        for box in boxes:
            side = math.sqrt(float((box[2] - box[0]) * (box[3] - box[1])))
            level = min(max(math.floor(math.log2(side / 56 + 1e-6)), 0), 3)
            pooled.append(aligned(levels[level], (box / STRIDES[level] - 0.5).tolist()))
        head = self.roi_head.bbox_head
        hidden = torch.stack(pooled).flatten(1)
        for layer in head.shared_fcs:
            hidden = F.relu(layer(hidden))
        return head.fc_cls(hidden), head.fc_reg(hidden)

    def detections(self, images: Tensor, sizes: list[tuple[int, int]]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """(boxes D4, scores D, classes D) of each image; `sizes`: what of it is not padding."""
        levels, scores, offsets = self(images)
        found = []
        for image, size in enumerate(sizes):
            boxes = self.proposals([one[image] for one in scores], [one[image] for one in offsets], size)
            logits, shifts = self.regions([one[image] for one in levels[:4]], boxes)
            marks, rows = logits.softmax(dim=1), []
            for number in range(logits.shape[1] - 1):  # the last is the background
                scaled = shifts[:, 4 * number : 4 * number + 4] * torch.tensor([0.1, 0.1, 0.2, 0.2])
                above = marks[:, number] > 0.05
                mark, box = marks[above, number], moved(boxes, scaled, size)[above]
                kept = suppressed(box, mark, 0.5)
                rows.append((box[kept], mark[kept], torch.full((len(kept),), number)))
            box, mark, number = (torch.cat(one) for one in zip(*rows, strict=True))
            best = mark.argsort(descending=True)[:100]
            found.append((box[best], mark[best], number[best]))
        return found


def moved(boxes: Tensor, offsets: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes R4 moved by offsets R4 and cut to an image of `size`."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    x = (boxes[:, 0] + boxes[:, 2]) / 2 + offsets[:, 0] * width
    y = (boxes[:, 1] + boxes[:, 3]) / 2 + offsets[:, 1] * height
    width, height = width * offsets[:, 2].clamp(-LIMIT, LIMIT).exp(), height * offsets[:, 3].clamp(-LIMIT, LIMIT).exp()
    corners = [(x - width / 2, size[1]), (y - height / 2, size[0]), (x + width / 2, size[1]), (y + height / 2, size[0])]
    return torch.stack([one.clamp(0, limit) for one, limit in corners], dim=1)


def suppressed(boxes: Tensor, scores: Tensor, limit: float) -> Tensor:
    """Indices of what is left, by falling score."""
    order = scores.argsort(descending=True).tolist()
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    for index in order:
        low, high = torch.maximum(boxes[index, :2], boxes[kept, :2]), torch.minimum(boxes[index, 2:], boxes[kept, 2:])
        shared = (high - low).clamp(min=0).prod(dim=1)
        if not (shared / (area[index] + area[kept] - shared) > limit).any():
            kept.append(index)
    return torch.tensor(kept, dtype=torch.long)


def aligned(level: Tensor, box: list[float]) -> Tensor:
    """C77: means of bilinear samples of a map CHW; `box` in its positions, where 0 is the middle of the first."""
    left, top, right, bottom = box
    across, down = readings(left, right, level.shape[2]), readings(top, bottom, level.shape[1])
    return torch.einsum("yh,chw,xw->cyx", down, level, across)


def readings(start: float, end: float, count: int) -> Tensor:
    """7 x `count`: how much of each position belongs to each cell of a side."""
    cell = (end - start) / 7
    samples = math.ceil(cell)
    weights = torch.zeros(7, count)
    for index in range(7 * samples):
        place = start + cell * (index // samples + (index % samples + 0.5) / samples)
        if -1 <= place <= count:
            place = min(max(place, 0.0), count - 1.0)
            low = min(int(place), count - 1)
            weights[index // samples, low] += (1 - (place - low)) / samples
            weights[index // samples, min(low + 1, count - 1)] += (place - low) / samples
    return weights
