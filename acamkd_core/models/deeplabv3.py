"""DeepLabV3 (Chen et al. 2017, arXiv 1706.05587) on ResNet and MobileNetV2 backbones.

The preset `deeplabv3-mobilenet_v2-3.2m` is the student of the Cityscapes distillation tables: trunk cut at 320
channels, 128-channel ASPP with rates 12, 24, 36, output stride 8, no auxiliary head.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from acamkd_core.models.backbones import Backbone, MobileNetV2, ResNet
from acamkd_core.models.base import Level, ModelOutput, Normalise, TaskModel
from acamkd_core.models.heads import ASPPHead, FCNHead, scores_from
from acamkd_core.spec.models import DeepLabV3Arch, Preprocess


class DeepLabV3(TaskModel):
    """Images NCHW in [0, 1] to class scores at the output stride; the task resizes them (`align_corners`)."""

    def __init__(self, arch: DeepLabV3Arch, *, num_classes: int, preprocess: Preprocess) -> None:
        super().__init__()
        self.align_corners = arch.align_corners
        self.normalise = Normalise(preprocess)
        self.backbone: Backbone
        if arch.backbone == "mobilenet_v2":
            self.backbone = MobileNetV2(width=arch.width, output_stride=arch.output_stride)
        else:
            self.backbone = ResNet(arch.backbone, output_stride=arch.output_stride, deep_stem=arch.deep_stem)
        channels = self.backbone.out_channels
        self.aspp_head = ASPPHead(channels, arch.aspp_channels, arch.aspp_rates, num_classes, refine=True)
        self.aux_head = FCNHead(self.backbone.levels["c4"].channels, num_classes) if arch.aux_head else None
        levels = {
            **self.backbone.levels,
            "aspp": Level(arch.aspp_channels, arch.output_stride),
            "logits": Level(num_classes, arch.output_stride),
        }
        self.levels = {name: replace(level, onward=True) for name, level in levels.items()}

    def forward(self, images: Tensor) -> ModelOutput:
        features = self.backbone(self.normalise(images))
        features["aspp"], logits = self.aspp_head(features["c5"])
        features["logits"] = logits
        # Only the loss reads the auxiliary scores: no arithmetic for them at inference.
        aux = self.aux_head(features["c4"]) if self.aux_head is not None and self.training else None
        return ModelOutput(features=features, raw=logits, aux=aux)

    def onward(self, replaced: dict[str, Tensor]) -> list[ModelOutput]:
        return [
            ModelOutput({}, raw=scores_from(self.backbone, self.aspp_head, level, value))
            for level, value in replaced.items()
        ]

    @property
    def head(self) -> nn.Module:
        """c5 to (ASPP map, class scores)."""
        return self.aspp_head
