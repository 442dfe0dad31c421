"""torchvision: segmentation networks (backbone., classifier., aux_classifier.), RetinaNet (backbone.body., backbone.fpn.,
head.) and bare ImageNet classifiers.

The DeepLab head is `classifier.{0: ASPP, 1: 3x3 convolution, 2: batch norm, 4: scores}`; LR-ASPP's is written out, and
its backbone is numbered. A bare MobileNet has `features.`, a bare ResNet starts at `conv1`.
"""

from acamkd_core.models.layouts.base import Layout

LAYOUT = Layout(
    name="torchvision",
    groups=(
        (
            (r"^classifier\.0\.", "aspp_head.aspp."),
            (r"^classifier\.([12])\.", r"aspp_head.refine.<\1>."),
            (r"^classifier\.4\.", "aspp_head.classifier."),
            (r"^classifier\.(cbr|scale|low_classifier|high_classifier)\.", r"lraspp_head.\1."),
            (r"^aux_classifier\.", "aux_head."),
            (r"^backbone\.(\d+)\.", r"backbone.features.\1."),
            (r"^backbone\.body\.", "backbone."),
            (r"^backbone\.fpn\.", "neck."),
            (r"^head\.(classification|regression)_head\.", r"box_head.\1_head."),
            (r"^rpn\.head\.", "box_head.rpn."),
            (r"^roi_heads\.box_(?:head|predictor)\.", "box_head.roi."),
            (r"^(features|conv1|bn1|layer[1-4])\.", r"backbone.\1."),
        ),
        (
            (r"^aspp_head\.refine\.<1>\.", "aspp_head.refine.0."),
            (r"^aspp_head\.refine\.<2>\.", "aspp_head.refine.1."),
            (r"^backbone\.conv1\.", "backbone.stem.0."),
            (r"^backbone\.bn1\.", "backbone.stem.1."),
            # The published files of detectors are older than their blocks: no sequences of one.
            (r"^neck\.(inner|layer)_blocks\.(\d)\.(weight|bias)$", r"neck.\1_blocks.\2.0.\3"),
            (r"^box_head\.rpn\.conv\.(weight|bias)$", r"box_head.rpn.conv.0.0.\1"),
            # The published files are older than the blocks: ReLUs counted among the convolutions.
            (r"^(box_head\.\w+\.conv)\.0\.(weight|bias)$", r"\1.0.0.\2"),
            (r"^(box_head\.\w+\.conv)\.2\.(weight|bias)$", r"\1.1.0.\2"),
            (r"^(box_head\.\w+\.conv)\.4\.(weight|bias)$", r"\1.2.0.\2"),
            (r"^(box_head\.\w+\.conv)\.6\.(weight|bias)$", r"\1.3.0.\2"),
        ),
    ),
    ignored=(r"^features\.18\.", r"^fc\."),  # parts of ImageNet classifiers behind the backbone
)

# Whole ImageNet classifiers. Apart, because a segmenter's head is called `classifier` too.
CLASSIFIER = Layout(
    name="torchvision_classifier",
    groups=(
        (
            (r"^features\.18\.", "class_head.conv."),  # MobileNetV2's; MobileNetV3 has none of that number
            (r"^features\.", "backbone.features."),
            (r"^classifier\.", "class_head.classifier."),
            (r"^fc\.", "class_head.classifier."),
            (r"^conv1\.", "backbone.stem.0."),
            (r"^bn1\.", "backbone.stem.1."),
            (r"^layer([1-4])\.", r"backbone.layer\1."),
        ),
    ),
)

# FCOS. Apart, because its towers hold group norms, and RetinaNet's convolutions have the same names.
FCOS = Layout(
    name="torchvision",
    groups=(
        (
            (r"^backbone\.body\.conv1\.", "backbone.stem.0."),
            (r"^backbone\.body\.bn1\.", "backbone.stem.1."),
            (r"^backbone\.body\.", "backbone."),
            (r"^backbone\.fpn\.", "neck."),
            (r"^head\.classification_head\.conv\.", "box_head.class_tower."),
            (r"^head\.regression_head\.conv\.", "box_head.box_tower."),
            (r"^head\.(?:classification|regression)_head\.", "box_head."),
        ),
    ),
)
