"""Faster R-CNN: Ren et al., NeurIPS 2015, arXiv 1506.01497, on a feature pyramid (Lin et al., CVPR 2017, arXiv 1612.03144).

`forward` gives the pyramid and the proposal network's maps; proposals, pooled regions and the region head belong to loss
and decoding, because the regions that are trained are drawn with the objects. Each region is pooled to 7x7 from the level
of its size (equation 1 of the FPN paper, p2 to p5), and two hidden layers classify it and refine its box, for each class by
itself. Settings are torchvision's, which are those of the papers. mmdetection's networks, with which the published distillation
pairs were trained, have anchors in fractions of pixels (the default here) and another RoIAlign (He et al. 2017; `roi_aligned: true`
and `roi_sampling_ratio: 0`); docs/networks.md lists what else differs.

In training 512 regions an image are drawn (objects among them), at most a quarter of them objects: from IoU 0.5 a region
is an object. Cross-entropy, and smooth L1 (beta 1/9) on the offsets of the object's class, both divided by the regions drawn.
Draws come from torch's generator, which the trainer seeds at every step; of several processes each divides by its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acamkd_core.graph_ops import REGION, pool_regions
from acamkd_core.models.anchors import Sizes, clip_each, decode, encode
from acamkd_core.models.backbones import build_backbone
from acamkd_core.models.base import Detector, Level, ModelOutput, Normalise, Selection
from acamkd_core.models.proposals import (
    BETA,
    LEVELS,
    STRIDES,
    TEST_LIMIT,
    TRAIN_LIMIT,
    ProposalHead,
    ProposalMaps,
    Proposer,
)
from acamkd_core.models.pyramid import Pyramid
from acamkd_core.spec.archs import ENTRY_LEVELS, FasterRCNNArch
from acamkd_core.spec.models import Preprocess
from acamkd_core.torchvision_compat import torchvision

# isort: split
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

OBJECT = 0.5  # IoU from which a region is an object
SAMPLES, POSITIVE = 512, 0.25
WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of offsets: they are small
MIN_SIDE = 1e-2  # pixels of a detection
CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4  # a region of ImageNet's size belongs to p4


@dataclass
class RegionMaps:
    """The levels that regions are pooled from (by name, p2 to p5), the proposal maps, and (height, width) of the input."""

    levels: dict[str, Tensor]
    proposals: ProposalMaps
    image_size: tuple[int, int]


class RegionHead(nn.Module):
    """Pooled regions RC77 to class logits R(K+1), background first, and offsets R(K+1)4. torchvision's parameter names."""

    def __init__(self, channels: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.fc6 = nn.Linear(channels * REGION * REGION, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.cls_score = nn.Linear(hidden, classes + 1)
        self.bbox_pred = nn.Linear(hidden, (classes + 1) * 4)

    def forward(self, regions_RC77: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.relu(self.fc7(F.relu(self.fc6(regions_RC77.flatten(1)))))
        return self.cls_score(hidden).float(), self.bbox_pred(hidden).float().unflatten(1, (-1, 4))

    @property
    def macs(self) -> int:
        """Multiply-adds of one region."""
        return sum(one.weight.numel() for one in (self.fc6, self.fc7, self.cls_score, self.bbox_pred))


class TwoStageHead(nn.Module):
    """Both stages: `rpn` sees every position, `roi` the regions."""

    def __init__(self, channels: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.rpn = ProposalHead(channels)
        self.roi = RegionHead(channels, hidden, classes)

    def forward(self, levels: dict[str, Tensor], image_size: tuple[int, int]) -> RegionMaps:
        pooled = {name: levels[name] for name in LEVELS[:-1] if name in levels}
        return RegionMaps(pooled, self.rpn(levels), image_size)


class FasterRCNN(Detector):
    """Images NCHW in [0, 1] to `RegionMaps`. Candidates are proposals, with a box for each class."""

    selection = Selection(threshold=0.05, candidates=1_000_000, iou=0.5, limit=100)
    chosen_inside = TEST_LIMIT

    def __init__(self, arch: FasterRCNNArch, *, num_classes: int, preprocess: Preprocess) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.normalise = Normalise(preprocess)
        self.backbone = build_backbone(arch.backbone, width=arch.width, style=arch.resnet_style)
        inputs = [level.channels for level in self.backbone.levels.values()]
        self.neck = Pyramid(inputs, arch.fpn_channels, "pool")
        self.box_head = TwoStageHead(arch.fpn_channels, arch.head_channels, num_classes)
        self._proposer = Proposer(arch.anchor_scale, rounding=arch.anchor_rounding)
        self.roi_aligned, self.roi_sampling_ratio = arch.roi_aligned, arch.roi_sampling_ratio
        self.later_macs = TEST_LIMIT * self.box_head.roi.macs
        entries = ENTRY_LEVELS["faster_rcnn"]
        neck = {
            name: Level(arch.fpn_channels, stride, onward=name in entries)
            for name, stride in zip(LEVELS, STRIDES, strict=True)
        }
        self.levels = {**self.backbone.levels, **neck}

    def forward(self, images: Tensor) -> ModelOutput:
        features = self.backbone(self.normalise(images))
        features |= self.neck(features)
        return ModelOutput(features, raw=self.box_head(features, (images.shape[-2], images.shape[-1])))

    def onward(self, replaced: dict[str, Tensor]) -> list[ModelOutput]:
        name = next(name for name in LEVELS if name in replaced)
        stride = STRIDES[LEVELS.index(name)]
        # To the stride's precision: a map does not tell the input's size exactly.
        size = (replaced[name].shape[-2] * stride, replaced[name].shape[-1] * stride)
        return [ModelOutput({}, raw=self.box_head(replaced, size))]

    def loss(
        self,
        out: ModelOutput,
        rows: Sequence[int],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        sizes: Sizes = None,
    ) -> dict[str, Tensor]:
        raw: RegionMaps = out.raw
        inside = list(sizes) if sizes is not None else [None] * len(rows)
        device = raw.proposals.objectness[0].device
        with torch.autocast(device_type=device.type, enabled=False):
            objectness, proposal_box = self._proposer.losses(raw.proposals, rows, boxes, inside)
            whole: list[tuple[int, int] | None] = [None] * len(raw.proposals.objectness[0])
            for row, size in zip(rows, inside, strict=True):
                whole[row] = size
            found = self._proposer.propose(raw.proposals, raw.image_size, whole, TRAIN_LIMIT)
            regions, wanted, targets = self._draw(found.boxes, found.real, rows, boxes, labels)
        if not rows:
            # Every parameter stays in the graph: other processes of the run may have labels, and gradients are averaged.
            used = (*raw.levels.values(), *self.box_head.roi.parameters())
            zero = sum((one.sum() for one in used), objectness) * 0
            return {"objectness": objectness, "proposal_box": proposal_box, "class": zero, "box": zero}
        logits_RK, offsets_RK4 = self.box_head.roi(self._pool(raw, regions))
        with torch.autocast(device_type=device.type, enabled=False):
            positive = wanted > 0
            terms = F.smooth_l1_loss(
                offsets_RK4[positive, wanted[positive]], targets[positive], beta=BETA, reduction="sum"
            )
            return {
                "objectness": objectness,
                "proposal_box": proposal_box,
                "class": F.cross_entropy(logits_RK, wanted),
                "box": terms / max(1, len(wanted)),
            }

    def candidates(self, out: ModelOutput, image_size: tuple[int, int], sizes: Sizes = None) -> tuple[Tensor, Tensor]:
        """(probabilities NRK, boxes NRK4): each class has its own box of a proposal. R is 1000 (fewer on tiny inputs)."""
        raw: RegionMaps = out.raw
        found = self._proposer.propose(raw.proposals, image_size, sizes, TEST_LIMIT)
        count, regions = found.boxes.shape[:2]
        image_N = torch.arange(count, device=found.boxes.device, dtype=found.boxes.dtype)
        rois_R5 = torch.cat([image_N[:, None, None].expand(-1, regions, 1), found.boxes], dim=2).flatten(0, 1)
        logits, offsets = self.box_head.roi(self._pool(raw, rois_R5))
        scores_NRK = logits.softmax(dim=-1)[:, 1:].unflatten(0, (count, regions))
        boxes = decode(offsets.transpose(0, 1), rois_R5[:, 1:], WEIGHTS).transpose(0, 1)[:, 1:]
        boxes_NRK4 = clip_each(boxes.unflatten(0, (count, regions)), image_size, sizes)
        real_NRK = ((boxes_NRK4[..., 2:] - boxes_NRK4[..., :2]) >= MIN_SIDE).all(dim=-1) & found.real[..., None]
        return torch.where(real_NRK, scores_NRK, 0.0), boxes_NRK4

    def counts(self, image_size: tuple[int, int]) -> list[int]:
        anchors = [3 * -(-image_size[0] // stride) * -(-image_size[1] // stride) for stride in STRIDES]
        return [min(TEST_LIMIT, sum(min(TEST_LIMIT, count) for count in anchors))]

    def infer(self, images: Tensor) -> object:
        return self.candidates(self(images), (images.shape[-2], images.shape[-1]))

    @property
    def head(self) -> nn.Module:
        """Pyramid levels to `RegionMaps`."""
        return self.box_head

    def part(self, name: str) -> nn.Module | None:
        return {"head": self.box_head, "neck": self.neck}.get(name)

    def _pool(self, raw: RegionMaps, rois_R5: Tensor) -> Tensor:
        """R x C x 7 x 7, each region from the level of its size, or from the nearest that is there."""
        sides = (rois_R5[:, 3:] - rois_R5[:, 1:3]).clamp(min=0).prod(dim=1).sqrt()
        level_R = torch.floor(CANONICAL_LEVEL + torch.log2(sides / CANONICAL_SIDE) + 1e-6)
        present = [LEVELS.index(name) for name in raw.levels]
        pooled: Tensor | None = None
        for position, (index, maps) in enumerate(zip(present, raw.levels.values(), strict=True)):
            number = float(name_number(LEVELS[index]))
            here_R = level_R <= number if position == 0 else level_R > float(name_number(LEVELS[present[position - 1]]))
            if position < len(present) - 1:
                here_R = here_R & (level_R <= number)
            part = pool_regions(
                maps.float(),
                rois_R5,
                here_R,
                STRIDES[index],
                sampling_ratio=self.roi_sampling_ratio,
                aligned=self.roi_aligned,
            )
            pooled = part if pooled is None else pooled + part
        assert pooled is not None
        return pooled

    @torch.no_grad()
    def _draw(
        self,
        proposals_NR4: Tensor,
        real_NR: Tensor,
        rows: Sequence[int],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(regions R5, class R with 0 for background, offsets R4 to the object) of the regions that are trained."""
        candidates, matches, classes = [], [], []
        for row, boxes_G4, labels_G in zip(rows, boxes, labels, strict=True):
            # As torchvision: objects are among the candidates.
            regions_R4 = torch.cat([proposals_NR4[row][real_NR[row]], boxes_G4])
            match_R = torch.zeros(len(regions_R4), dtype=torch.long, device=regions_R4.device)
            class_R = torch.zeros_like(match_R)
            if len(boxes_G4):
                best_R, match_R = torchvision.ops.box_iou(boxes_G4, regions_R4).max(dim=0)
                class_R = torch.where(best_R >= OBJECT, labels_G[match_R] + 1, 0)
            candidates.append(regions_R4)
            matches.append(match_R)
            classes.append(class_R)
        regions, wanted, targets = [], [], []
        drawn = BalancedPositiveNegativeSampler(SAMPLES, POSITIVE)(classes) if rows else ([], [])
        for image, (positive, negative) in enumerate(zip(*drawn, strict=True)):
            index = (positive.bool() | negative.bool()).nonzero().flatten()
            chosen = candidates[image][index]
            number = torch.full((len(chosen), 1), float(rows[image]), device=chosen.device)
            regions.append(torch.cat([number, chosen], dim=1))
            wanted.append(classes[image][index])
            objects = boxes[image] if len(boxes[image]) else chosen.new_zeros(1, 4)
            targets.append(encode(objects[matches[image][index]], chosen, WEIGHTS))
        if not rows:
            return proposals_NR4.new_zeros(0, 5), real_NR.new_zeros(0, dtype=torch.long), proposals_NR4.new_zeros(0, 4)
        return torch.cat(regions), torch.cat(wanted), torch.cat(targets)


def name_number(level: str) -> int:
    """4 of `p4`."""
    return int(level.removeprefix("p"))
