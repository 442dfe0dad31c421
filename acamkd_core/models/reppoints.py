"""RepPoints: Yang et al., "RepPoints: Point Set Representation for Object Detection", ICCV 2019, arXiv 1904.11490, as
mmdetection builds and trains it (`reppoints_moment`, group norm in neck and head), from whose weights the published
distillation pairs come.

An object is nine points around a position of p3 to p7. The first set comes from the box tower; class scores and a second,
refined set from deformable convolutions that read where the first set lies. A set's box is its mean, and its standard
deviation times a learnt factor, to either side ("moment").

First sets learn one position an object: the nearest of the level whose stride fits the object's size. Refined sets and
classes learn by the overlap of the first set's box, from 0.5 an object, below 0.4 background. Positions whose cell begins in an
image's padding do not count. Losses are sums over the batch divided by its positives, of which every image has at least one
for this purpose, over all processes: focal loss of classes; smooth L1 of boxes in four strides, the first ones' at half weight.

One deviation: an object that no first box overlaps has no positive of its own. mmdetection's rule would give it every
position of the image that overlaps it by the same 0, which happens to small objects when training begins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acamkd_core import ranks
from acamkd_core.models.anchors import Sizes, clip_each
from acamkd_core.models.backbones import build_backbone
from acamkd_core.models.base import Detector, ModelOutput, Normalise, at_least_fp32
from acamkd_core.models.deform import DeformConv2d
from acamkd_core.models.matching import IGNORED, match_boxes, match_nearest
from acamkd_core.models.pyramid import (
    LEVELS,
    STRIDES,
    build_pyramid,
    flat_maps,
    grid_points,
    map_sizes,
    pyramid_levels,
    real_cells,
)
from acamkd_core.models.towers import TwoTowerHead, tower
from acamkd_core.spec.archs import RepPointsArch
from acamkd_core.spec.models import Preprocess
from acamkd_core.torchvision_compat import torchvision

POINTS = 9
PRIOR = 0.01
SCALE = 4  # side of the object that fits a level, in strides; boxes are compared in this unit
FOREGROUND, BACKGROUND = 0.5, 0.4
BETA = 0.11  # where smooth L1 turns linear
INITIAL_WEIGHT = 0.5
READING = 0.1  # share of the gradient that reaches the first points through what is read at them
TRANSFER = 0.01  # and the moment's factors


@dataclass
class PointSets:
    """What the head returns, level by level: class logits NKHW, and both sets of points N(2x9)HW, point by point y before x,
    in strides from the position. `levels` are positions in p3 to p7."""

    levels: tuple[int, ...]
    classes: list[Tensor]
    initial: list[Tensor]
    refined: list[Tensor]


class PointSetHead(TwoTowerHead):
    """Two towers of 3x3 convolutions with group norm, the first points, and what is read at them. The same for all levels.

    moment_transfer: logarithms of the factors on a set's standard deviations, x and y.
    """

    def __init__(self, channels: int, depth: int, classes: int) -> None:
        super().__init__()
        self.depth = depth
        self.class_tower, self.box_tower = tower(channels, depth, bias=False), tower(channels, depth, bias=False)
        self.initial_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.initial_points = nn.Conv2d(channels, 2 * POINTS, 1)
        self.class_conv = DeformConv2d(channels, channels)
        self.cls_logits = nn.Conv2d(channels, classes, 1)
        self.refined_conv = DeformConv2d(channels, channels)
        self.refined_points = nn.Conv2d(channels, 2 * POINTS, 1)
        self.moment_transfer = nn.Parameter(torch.zeros(2))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        assert self.cls_logits.bias is not None
        nn.init.constant_(self.cls_logits.bias, -math.log((1 - PRIOR) / PRIOR))

    def finish(self, levels: Sequence[str], classes: list[Tensor], boxes: list[Tensor]) -> PointSets:
        raw = PointSets(tuple(LEVELS.index(name) for name in levels), [], [], [])
        for scored, placed in zip(classes, boxes, strict=True):
            initial = self.initial_points(F.relu(self.initial_conv(placed)))
            places = _damped(initial, READING)
            refined = self.refined_points(F.relu(self.refined_conv(placed, places)))
            raw.classes.append(self.cls_logits(F.relu(self.class_conv(scored, places))))
            raw.initial.append(initial)
            raw.refined.append(refined + initial.detach())
        return raw

    def predictions(self, raw: PointSets, levels: Sequence[str]) -> tuple[Tensor, Tensor]:
        chosen = _only(raw, levels)
        return flat_maps(chosen.classes), self.pixels(chosen, chosen.refined)

    def assign(
        self, raw: PointSets, levels: Sequence[str], boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int] | None]
    ) -> tuple[Tensor, float]:
        """Positions between background and object by these first boxes, or in the padding, do not count; the divisor is the
        batch's positives, at least one an image."""
        chosen = _only(raw, levels)
        initial_NA4, positives = self.pixels(chosen, chosen.initial), 0
        weights_NA = torch.zeros(initial_NA4.shape[:2], device=initial_NA4.device)
        for row, (own, size) in enumerate(zip(boxes, sizes, strict=True)):
            real_A = real_positions(chosen, size)
            match_R = match_boxes(own.to(initial_NA4), initial_NA4[row][real_A], FOREGROUND, BACKGROUND)
            weights_NA[row, real_A] = (match_R != IGNORED).to(weights_NA)
            positives += max(1, int((match_R >= 0).sum()))
        return weights_NA, float(positives)

    def pixels(self, raw: PointSets, points: Sequence[Tensor]) -> Tensor:
        """The boxes of one of its sets of points, NA4 in pixels of the input."""
        points_A2, strides_A = _points_of(raw)
        return flat_maps([self.boxes(one) for one in points]) * strides_A[:, None] + points_A2.repeat(1, 2)

    def boxes(self, points: Tensor) -> Tensor:
        """x1 y1 x2 y2 of each set of points, N4HW in strides from the position, fp32 or more."""
        xy_NP2HW = at_least_fp32(points).unflatten(1, (POINTS, 2)).flip(2)
        centre = xy_NP2HW.mean(dim=1)
        half = xy_NP2HW.std(dim=1) * _damped(self.moment_transfer, TRANSFER).exp()[:, None, None]
        return torch.cat([centre - half, centre + half], dim=1)


