"""DeepLabV3 (Chen et al. 2017, arXiv 1706.05587) on ResNet and MobileNetV2 backbones.

The preset `deeplabv3-mobilenet_v2-3.2m` is the student of the Cityscapes distillation tables: trunk cut at 320
channels, 128-channel ASPP with rates 12, 24, 36, output stride 8, no auxiliary head.
"""

from __future__ import annotations

from acamkd_core.models.backbones import build_backbone
from acamkd_core.models.heads import ASPPHead
from acamkd_core.models.segmenter import ContextSegmenter
from acamkd_core.spec.archs import DeepLabV3Arch
from acamkd_core.spec.models import Preprocess


class DeepLabV3(ContextSegmenter):
    """ASPP behind a dilated backbone, a 3x3 convolution, the classifier."""

    context = "aspp"

    def __init__(self, arch: DeepLabV3Arch, *, num_classes: int, preprocess: Preprocess) -> None:
        backbone = build_backbone(
            arch.backbone,
            width=arch.width,
            output_stride=arch.output_stride,
            deep_stem=arch.deep_stem,
            style=arch.style,
        )
        super().__init__(backbone, align_corners=arch.align_corners, preprocess=preprocess)
        self.aspp_head = ASPPHead(
            backbone.out_channels,
            arch.aspp_channels,
            arch.aspp_rates,
            num_classes,
            refine=arch.style != "mmseg",
            mmseg=arch.style == "mmseg",
        )
        self._publish(arch.aspp_channels, num_classes, aux_head=arch.aux_head)
