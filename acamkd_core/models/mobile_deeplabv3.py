"""Mobile DeepLabv3 (Sandler et al. 2018, arXiv 1801.04381, section 6.3): MobileNetV2 for segmentation on phones.

Without the atrous branches only the 1x1 branch and image pooling remain (2.11M parameters at 21 classes, 4.52M
with them). The paper's rates 6, 12, 18 belong to output stride 16; they keep their reach at other strides.
"""

from __future__ import annotations

from acamkd_core.models.backbones import MobileNetV2
from acamkd_core.models.heads import ASPPHead
from acamkd_core.models.segmenter import ContextSegmenter
from acamkd_core.spec.archs import MobileDeepLabV3Arch
from acamkd_core.spec.models import Preprocess

_CHANNELS = 256


class MobileDeepLabV3(ContextSegmenter):
    """MobileNetV2, a 1x1 branch and image pooling (with `aspp` three atrous branches too), the classifier."""

    context = "aspp"

    def __init__(self, arch: MobileDeepLabV3Arch, *, num_classes: int, preprocess: Preprocess) -> None:
        backbone = MobileNetV2(width=arch.width, output_stride=arch.output_stride)
        super().__init__(backbone, align_corners=arch.align_corners, preprocess=preprocess)
        unit = 96 // arch.output_stride
        rates = (unit, 2 * unit, 3 * unit) if arch.aspp else ()
        self.aspp_head = ASPPHead(backbone.out_channels, _CHANNELS, rates, num_classes, refine=False)
        self._publish(_CHANNELS, num_classes)
