"""RetinaNet: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv 1708.02002.

Nine anchors a position (three octaves, ratios 1:2, 1:1, 2:1) on p3 to p7. An anchor is positive from IoU 0.5 with an
object, and the best anchor of each object always is; negative below 0.4; between, it does not count. Focal loss with
alpha 0.25, gamma 2; L1 on offsets. Both are sums over an image divided by its positive anchors (at least 1), and the
batch's mean is taken, over the labelled images of all processes: torchvision's choice (mmdetection divides by the positives
of the whole batch).

Anchors whose cell begins in an image's padding do not count, as in mmdetection; torchvision takes them for background.

The published pairs take P6 from C5 (37.97M parameters with ResNet-50 and 80 classes, where mmdetection's own 37.74M leaves out the
frozen stem and first stage); torchvision takes it from P5 (33.84M) and has anchors in whole pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acamkd_core import ranks
from acamkd_core.models.anchors import Sizes, base_anchors, clip_each, decode, encode, grid_anchors
from acamkd_core.models.backbones import build_backbone
from acamkd_core.models.base import DenseHead, Detector, ModelOutput, Normalise, at_least_fp32
from acamkd_core.models.matching import match_anchors
from acamkd_core.models.pyramid import LEVELS, STRIDES, build_pyramid, map_sizes, pyramid_levels, real_cells
from acamkd_core.spec.archs import RetinaNetArch
from acamkd_core.spec.models import Preprocess
from acamkd_core.torchvision_compat import torchvision

RATIOS = (0.5, 1.0, 2.0)
OCTAVES = 3
PRIOR = 0.01  # probability that an untrained head gives to every class: else the negatives drown the first steps
ALPHA, GAMMA = 0.25, 2.0
FOREGROUND, BACKGROUND = 0.5, 0.4


@dataclass
class AnchorMaps:
    """What an anchor head returns, level by level: class logits N(BK)HW and offsets N(B4)HW, B anchors a position.

    `levels` are positions in p3 to p7.
    """

    levels: tuple[int, ...]
    classes: list[Tensor]
    offsets: list[Tensor]


class Tower(nn.Module):
    """3x3 convolutions with ReLU, then one 3x3 to the outputs. The same weights serve all levels."""

    def __init__(self, channels: int, depth: int, last: str, outputs: int, bias: float) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()) for _ in range(depth))
        )
        self.last = last
        self.add_module(last, nn.Conv2d(channels, outputs, 3, padding=1))
        convolutions = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        for number, module in enumerate(convolutions):
            nn.init.normal_(module.weight, std=0.01)
            assert module.bias is not None
            nn.init.constant_(module.bias, bias if number == depth else 0.0)

    def stages(self) -> list[nn.Module]:
        """The convolutions before the last, without their ReLU."""
        return [stage.get_submodule("0") for stage in self.conv]

    def forward(self, level: Tensor) -> Tensor:
        out: Tensor = self.get_submodule(self.last)(self.conv(level))
        return out


class RetinaHead(DenseHead):
    """Class logits and offsets of every level. `bases`: the anchors of p3 to p7 around the origin."""

    def __init__(self, channels: int, depth: int, bases: Sequence[Tensor], classes: int) -> None:
        super().__init__()
        prior, anchors = -math.log((1 - PRIOR) / PRIOR), len(bases[0])
        self.depth, self.classes, self.bases = depth, classes, list(bases)
        self.classification_head = Tower(channels, depth, "cls_logits", anchors * classes, prior)
        self.regression_head = Tower(channels, depth, "bbox_reg", anchors * 4, 0.0)

    def forward(self, levels: dict[str, Tensor]) -> AnchorMaps:
        maps = [levels[name] for name in LEVELS if name in levels]
        return AnchorMaps(
            tuple(index for index, name in enumerate(LEVELS) if name in levels),
            [self.classification_head(level) for level in maps],
            [self.regression_head(level) for level in maps],
        )

    def anchors(self, levels: Sequence[int], sizes: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
        """Anchors of these levels (positions in p3 to p7) with maps of these sizes (height, width), A4."""
        return torch.cat(
            [
                grid_anchors(self.bases[level].to(device), STRIDES[level], size)
                for level, size in zip(levels, sizes, strict=True)
            ]
        )

    def towers(self) -> tuple[list[nn.Module], list[nn.Module]]:
        return self.classification_head.stages(), self.regression_head.stages()

    def finish(self, levels: Sequence[str], classes: list[Tensor], boxes: list[Tensor]) -> AnchorMaps:
        return AnchorMaps(
            tuple(LEVELS.index(name) for name in levels),
            [self.classification_head.get_submodule("cls_logits")(one) for one in classes],
            [self.regression_head.get_submodule("bbox_reg")(one) for one in boxes],
        )

    def predictions(self, raw: AnchorMaps, levels: Sequence[str]) -> tuple[Tensor, Tensor]:
        chosen = _only(raw, levels)
        offsets_NA4 = _flat(chosen.offsets, 4)
        return _flat(chosen.classes, self.classes), decode(offsets_NA4, self._anchors_of(chosen).to(offsets_NA4))

    def assign(
        self, raw: AnchorMaps, levels: Sequence[str], boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int] | None]
    ) -> tuple[Tensor, float]:
        """Anchors between background and object, or in the padding, do not count; the divisor is the batch's positives."""
        chosen = _only(raw, levels)
        anchors_A4, each = self._anchors_of(chosen), len(self.bases[0])
        weights_NA, positives = torch.ones(len(boxes), len(anchors_A4), device=anchors_A4.device), 0.0
        for weights_A, own, size in zip(weights_NA, boxes, sizes, strict=True):
            real_A = torch.ones_like(weights_A, dtype=torch.bool)
            if size is not None:
                cells = real_cells([STRIDES[level] for level in chosen.levels], map_sizes(chosen.classes), size)
                real_A = cells.to(real_A.device).repeat_interleave(each)
            match_A = torch.full(real_A.shape, -2, device=real_A.device)
            match_A[real_A] = match_anchors(own.to(anchors_A4), anchors_A4[real_A], FOREGROUND, BACKGROUND)
            weights_A *= match_A != -2
            positives += float((match_A >= 0).sum())
        return weights_NA, positives

    def _anchors_of(self, raw: AnchorMaps) -> Tensor:
        return self.anchors(raw.levels, map_sizes(raw.classes), raw.classes[0].device)


