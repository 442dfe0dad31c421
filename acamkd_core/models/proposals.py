"""Region proposal network (Ren et al., NeurIPS 2015, arXiv 1506.01497, section 3) on a feature pyramid.

Three anchors a position (ratios 1:2, 1:1, 2:1) of one size a level. An anchor is positive from IoU 0.7 with an object, and
the best anchor of each object always is; negative below 0.3. 256 anchors an image are drawn, at most half of them positive:
binary cross-entropy over them, smooth L1 (beta 1/9) on the positive ones' offsets, divided by the number drawn. Anchors
whose cell begins in an image's padding are not drawn, as in mmdetection; torchvision draws them as background.

Proposals are the 1000 best of each level (2000 in training), suppressed level by level from IoU 0.7 on, and the 1000 (2000)
best of what is left. No gradient flows through them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acamkd_core.graph_ops import keep_mask
from acamkd_core.models.anchors import Sizes, base_anchors, clip_each, decode, encode, grid_anchors
from acamkd_core.models.matching import IGNORED, match_anchors
from acamkd_core.models.pyramid import map_sizes, real_cells
from acamkd_core.torchvision_compat import torchvision  # noqa: F401  (makes the next import work everywhere)

# isort: split
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

LEVELS = ("p2", "p3", "p4", "p5", "p6")
STRIDES = (4, 8, 16, 32, 64)
RATIOS = (0.5, 1.0, 2.0)
FOREGROUND, BACKGROUND = 0.7, 0.3
SAMPLES, POSITIVE = 256, 0.5
OVERLAP = 0.7  # of suppression
TRAIN_LIMIT, TEST_LIMIT = 2000, 1000
MIN_SIDE = 1e-3  # pixels
NEVER = -1e4  # an objectness that no anchor has
BETA = 1 / 9  # where smooth L1 turns from square to linear


@dataclass
class ProposalMaps:
    """What the network says of every anchor, level by level: objectness N3HW and offsets N(3 x 4)HW.

    `levels` are positions in p2 to p6.
    """

    levels: tuple[int, ...]
    objectness: list[Tensor]
    offsets: list[Tensor]


@dataclass
class Proposals:
    """boxes NR4 in pixels of the input, without gradient; real NR: False where an image has fewer than R."""

    boxes: Tensor
    real: Tensor


class ProposalHead(nn.Module):
    """A 3x3 convolution with ReLU and two 1x1, the same for all levels. Parameter names are torchvision's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()))
        self.cls_logits = nn.Conv2d(channels, len(RATIOS), 1)
        self.bbox_pred = nn.Conv2d(channels, len(RATIOS) * 4, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, levels: dict[str, Tensor]) -> ProposalMaps:
        present = tuple(index for index, name in enumerate(LEVELS) if name in levels)
        hidden = [self.conv(levels[LEVELS[index]]) for index in present]
        return ProposalMaps(present, [self.cls_logits(one) for one in hidden], [self.bbox_pred(one) for one in hidden])


