"""LR-ASPP (Howard et al., ICCV 2019, arXiv 1905.02244, section 6.4, figure 10): segmentation on MobileNetV3 and V2.

Two branches behind the backbone: c5 through a 1x1 convolution, scaled channel by channel by a gate from its global mean;
and c3, straight to class scores. The scores of both are added at c3's stride, 8.

As torchvision's `lraspp_mobilenet_v3_large`, with which this network agrees tensor by tensor, and unlike the paper, the
gate's mean is over the whole map: the paper pools 49x49 windows at strides 16 and 20, a choice for Cityscapes' size that
leaves nothing to pool on small images. A global mean also lets the network take any size.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn
from torch.nn import functional as F

from acamkd_core.models.backbones import build_backbone
from acamkd_core.models.base import Level, ModelOutput, Normalise, TaskModel
from acamkd_core.spec.archs import LRASPPArch, entry_levels
from acamkd_core.spec.models import Preprocess


class LRASPPHead(nn.Module):
    """Backbone maps (c3, c5) to (gated map at c5's stride, class scores at c3's).

    Attributes have torchvision's names.
    """

    def __init__(self, low: int, high: int, channels: int, num_classes: int, *, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.cbr = nn.Sequential(
            nn.Conv2d(high, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.scale = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(high, channels, 1, bias=False), nn.Sigmoid())
        self.low_classifier = nn.Conv2d(low, num_classes, 1)
        self.high_classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, c3: Tensor, c5: Tensor) -> tuple[Tensor, Tensor]:
        gated: Tensor = self.cbr(c5) * self.scale(c5)
        spread = F.interpolate(gated, size=c3.shape[2:], mode="bilinear", align_corners=self.align_corners)
        return gated, self.low_classifier(c3) + self.high_classifier(spread)


class LRASPP(TaskModel):
    """Images NCHW in [0, 1] to class scores at stride 8; the task resizes them (`align_corners`)."""

    def __init__(self, arch: LRASPPArch, *, num_classes: int, preprocess: Preprocess) -> None:
        super().__init__()
        self.align_corners = arch.align_corners
        self.normalise = Normalise(preprocess)
        self.backbone = build_backbone(arch.backbone, width=arch.width, output_stride=arch.output_stride)
        low, high = self.backbone.levels["c3"], self.backbone.levels["c5"]
        self.lraspp_head = LRASPPHead(
            low.channels, high.channels, arch.head_channels, num_classes, align_corners=arch.align_corners
        )
        levels = {
            **self.backbone.levels,
            "lraspp": Level(arch.head_channels, high.stride),
            "logits": Level(num_classes, low.stride),
        }
        # Behind c3 the way forks: from a deeper map alone the scores of the other branch are unknown.
        entries = entry_levels("lraspp", arch.backbone) or ()
        self.levels = {name: replace(level, onward=name in entries) for name, level in levels.items()}

    def forward(self, images: Tensor) -> ModelOutput:
        features = self.backbone(self.normalise(images))
        features["lraspp"], logits = self.lraspp_head(features["c3"], features["c5"])
        features["logits"] = logits
        return ModelOutput(features=features, raw=logits)

    def onward(self, replaced: dict[str, Tensor]) -> list[ModelOutput]:
        return [ModelOutput({}, raw=self._scores_from(level, value)) for level, value in replaced.items()]

    def _scores_from(self, level: str, value: Tensor) -> Tensor:
        if level == "logits":
            return value
        c3 = value if level == "c3" else self.backbone.stages()[1](value)
        scores: Tensor = self.lraspp_head(c3, self.backbone.onward("c3", c3))[1]
        return scores

    @property
    def head(self) -> nn.Module:
        """(c3, c5) to (gated map, class scores)."""
        return self.lraspp_head
