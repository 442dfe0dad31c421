"""FCOS: Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019, arXiv 1904.01355, with the
improvements of its journal version (arXiv 2006.09214): centre sampling, GIoU loss, offsets in strides, centre-ness
beside the boxes.

A position of p3 to p7 learns the smallest object that it lies in, near whose centre it is (1.5 strides), and whose farthest
side is within its level's range (4 to 8 strides; p3 from 0, p7 without end). Scores are the root of class probability
times centre-ness. Positions in an image's padding are background, here as in the authors' code and torchvision. All three
losses are sums over the batch divided by its positive positions, over all processes.
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
from acamkd_core.models.base import Detector, ModelOutput, Normalise, Selection
from acamkd_core.models.pyramid import (
    LEVELS,
    STRIDES,
    build_pyramid,
    flat_maps,
    grid_points,
    map_sizes,
    pyramid_levels,
)
from acamkd_core.models.towers import TwoTowerHead, tower
from acamkd_core.spec.archs import FCOSArch
from acamkd_core.spec.models import Preprocess
from acamkd_core.torchvision_compat import torchvision

PRIOR = 0.01
RADIUS = 1.5  # of centre sampling, in strides


@dataclass
class PointMaps:
    """What the head returns, level by level: class logits NKHW, sides N4HW (left, top, right, bottom in strides, not
    negative), centre-ness logits N1HW. `levels` are positions in p3 to p7."""

    levels: tuple[int, ...]
    classes: list[Tensor]
    sides: list[Tensor]
    centres: list[Tensor]


class PointHead(TwoTowerHead):
    """Two towers of 3x3 convolutions with group norm; centre-ness shares the boxes' tower. The same for all levels.

    scales: a learnt factor a level on the sides, the one thing in which levels differ.
    """

    def __init__(self, channels: int, depth: int, classes: int, *, scales: bool = False) -> None:
        super().__init__()
        self.depth = depth
        self.class_tower, self.box_tower = tower(channels, depth, bias=True), tower(channels, depth, bias=True)
        self.cls_logits = nn.Conv2d(channels, classes, 3, padding=1)
        self.bbox_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.bbox_ctrness = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(())) for _ in LEVELS) if scales else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        assert self.cls_logits.bias is not None
        nn.init.constant_(self.cls_logits.bias, -math.log((1 - PRIOR) / PRIOR))

    def finish(self, levels: Sequence[str], classes: list[Tensor], boxes: list[Tensor]) -> PointMaps:
        return PointMaps(
            tuple(LEVELS.index(name) for name in levels),
            [self.cls_logits(one) for one in classes],
            [F.relu(self._scaled(self.bbox_reg(one), name)) for name, one in zip(levels, boxes, strict=True)],
            [self.bbox_ctrness(one) for one in boxes],
        )

    def _scaled(self, sides: Tensor, level: str) -> Tensor:
        return sides if self.scales is None else sides * self.scales[LEVELS.index(level)]

    def predictions(self, raw: PointMaps, levels: Sequence[str]) -> tuple[Tensor, Tensor]:
        chosen = _only(raw, levels)
        sides_NA4 = flat_maps(chosen.sides)
        points, strides = (one.to(sides_NA4) for one in _points_of(chosen))
        return flat_maps(chosen.classes), _boxes(sides_NA4, points, strides)

    def assign(
        self, raw: PointMaps, levels: Sequence[str], boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int] | None]
    ) -> tuple[Tensor, float]:
        """All positions count, those of the padding too; the divisor is the sum of the positives' centre-ness."""
        points_A2, strides_A = _points_of(_only(raw, levels))
        mass = 0.0
        for own in boxes:
            boxes_G4 = own.to(points_A2)
            match_A = match_points(boxes_G4, points_A2, strides_A)
            positive = match_A >= 0
            mass += float(_centreness(boxes_G4[match_A[positive]], points_A2[positive]).sum())
        return torch.ones(len(boxes), len(points_A2), device=points_A2.device), mass