class RetinaNet(Detector):
    """Images NCHW in [0, 1] to `AnchorMaps`."""

    def __init__(self, arch: RetinaNetArch, *, num_classes: int, preprocess: Preprocess) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.normalise = Normalise(preprocess)
        self.backbone = build_backbone(arch.backbone, width=arch.width, style=arch.resnet_style)
        self.neck = build_pyramid(arch, self.backbone)
        bases = [
            base_anchors(
                [arch.anchor_scale * stride * 2 ** (octave / OCTAVES) for octave in range(OCTAVES)],
                RATIOS,
                rounding=arch.anchor_rounding,
            )
            for stride in STRIDES
        ]
        self.box_head = RetinaHead(arch.fpn_channels, arch.head_depth, bases, num_classes)
        self.levels = pyramid_levels(self.backbone, arch.fpn_channels)
        self.grid = [(stride, len(bases[0])) for stride in STRIDES]

    def forward(self, images: Tensor) -> ModelOutput:
        features = self.backbone(self.normalise(images))
        features |= self.neck(features)
        return ModelOutput(features=features, raw=self.box_head(features))

    def onward(self, replaced: dict[str, Tensor]) -> list[ModelOutput]:
        return [ModelOutput({}, raw=self.box_head(replaced))]

    def anchors(self, levels: Sequence[int], sizes: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
        """Anchors of these levels (positions in p3 to p7) with maps of these sizes (height, width), A4."""
        return self.box_head.anchors(levels, sizes, device)

    def loss(
        self,
        out: ModelOutput,
        rows: Sequence[int],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        sizes: Sizes = None,
    ) -> dict[str, Tensor]:
        raw: AnchorMaps = out.raw
        maps = map_sizes(raw.classes)
        logits_NAK = _flat(raw.classes, self.num_classes)
        offsets_NA4 = _flat(raw.offsets, 4)
        all_A4 = self.anchors(raw.levels, maps, logits_NAK.device)
        with torch.autocast(device_type=logits_NAK.device.type, enabled=False):
            class_terms, box_terms = [], []
            for row, boxes_G4, labels_G, size in zip(rows, boxes, labels, sizes or [None] * len(rows), strict=True):
                logits_AK, offsets_A4, anchors_A4 = logits_NAK[row], offsets_NA4[row], all_A4
                if size is not None:
                    cells = real_cells([STRIDES[level] for level in raw.levels], maps, size)
                    real_A = cells.to(all_A4.device).repeat_interleave(self.grid[0][1])
                    logits_AK, offsets_A4, anchors_A4 = logits_AK[real_A], offsets_A4[real_A], all_A4[real_A]
                match_A = match_anchors(boxes_G4, anchors_A4, FOREGROUND, BACKGROUND)
                positive, counted = match_A >= 0, match_A != -2
                target_AK = torch.zeros_like(logits_AK)
                target_AK[positive, labels_G[match_A[positive]]] = 1.0
                number = positive.sum().clamp(min=1)
                focal = torchvision.ops.sigmoid_focal_loss(
                    logits_AK[counted], target_AK[counted], alpha=ALPHA, gamma=GAMMA, reduction="sum"
                )
                class_terms.append(focal / number)
                wanted = encode(boxes_G4[match_A[positive]], anchors_A4[positive])
                box_terms.append(F.l1_loss(offsets_A4[positive], wanted, reduction="sum") / number)
            nothing = logits_NAK.sum() * 0 + offsets_NA4.sum() * 0  # keeps the graph whole for a batch without labels
            # 1 in one process; where some have fewer labelled images, theirs count less in the mean over processes.
            labelled = ranks.total(len(rows)) / ranks.world()
            share = len(rows) / labelled if labelled else 0.0
            return {name: torch.stack(terms).mean() * share if terms else nothing
                    for name, terms in (("class", class_terms), ("box", box_terms))}  # fmt: skip

    def candidates(self, out: ModelOutput, image_size: tuple[int, int], sizes: Sizes = None) -> tuple[Tensor, Tensor]:
        raw: AnchorMaps = out.raw
        scores_NAK = _flat(raw.classes, self.num_classes).sigmoid()
        anchors_A4 = self.anchors(raw.levels, map_sizes(raw.classes), scores_NAK.device)
        return scores_NAK, clip_each(decode(_flat(raw.offsets, 4), anchors_A4), image_size, sizes)

    @property
    def head(self) -> nn.Module:
        """Pyramid levels to `AnchorMaps`."""
        return self.box_head

    def part(self, name: str) -> nn.Module | None:
        return {"head": self.box_head, "neck": self.neck}.get(name)


def _only(raw: AnchorMaps, levels: Sequence[str]) -> AnchorMaps:
    """The maps of these levels."""
    rows = [raw.levels.index(LEVELS.index(name)) for name in levels]
    return AnchorMaps(
        tuple(raw.levels[row] for row in rows), [raw.classes[row] for row in rows], [raw.offsets[row] for row in rows]
    )


def _flat(maps: Sequence[Tensor], width: int) -> Tensor:
    """N(BX)HW of every level as one N x A x X, fp32 or more: position-major, then anchors, as `grid_anchors` counts."""
    return torch.cat(
        [at_least_fp32(one).unflatten(1, (-1, width)).permute(0, 3, 4, 1, 2).flatten(1, 3) for one in maps], dim=1
    )  # fmt: skip