class RepPoints(Detector):
    """Images NCHW in [0, 1] to `PointSets`. Candidates are positions."""

    def __init__(self, arch: RepPointsArch, *, num_classes: int, preprocess: Preprocess) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.normalise = Normalise(preprocess)
        self.backbone = build_backbone(
            arch.backbone, width=arch.width, style=arch.resnet_style, deformable=arch.deformable
        )
        self.neck = build_pyramid(arch, self.backbone, group_norm=True)
        self.box_head = PointSetHead(arch.fpn_channels, arch.head_depth, num_classes)
        self.levels = pyramid_levels(self.backbone, arch.fpn_channels)
        self.grid = [(stride, 1) for stride in STRIDES]

    def forward(self, images: Tensor) -> ModelOutput:
        features = self.backbone(self.normalise(images))
        features |= self.neck(features)
        return ModelOutput(features=features, raw=self.box_head(features))

    def onward(self, replaced: dict[str, Tensor]) -> list[ModelOutput]:
        return [ModelOutput({}, raw=self.box_head(replaced))]

    def loss(
        self,
        out: ModelOutput,
        rows: Sequence[int],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        sizes: Sizes = None,
    ) -> dict[str, Tensor]:
        """`class`, `initial` (the first points' boxes, half weight included) and `box` (the refined ones')."""
        raw: PointSets = out.raw
        with torch.autocast(device_type=raw.classes[0].device.type, enabled=False):
            logits_NAK = flat_maps(raw.classes)
            points_A2, strides_A = _points_of(raw)
            initial_NA4, refined_NA4 = (self.box_head.pixels(raw, points) for points in (raw.initial, raw.refined))
            zero = logits_NAK.sum() * 0 + initial_NA4.sum() * 0 + refined_NA4.sum() * 0
            sums, learnt, positives = {"class": zero, "initial": zero, "box": zero}, 0, 0
            for row, boxes_G4, labels_G, size in zip(rows, boxes, labels, sizes or [None] * len(rows), strict=True):
                real_A = real_positions(raw, size)
                logits_RK, units_R1 = logits_NAK[row][real_A], SCALE * strides_A[real_A, None]
                initial_R4, refined_R4 = initial_NA4[row][real_A], refined_NA4[row][real_A]
                nearest_R = match_nearest(boxes_G4, points_A2[real_A], strides_A[real_A], SCALE)
                match_R = match_boxes(boxes_G4, initial_R4.detach(), FOREGROUND, BACKGROUND)
                positive = match_R >= 0
                target_RK = torch.zeros_like(logits_RK)
                target_RK[positive, labels_G[match_R[positive]]] = 1.0
                counted = match_R != IGNORED
                focal = torchvision.ops.sigmoid_focal_loss(logits_RK[counted], target_RK[counted], reduction="sum")
                first = INITIAL_WEIGHT * _apart(initial_R4, boxes_G4, nearest_R, units_R1)
                second = _apart(refined_R4, boxes_G4, match_R, units_R1)
                for name, value in (("class", focal), ("initial", first), ("box", second)):
                    sums[name] = sums[name] + value
                learnt += max(1, int((nearest_R >= 0).sum()))
                positives += max(1, int(positive.sum()))
            numbers = [max(1.0, ranks.total(number)) / ranks.world() for number in (learnt, positives)]
            return {name: value / numbers[name != "initial"] for name, value in sums.items()}

    def candidates(self, out: ModelOutput, image_size: tuple[int, int], sizes: Sizes = None) -> tuple[Tensor, Tensor]:
        raw: PointSets = out.raw
        boxes_NA4 = self.box_head.pixels(raw, raw.refined)
        return flat_maps(raw.classes).sigmoid(), clip_each(boxes_NA4, image_size, sizes)

    @property
    def head(self) -> nn.Module:
        """Pyramid levels to `PointSets`."""
        return self.box_head

    def part(self, name: str) -> nn.Module | None:
        return {"head": self.box_head, "neck": self.neck}.get(name)