class FCOS(Detector):
    """Images NCHW in [0, 1] to `PointMaps`. Candidates are positions."""

    selection = Selection(threshold=0.05, candidates=1000, iou=0.6, limit=100)

    def __init__(self, arch: FCOSArch, *, num_classes: int, preprocess: Preprocess) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.normalise = Normalise(preprocess)
        self.backbone = build_backbone(arch.backbone, width=arch.width, style=arch.resnet_style)
        self.neck = build_pyramid(arch, self.backbone)
        self.box_head = PointHead(arch.fpn_channels, arch.head_depth, num_classes, scales=arch.level_scales)
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
        raw: PointMaps = out.raw
        logits_NAK, sides_NA4, centres_NA1 = flat_maps(raw.classes), flat_maps(raw.sides), flat_maps(raw.centres)
        points_A2, strides_A = _points_of(raw)
        with torch.autocast(device_type=logits_NAK.device.type, enabled=False):
            zero = logits_NAK.sum() * 0 + sides_NA4.sum() * 0 + centres_NA1.sum() * 0
            sums, positives = {"class": zero, "box": zero, "centre": zero}, 0
            for row, boxes_G4, labels_G in zip(rows, boxes, labels, strict=True):
                match_A = match_points(boxes_G4, points_A2, strides_A)
                positive = match_A >= 0
                target_AK = torch.zeros_like(logits_NAK[row])
                target_AK[positive, labels_G[match_A[positive]]] = 1.0
                focal = torchvision.ops.sigmoid_focal_loss(logits_NAK[row], target_AK, reduction="sum")
                wanted_P4 = boxes_G4[match_A[positive]]
                found_P4 = _boxes(sides_NA4[row][positive], points_A2[positive], strides_A[positive])
                giou = torchvision.ops.generalized_box_iou_loss(found_P4, wanted_P4, reduction="sum")
                centre = F.binary_cross_entropy_with_logits(
                    centres_NA1[row][positive, 0], _centreness(wanted_P4, points_A2[positive]), reduction="sum"
                )
                for name, value in (("class", focal), ("box", giou), ("centre", centre)):
                    sums[name] = sums[name] + value
                positives += int(positive.sum())
            number = max(1.0, ranks.total(positives)) / ranks.world()
            return {name: value / number for name, value in sums.items()}

    def candidates(self, out: ModelOutput, image_size: tuple[int, int], sizes: Sizes = None) -> tuple[Tensor, Tensor]:
        raw: PointMaps = out.raw
        scores_NAK = (flat_maps(raw.classes).sigmoid() * flat_maps(raw.centres).sigmoid()).sqrt()
        points_A2, strides_A = grid_points(raw.levels, map_sizes(raw.classes), scores_NAK.device)
        return scores_NAK, clip_each(_boxes(flat_maps(raw.sides), points_A2, strides_A), image_size, sizes)

    @property
    def head(self) -> nn.Module:
        """Pyramid levels to `PointMaps`."""
        return self.box_head

    def part(self, name: str) -> nn.Module | None:
        return {"head": self.box_head, "neck": self.neck}.get(name)


def match_points(boxes_G4: Tensor, points_A2: Tensor, strides_A: Tensor) -> Tensor:
    """The object of each position, A int64; -1 for background."""
    if len(boxes_G4) == 0:
        return torch.full((len(points_A2),), -1, dtype=torch.long, device=points_A2.device)
    centres_G2 = (boxes_G4[:, :2] + boxes_G4[:, 2:]) / 2
    near_AG = (points_A2[:, None] - centres_G2).abs().amax(dim=2) < RADIUS * strides_A[:, None]
    sides_AG4 = torch.cat([points_A2[:, None] - boxes_G4[:, :2], boxes_G4[:, 2:] - points_A2[:, None]], dim=2)
    low_A, high_A = strides_A * 4, strides_A * 8
    low_A = torch.where(strides_A == STRIDES[0], torch.zeros_like(low_A), low_A)
    high_A = torch.where(strides_A == STRIDES[-1], torch.full_like(high_A, math.inf), high_A)
    farthest_AG = sides_AG4.amax(dim=2)
    fits_AG = near_AG & (sides_AG4.amin(dim=2) > 0) & (farthest_AG > low_A[:, None]) & (farthest_AG < high_A[:, None])
    area_G = (boxes_G4[:, 2:] - boxes_G4[:, :2]).prod(dim=1)
    smallest_A, match_A = torch.where(fits_AG, area_G, torch.full_like(farthest_AG, math.inf)).min(dim=1)
    match_A[smallest_A.isinf()] = -1
    return match_A


def _points_of(raw: PointMaps) -> tuple[Tensor, Tensor]:
    return grid_points(raw.levels, map_sizes(raw.classes), raw.classes[0].device)


def _only(raw: PointMaps, levels: Sequence[str]) -> PointMaps:
    """The maps of these levels."""
    rows = [raw.levels.index(LEVELS.index(name)) for name in levels]
    classes, sides, centres = ([maps[row] for row in rows] for maps in (raw.classes, raw.sides, raw.centres))
    return PointMaps(tuple(raw.levels[row] for row in rows), classes, sides, centres)


def _boxes(sides: Tensor, points_A2: Tensor, strides_A: Tensor) -> Tensor:
    """Boxes (... A 4) from sides in strides."""
    pixels = sides * strides_A[:, None]
    return torch.cat([points_A2 - pixels[..., :2], points_A2 + pixels[..., 2:]], dim=-1)


def _centreness(boxes_P4: Tensor, points_P2: Tensor) -> Tensor:
    """Equation 3 of the paper: 1 in the middle of a box, 0 at its edge."""
    before, after = points_P2 - boxes_P4[:, :2], boxes_P4[:, 2:] - points_P2
    return (torch.minimum(before, after) / torch.maximum(before, after)).prod(dim=1).sqrt()
