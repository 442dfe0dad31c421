"""Mobile DeepLabv3 (Sandler et al. 2018, arXiv 1801.04381, section 6.3): MobileNetV2 for segmentation on phones.

Without the atrous branches only the 1x1 branch and image pooling remain (2.11M parameters at 21 classes, 4.52M
with them). The paper's rates 6, 12, 18 belong to output stride 16; they keep their reach at other strides.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from acamkd_core.models.backbones import MobileNetV2
from acamkd_core.models.base import Level, ModelOutput, Normalise, TaskModel
from acamkd_core.models.heads import ASPPHead, scores_from
from acamkd_core.spec.models import MobileDeepLabV3Arch, Preprocess

_CHANNELS = 256


class MobileDeepLabV3(TaskModel):
    """Images NCHW in [0, 1] to class scores at the output stride; the task resizes them (`align_corners`)."""

    def __init__(self, arch: MobileDeepLabV3Arch, *, num_classes: int, preprocess: Preprocess) -> None:
        super().__init__()
        self.align_corners = arch.align_corners
        self.normalise = Normalise(preprocess)
        self.backbone = MobileNetV2(width=arch.width, output_stride=arch.output_stride)
        unit = 96 // arch.output_stride
        rates = (unit, 2 * unit, 3 * unit) if arch.aspp else ()
        self.aspp_head = ASPPHead(self.backbone.out_channels, _CHANNELS, rates, num_classes, refine=False)
        levels = {
            **self.backbone.levels,
            "aspp": Level(_CHANNELS, arch.output_stride),
            "logits": Level(num_classes, arch.output_stride),
        }
        self.levels = {name: replace(level, onward=True) for name, level in levels.items()}

    def forward(self, images: Tensor) -> ModelOutput:
        features = self.backbone(self.normalise(images))
        features["aspp"], logits = self.aspp_head(features["c5"])
        features["logits"] = logits
        return ModelOutput(features=features, raw=logits)

    def onward(self, replaced: dict[str, Tensor]) -> list[ModelOutput]:
        return [
            ModelOutput({}, raw=scores_from(self.backbone, self.aspp_head, level, value))
            for level, value in replaced.items()
        ]

    @property
    def head(self) -> nn.Module:
        """c5 to (ASPP map, class scores)."""
        return self.aspp_head
