"""PSPNet (Zhao et al., CVPR 2017, arXiv 1612.01105) on ResNet and MobileNetV2 backbones.

The pyramid pooling module averages c5 over grids of 1, 2, 3 and 6 cells a side, takes each average to a share of c5's
channels (1/4 with four grids), spreads it back over the map and concatenates all with c5 itself (section 3.2, figure 3).
The auxiliary head sits on c4 (section 3.3).

The preset `pspnet-resnet18-12.9m` is the student of the Cityscapes distillation tables: deep stem, output stride 8, a
3x3 convolution to 128 channels behind the pyramid, auxiliary head while training. The tables' 507.4 G multiply-adds are
483.6 G here: docs/networks.md says why. The paper's own networks have 512 channels there, as the presets of ResNet-50
and 101 have; it has a deep stem as well, which torchvision's ImageNet weights do not fit, so these presets have none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acamkd_core.models.backbones import build_backbone
from acamkd_core.models.heads import ContextHead, ImagePooling, conv_bn_relu
from acamkd_core.models.segmenter import ContextSegmenter
from acamkd_core.spec.archs import PSPNetArch
from acamkd_core.spec.models import Preprocess


class GridPooling(nn.Sequential):
    """Averages over a grid of `cells` x `cells`, 1x1 convolution, spread back over the map by bilinear interpolation.

    Cells of a map that is no multiple of the grid overlap by a position; a smaller map repeats positions.
    """

    def __init__(self, inputs: int, outputs: int, cells: int, *, align_corners: bool) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(cells), *conv_bn_relu(inputs, outputs))
        self.align_corners = align_corners

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = x
        for module in self:
            pooled = module(pooled)
        return F.interpolate(pooled, size=x.shape[2:], mode="bilinear", align_corners=self.align_corners)


class PSPHead(ContextHead):
    """Backbone map (c5) to (PSP map, class scores). The PSP map is what the 3x3 convolution makes of the pyramid.

    Args:
        inputs: channels of c5.
        channels: channels of the PSP map.
        bins: cells a side of each grid.
        num_classes: number of classes.
        align_corners: grid on which pooled features are spread back.
    """

    def __init__(
        self, inputs: int, channels: int, bins: tuple[int, ...], num_classes: int, *, align_corners: bool
    ) -> None:
        super().__init__()
        share = inputs // len(bins)
        # One cell is a broadcast on either grid, and the one that cannot train on a single image.
        self.stages = nn.ModuleList(
            ImagePooling(inputs, share)
            if cells == 1
            else GridPooling(inputs, share, cells, align_corners=align_corners)
            for cells in bins
        )
        self.bottleneck = conv_bn_relu(inputs + share * len(bins), channels, kernel=3)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def pool(self, c5: Tensor) -> Tensor:
        pooled: Tensor = self.bottleneck(torch.cat([c5, *(stage(c5) for stage in self.stages)], dim=1))
        return pooled

    def classify(self, pooled: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.dropout(pooled))
        return scores


class PSPNet(ContextSegmenter):
    """Pyramid pooling behind a dilated backbone, a 3x3 convolution, the classifier."""

    context = "psp"

    def __init__(self, arch: PSPNetArch, *, num_classes: int, preprocess: Preprocess) -> None:
        backbone = build_backbone(
            arch.backbone,
            width=arch.width,
            output_stride=arch.output_stride,
            deep_stem=arch.deep_stem,
            style=arch.style,
        )
        super().__init__(backbone, align_corners=arch.align_corners, preprocess=preprocess)
        self.psp_head = PSPHead(
            backbone.out_channels, arch.psp_channels, arch.bins, num_classes, align_corners=arch.align_corners
        )
        self._publish(arch.psp_channels, num_classes, aux_head=arch.aux_head)
