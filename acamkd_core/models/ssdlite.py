"""SSDLite on MobileNetV2: Sandler et al., CVPR 2018, section 6.2, after SSD (Liu et al., ECCV 2016, arXiv 1512.02325).

Six maps: the 576-channel expansion of layer 15 (stride 16), the 1280-channel last convolution (stride 32), and four extra
blocks of 512, 256, 256 and 128 channels; every 3x3 convolution of heads and extra blocks is depthwise with a 1x1 behind
it. Scales run from 0.2 to 0.95 of the input, ratios 1, 2, 1/2, 3, 1/3 and a second square between two scales; the first
map has three anchors only (a square of 0.1, and 2, 1/2 at 0.2), as in the published networks: with 80 classes that is the
paper's 4.3M parameters.

Loss as in SSD: softmax over classes and background with the three hardest negatives for each positive anchor, smooth L1
on offsets (variances 0.1 and 0.2), both divided by the batch's positives over all processes. The best anchor of each object
is its own. Anchors are shares of the whole input: SSD stretches images to it; where one is padded, the padding is background.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acamkd_core import ranks
from acamkd_core.models.anchors import Sizes, clip_each, decode, encode
from acamkd_core.models.backbones import MobileNetV2
from acamkd_core.models.base import Detector, Level, ModelOutput, Normalise, Selection
from acamkd_core.models.matching import match_each
from acamkd_core.spec.archs import SSDLiteArch
from acamkd_core.spec.models import Preprocess

# isort: split
from torchvision.models import mobilenet_v2

# The last two maps have one or two positions at the usual sizes: nothing to distil there.
LEVELS = ("m1", "m2", "m3", "m4")
STRIDES = (16, 32, 64, 128, 256, 512)
EXTRA = (512, 256, 256, 128)
SCALES = (*(0.2 + (0.95 - 0.2) * index / 5 for index in range(6)), 1.0)
WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # one over SSD's variances
NEGATIVES = 3
OVERLAP = 0.5


@dataclass
class BoxMaps:
    """What the heads return, map by map: class logits N(B(K+1))HW, class 0 being the background, and offsets N(B4)HW.

    `image_size` is height and width of the input: anchors are shares of it.
    """

    classes: list[Tensor]
    offsets: list[Tensor]
    image_size: tuple[int, int]


def anchor_sides() -> list[list[tuple[float, float]]]:
    """Width and height of each map's anchors, as shares of the input's."""
    maps = [[(0.1, 0.1), (0.2 * math.sqrt(2), 0.2 / math.sqrt(2)), (0.2 / math.sqrt(2), 0.2 * math.sqrt(2))]]
    for index in range(1, 6):
        scale, between = SCALES[index], math.sqrt(SCALES[index] * SCALES[index + 1])
        sides = [(scale, scale), (between, between)]
        for ratio in (2.0, 3.0):
            root = math.sqrt(ratio)
            sides += [(scale * root, scale / root), (scale / root, scale * root)]
        maps.append(sides)
    return maps


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, eps=0.001, momentum=0.03), nn.ReLU6(inplace=True))


def _extra(inputs: int, outputs: int) -> nn.Sequential:
    half = outputs // 2
    return nn.Sequential(_conv(inputs, half), _conv(half, half, 3, 2, groups=half), _conv(half, outputs))


class BoxHead(nn.Module):
    """A depthwise 3x3 and a 1x1 on each map, once for classes and once for offsets."""

    def __init__(self, channels: Sequence[int], anchors: Sequence[int], classes: int) -> None:
        super().__init__()
        pairs = list(zip(channels, anchors, strict=True))
        self.classification = nn.ModuleList(self._block(c, a * (classes + 1)) for c, a in pairs)
        self.regression = nn.ModuleList(self._block(c, a * 4) for c, a in pairs)

    @staticmethod
    def _block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(_conv(inputs, inputs, 3, groups=inputs), nn.Conv2d(inputs, outputs, 1))

    def forward(self, maps: Sequence[Tensor], image_size: tuple[int, int]) -> BoxMaps:
        return BoxMaps(
            [block(one) for block, one in zip(self.classification, maps, strict=True)],
            [block(one) for block, one in zip(self.regression, maps, strict=True)],
            image_size,
        )


class SSDLite(Detector):
    """Images NCHW in [0, 1] to `BoxMaps`. Levels c2 to c5 of the backbone and the first four maps, m1 to m4."""

    backbone: MobileNetV2
    # SSD keeps more candidates than RetinaNet: its scores are lower.
    selection = Selection(threshold=0.01, candidates=1000, iou=0.45, limit=100)

    def __init__(self, arch: SSDLiteArch, *, num_classes: int, preprocess: Preprocess) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.normalise = Normalise(preprocess)
        self.backbone = MobileNetV2(width=arch.width, output_stride=32)
        self.last = mobilenet_v2(width_mult=arch.width).features[-1]
        extra = [max(16, int(count * arch.width)) for count in EXTRA]
        inputs = [self.last.out_channels, *extra]
        self.extra = nn.ModuleList(_extra(a, b) for a, b in zip(inputs, extra, strict=False))
        expanded = self.backbone.expanded_channels
        channels = [expanded, *inputs]
        self._sides = anchor_sides()
        self.grid = [(stride, len(sides)) for stride, sides in zip(STRIDES, self._sides, strict=True)]
        self.box_head = BoxHead(channels, [len(sides) for sides in self._sides], num_classes)
        for part in (self.extra, self.box_head):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.normal_(module.weight, std=0.03)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
        named = zip(LEVELS, channels, STRIDES, strict=False)
        self.levels = {**self.backbone.levels, **{name: Level(count, stride) for name, count, stride in named}}

    def forward(self, images: Tensor) -> ModelOutput:
        features, expanded = self.backbone.with_expansion(self.normalise(images))
        maps = [expanded, self.last(features["c5"])]
        for block in self.extra:
            maps.append(block(maps[-1]))
        features |= dict(zip(LEVELS, maps, strict=False))
        return ModelOutput(features, raw=self.box_head(maps, (images.shape[-2], images.shape[-1])))

    def anchors(self, image_size: tuple[int, int], device: torch.device) -> Tensor:
        """All anchors A4 for an input of (height, width), map by map, position-major; centred in their cells."""
        height, width = image_size
        grids = []
        for sides, (rows, columns) in zip(self._sides, self._sizes(image_size), strict=True):
            y = (torch.arange(rows, device=device, dtype=torch.float32) + 0.5) * (height / rows)
            x = (torch.arange(columns, device=device, dtype=torch.float32) + 0.5) * (width / columns)
            y_HW, x_HW = torch.meshgrid(y, x, indexing="ij")
            centre_P12 = torch.stack([x_HW, y_HW], dim=-1).reshape(-1, 1, 2)
            # Sides beyond the input are cut before anchors are placed, as torchvision does.
            half_B2 = (
                torch.tensor(sides, device=device).clamp(max=1.0) * torch.tensor([width, height], device=device) / 2
            )
            grids.append(torch.cat([centre_P12 - half_B2, centre_P12 + half_B2], dim=-1).reshape(-1, 4))
        return torch.cat(grids)

    def loss(
        self,
        out: ModelOutput,
        rows: Sequence[int],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        sizes: Sizes = None,
    ) -> dict[str, Tensor]:
        logits_NAK, offsets_NA4 = self._flat(out.raw)
        anchors_A4 = self.anchors(out.raw.image_size, logits_NAK.device)
        with torch.autocast(device_type=logits_NAK.device.type, enabled=False):
            zero = logits_NAK.sum() * 0 + offsets_NA4.sum() * 0
            class_sum, box_sum, positives = zero, zero, 0
            for row, boxes_G4, labels_G in zip(rows, boxes, labels, strict=True):
                match_A = match_each(boxes_G4, anchors_A4, OVERLAP)
                positive = match_A >= 0
                wanted_A = torch.zeros_like(match_A)
                wanted_A[positive] = labels_G[match_A[positive]] + 1
                each_A = F.cross_entropy(logits_NAK[row], wanted_A, reduction="none")
                count = int(positive.sum())
                hardest = each_A[~positive].sort(descending=True).values[: NEGATIVES * count]
                class_sum = class_sum + each_A[positive].sum() + hardest.sum()
                target = encode(boxes_G4[match_A[positive]], anchors_A4[positive], WEIGHTS)
                box_sum = box_sum + F.smooth_l1_loss(offsets_NA4[row][positive], target, reduction="sum")
                positives += count
            number = max(1.0, ranks.total(positives)) / ranks.world()
            return {"class": class_sum / number, "box": box_sum / number}

    def candidates(self, out: ModelOutput, image_size: tuple[int, int], sizes: Sizes = None) -> tuple[Tensor, Tensor]:
        logits_NAK, offsets_NA4 = self._flat(out.raw)
        anchors_A4 = self.anchors(image_size, logits_NAK.device)
        return logits_NAK.softmax(dim=-1)[..., 1:], clip_each(
            decode(offsets_NA4, anchors_A4, WEIGHTS), image_size, sizes
        )

    @property
    def head(self) -> nn.Module:
        """Six maps to `BoxMaps`."""
        return self.box_head

    @staticmethod
    def _sizes(image_size: tuple[int, int]) -> list[tuple[int, int]]:
        # Not as -(-a // b): ONNX divides towards zero.
        return [((image_size[0] + stride - 1) // stride, (image_size[1] + stride - 1) // stride) for stride in STRIDES]

    def _flat(self, raw: BoxMaps) -> tuple[Tensor, Tensor]:
        def joined(maps: list[Tensor], width: int) -> Tensor:
            split = [one.float().unflatten(1, (-1, width)) for one in maps]
            return torch.cat([one.permute(0, 3, 4, 1, 2).flatten(1, 3) for one in split], dim=1)

        return joined(raw.classes, self.num_classes + 1), joined(raw.offsets, 4)