def real_positions(raw: PointSets, size: tuple[int, int] | None) -> Tensor:
    """Which positions begin inside an image of this size (None: all of the input), A bool."""
    maps, device = map_sizes(raw.classes), raw.classes[0].device
    if size is None:
        return torch.ones(sum(rows * columns for rows, columns in maps), dtype=torch.bool, device=device)
    return real_cells([STRIDES[level] for level in raw.levels], maps, size).to(device)


def _points_of(raw: PointSets) -> tuple[Tensor, Tensor]:
    return grid_points(raw.levels, map_sizes(raw.classes), raw.classes[0].device)


def _only(raw: PointSets, levels: Sequence[str]) -> PointSets:
    """The maps of these levels."""
    rows = [raw.levels.index(LEVELS.index(name)) for name in levels]
    classes, initial, refined = ([maps[row] for row in rows] for maps in (raw.classes, raw.initial, raw.refined))
    return PointSets(tuple(raw.levels[row] for row in rows), classes, initial, refined)


def _damped(value: Tensor, share: float) -> Tensor:
    """The value itself, with this share of its gradient."""
    if not value.requires_grad:
        return value
    fixed = value.detach()
    return fixed + share * (value - fixed)


def _apart(found_R4: Tensor, boxes_G4: Tensor, match_R: Tensor, units_R1: Tensor) -> Tensor:
    """Sum over matched positions of smooth L1 between their boxes and their objects', in these units."""
    mine = match_R >= 0
    unit = units_R1[mine]
    return F.smooth_l1_loss(found_R4[mine] / unit, boxes_G4[match_R[mine]] / unit, reduction="sum", beta=BETA)
