"""torchvision: segmentation networks (backbone., classifier., aux_classifier.) and bare ImageNet classifiers.

The DeepLab head is `classifier.{0: ASPP, 1: 3x3 convolution, 2: batch norm, 4: scores}`; a bare MobileNetV2 has
`features.`, a bare ResNet starts at `conv1`.
"""

from acamkd_core.models.layouts.base import Layout

LAYOUT = Layout(
    name="torchvision",
    groups=(
        (
            (r"^classifier\.0\.", "aspp_head.aspp."),
            (r"^classifier\.([12])\.", r"aspp_head.refine.<\1>."),
            (r"^classifier\.4\.", "aspp_head.classifier."),
            (r"^aux_classifier\.", "aux_head."),
            (r"^(features|conv1|bn1|layer[1-4])\.", r"backbone.\1."),
        ),
        (
            (r"^aspp_head\.refine\.<1>\.", "aspp_head.refine.0."),
            (r"^aspp_head\.refine\.<2>\.", "aspp_head.refine.1."),
            (r"^backbone\.conv1\.", "backbone.stem.0."),
            (r"^backbone\.bn1\.", "backbone.stem.1."),
        ),
    ),
    ignored=(r"^features\.18\.", r"^fc\."),  # parts of ImageNet classifiers behind the backbone
)
