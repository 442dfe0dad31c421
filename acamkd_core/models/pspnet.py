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

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acamkd_core.models.backbones import Backbone, MobileNetV2, ResNet
from acamkd_core.models.base import Level, ModelOutput, Normalise, TaskModel
from acamkd_core.models.heads import FCNHead, ImagePooling, conv_bn_relu
from acamkd_core.spec.models import Preprocess, PSPNetArch


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


class PSPHead(nn.Module):
    """Backbone map (c5) to (PSP map, class scores).

    The PSP map is what the 3x3 convolution makes of the concatenated pyramid, before dropout, so that distillation
    compares features and not noise.

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

    def forward(self, c5: Tensor) -> tuple[Tensor, Tensor]:
        psp = self.pool(c5)
        return psp, self.classify(psp)

    def pool(self, c5: Tensor) -> Tensor:
        """The PSP map."""
        pooled: Tensor = self.bottleneck(torch.cat([c5, *(stage(c5) for stage in self.stages)], dim=1))
        return pooled

    def classify(self, psp: Tensor) -> Tensor:
        """Class scores from the PSP map."""
        scores: Tensor = self.classifier(self.dropout(psp))
        return scores


class PSPNet(TaskModel):
    """Images NCHW in [0, 1] to class scores at the output stride; the task resizes them (`align_corners`)."""

    def __init__(self, arch: PSPNetArch, *, num_classes: int, preprocess: Preprocess) -> None:
        super().__init__()
        self.align_corners = arch.align_corners
        self.normalise = Normalise(preprocess)
        self.backbone: Backbone
        if arch.backbone == "mobilenet_v2":
            self.backbone = MobileNetV2(width=arch.width, output_stride=arch.output_stride)
        else:
            self.backbone = ResNet(arch.backbone, output_stride=arch.output_stride, deep_stem=arch.deep_stem)
        self.psp_head = PSPHead(
            self.backbone.out_channels, arch.psp_channels, arch.bins, num_classes, align_corners=arch.align_corners
        )
        self.aux_head = FCNHead(self.backbone.levels["c4"].channels, num_classes) if arch.aux_head else None
        levels = {
            **self.backbone.levels,
            "psp": Level(arch.psp_channels, arch.output_stride),
            "logits": Level(num_classes, arch.output_stride),
        }
        self.levels = {name: replace(level, onward=True) for name, level in levels.items()}

    def forward(self, images: Tensor) -> ModelOutput:
        features = self.backbone(self.normalise(images))
        features["psp"], logits = self.psp_head(features["c5"])
        features["logits"] = logits
        # Only the loss reads the auxiliary scores: no arithmetic for them at inference.
        aux = self.aux_head(features["c4"]) if self.aux_head is not None and self.training else None
        return ModelOutput(features=features, raw=logits, aux=aux)

    def onward(self, replaced: dict[str, Tensor]) -> list[ModelOutput]:
        return [ModelOutput({}, raw=self._scores_from(level, value)) for level, value in replaced.items()]

    def _scores_from(self, level: str, value: Tensor) -> Tensor:
        if level == "logits":
            return value
        if level != "psp":
            value = self.psp_head.pool(self.backbone.onward(level, value))
        return self.psp_head.classify(value)

    @property
    def head(self) -> nn.Module:
        """c5 to (PSP map, class scores)."""
        return self.psp_head