class Proposer:
    """Anchors, and what follows from them: proposals and losses. Holds no weights."""

    def __init__(self, scale: float, *, rounding: bool) -> None:
        self._bases = [base_anchors([scale * stride], RATIOS, rounding=rounding) for stride in STRIDES]

    def anchors(self, maps: ProposalMaps) -> list[Tensor]:
        """A4 of each level, position-major."""
        device = maps.objectness[0].device
        return [
            grid_anchors(self._bases[level].to(device), STRIDES[level], size)
            for level, size in zip(maps.levels, map_sizes(maps.objectness), strict=True)
        ]

    @torch.no_grad()
    def propose(self, maps: ProposalMaps, image_size: tuple[int, int], sizes: Sizes, limit: int) -> Proposals:
        """`limit` proposals an image, none in padding; fewer where there are no more, which are filled up."""
        boxes, scores = [], []
        for anchors_A4, logits, offsets in zip(self.anchors(maps), maps.objectness, maps.offsets, strict=True):
            logits_NA, offsets_NA4 = _flat(logits, 1)[..., 0], _flat(offsets, 4)
            count = anchors_A4.shape[0]
            if not isinstance(count, int):
                # A graph of any size: a level may have fewer than `limit`, which only a run knows. Empty boxes fill it up.
                anchors_A4, offsets_NA4 = F.pad(anchors_A4, (0, 0, 0, limit)), F.pad(offsets_NA4, (0, 0, 0, limit))
                logits_NA, count = F.pad(logits_NA, (0, limit), value=NEVER), limit
            best, index_NB = logits_NA.topk(min(limit, count), dim=1)
            chosen = offsets_NA4.gather(1, index_NB[..., None].expand(-1, -1, 4))
            boxes_NB4 = clip_each(decode(chosen, anchors_A4[index_NB]), image_size, sizes)
            wide = ((boxes_NB4[..., 2:] - boxes_NB4[..., :2]) >= MIN_SIDE).all(dim=-1)
            scores_NB = torch.where(wide, best.sigmoid(), -1.0)
            kept = keep_mask(boxes_NB4, scores_NB, OVERLAP)
            boxes.append(boxes_NB4)
            scores.append(torch.where(kept, scores_NB, -1.0))
        boxes_NB4, scores_NB = torch.cat(boxes, dim=1), torch.cat(scores, dim=1)
        best, index_NR = scores_NB.topk(min(limit, scores_NB.shape[1]), dim=1)
        real_NR = best >= 0
        chosen = boxes_NB4.gather(1, index_NR[..., None].expand(-1, -1, 4))
        return Proposals(torch.where(real_NR[..., None], chosen, 0.0), real_NR)

    def losses(
        self, maps: ProposalMaps, rows: Sequence[int], boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int] | None]
    ) -> tuple[Tensor, Tensor]:
        """(objectness, offsets) of the images `rows`, whose objects are `boxes`; zeros when there are none."""
        anchors_A4 = torch.cat(self.anchors(maps))
        logits_NA = torch.cat([_flat(one, 1)[..., 0] for one in maps.objectness], dim=1)
        offsets_NA4 = torch.cat([_flat(one, 4) for one in maps.offsets], dim=1)
        zero = logits_NA.sum() * 0 + offsets_NA4.sum() * 0
        if not rows:
            return zero, zero
        matches, labels = [], []
        for boxes_G4, size in zip(boxes, sizes, strict=True):
            match_A = match_anchors(boxes_G4, anchors_A4, FOREGROUND, BACKGROUND)
            if size is not None:
                cells = real_cells([STRIDES[level] for level in maps.levels], map_sizes(maps.objectness), size)
                real_A = cells.to(match_A.device).repeat_interleave(len(RATIOS))
                inside = match_anchors(boxes_G4, anchors_A4[real_A], FOREGROUND, BACKGROUND)
                match_A = torch.full_like(match_A, IGNORED).masked_scatter(real_A, inside)
            matches.append(match_A)
            labels.append(torch.where(match_A >= 0, 1.0, torch.where(match_A == IGNORED, -1.0, 0.0)))
        drawn = BalancedPositiveNegativeSampler(SAMPLES, POSITIVE)(labels)
        objectness, offsets, count = zero, zero, 0
        for image, (positive_A, negative_A) in enumerate(zip(*drawn, strict=True)):
            row, chosen_A = rows[image], positive_A.bool() | negative_A.bool()
            positive_A = positive_A.bool()
            objectness = objectness + F.binary_cross_entropy_with_logits(
                logits_NA[row][chosen_A], labels[image][chosen_A], reduction="sum"
            )
            wanted = encode(boxes[image][matches[image][positive_A]], anchors_A4[positive_A])
            offsets = offsets + F.smooth_l1_loss(offsets_NA4[row][positive_A], wanted, beta=BETA, reduction="sum")
            count += int(chosen_A.sum())
        return objectness / max(1, count), offsets / max(1, count)


def _flat(one: Tensor, width: int) -> Tensor:
    """N(BX)HW as N x A x X, fp32: position-major, then anchors, as `grid_anchors` counts."""
    flat: Tensor = one.float().unflatten(1, (-1, width)).permute(0, 3, 4, 1, 2).flatten(1, 3)
    return flat
