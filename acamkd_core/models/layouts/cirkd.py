"""CIRKD (Yang et al., CVPR 2022), the code line of the published Cityscapes teachers and students.

ResNets are `pretrained.`, MobileNetV2 is `pretrained.net.features.` with its blocks written flat, the ASPP branches
are `head.aspp.b0` to `b4`, the auxiliary head is `auxlayer.block`. Their ResNets have the deep stem
(`conv1, bn1, conv2, bn2, conv3, bn3`); `deep_stem` in the architecture has to say so. Their ImageNet files hold the bare
backbone: names without `pretrained.`, and a classifier that nobody needs here.
"""

from acamkd_core.models.layouts.base import Layout

_BACKBONES = (
    (r"^backbone\.conv1\.", "backbone.stem.0."),
    (r"^backbone\.bn1\.", "backbone.stem.1."),
    (r"^backbone\.conv2\.", "backbone.stem.3."),
    (r"^backbone\.bn2\.", "backbone.stem.4."),
    (r"^backbone\.conv3\.", "backbone.stem.6."),
    (r"^backbone\.bn3\.", "backbone.stem.7."),
    # Block 1 has no expansion: depthwise 0, 1 (then ReLU), projection 3, 4.
    (r"^backbone\.features\.1\.conv\.([01])\.", r"backbone.features.1.conv.0.\1."),
    (r"^backbone\.features\.1\.conv\.3\.", "backbone.features.1.conv.1."),
    (r"^backbone\.features\.1\.conv\.4\.", "backbone.features.1.conv.2."),
    # The others: expansion 0, 1, depthwise 3, 4, projection 6, 7.
    (r"^backbone\.features\.(\d+)\.conv\.([01])\.", r"backbone.features.\1.conv.0.\2."),
    (r"^backbone\.features\.(\d+)\.conv\.3\.", r"backbone.features.\1.conv.1.0."),
    (r"^backbone\.features\.(\d+)\.conv\.4\.", r"backbone.features.\1.conv.1.1."),
    (r"^backbone\.features\.(\d+)\.conv\.6\.", r"backbone.features.\1.conv.2."),
    (r"^backbone\.features\.(\d+)\.conv\.7\.", r"backbone.features.\1.conv.3."),
)
_BARE = ((r"^(conv[123]|bn[123]|layer[1-4]|features)\.", r"backbone.\1."),)
_BEHIND = (r"^fc\.", r"^classifier\.", r"^conv\.[01]\.", r"^features\.18\.")  # ImageNet classifiers' last layers

LAYOUT = Layout(
    name="cirkd",
    groups=(
        (
            (r"^pretrained\.(?:net\.)?", "backbone."),
            (r"^head\.aspp\.b0\.", "aspp_head.aspp.convs.0."),
            (r"^head\.aspp\.b([123])\.block\.", r"aspp_head.aspp.convs.\1."),
            (r"^head\.aspp\.b4\.gap\.", "aspp_head.aspp.convs.4."),
            (r"^head\.aspp\.project\.", "aspp_head.aspp.project."),
            (r"^head\.block\.4\.", "aspp_head.classifier."),
            (r"^head\.block\.", "aspp_head.refine."),
            (r"^auxlayer\.block\.", "aux_head."),
            *_BARE,
        ),
        _BACKBONES,
    ),
    ignored=_BEHIND,
)

# PSPNet has a layout of its own, because `head.block` is another convolution there.
PSPNET = Layout(
    name="cirkd_pspnet",
    groups=(
        (
            (r"^pretrained\.", "backbone."),
            (r"^head\.psp\.conv1\.([01])\.", r"psp_head.stages.0.<\1>."),
            (r"^head\.psp\.conv2\.([01])\.", r"psp_head.stages.1.<\1>."),
            (r"^head\.psp\.conv3\.([01])\.", r"psp_head.stages.2.<\1>."),
            (r"^head\.psp\.conv4\.([01])\.", r"psp_head.stages.3.<\1>."),
            (r"^head\.block\.", "psp_head.bottleneck."),
            (r"^head\.classifier\.", "psp_head.classifier."),
            (r"^auxlayer\.block\.", "aux_head."),
            *_BARE,
        ),
        (
            (r"^(psp_head\.stages\.\d)\.<0>\.", r"\1.1."),
            (r"^(psp_head\.stages\.\d)\.<1>\.", r"\1.2."),
            *_BACKBONES,
        ),
    ),
    ignored=_BEHIND,
)
