"""OpenMMLab's files: mmdetection, mmsegmentation, and mmpretrain's backbones.

A convolution with its norm is `X.conv`, `X.bn` (or `X.gn`) everywhere. ResNets have torchvision's names, the deep stem is a
`stem` of numbered layers as ours is. MobileNetV2 counts its blocks by stage, `layer1.0` to `layer7.0`.

What the names do not tell, and the architecture has to say (docs/networks.md): `style: mmseg` of segmenters; `p7_relu: false`
of RetinaNet; `level_scales: true` and `resnet_style: caffe` of FCOS; `roi_aligned: true` and `roi_sampling_ratio: 0` of
Faster R-CNN.
"""

import torch
from torch import Tensor

from acamkd_core.models.layouts.base import Layout

_REPEATS = (1, 2, 3, 4, 3, 3, 1)
_BLOCKS = [(stage, index) for stage, count in enumerate(_REPEATS, 1) for index in range(count)]
_BLOCK = r"^(backbone\.features\.\d+\.conv)"

_BACKBONES = (
    (
        (r"^backbone\.conv1\.conv\.", "backbone.features.0.0."),
        (r"^backbone\.conv1\.bn\.", "backbone.features.0.1."),
        (r"^backbone\.conv1\.", "backbone.stem.0."),
        (r"^backbone\.bn1\.", "backbone.stem.1."),
        *(
            (rf"^backbone\.layer{stage}\.{index}\.conv\.", f"backbone.features.{number}.conv.")
            for number, (stage, index) in enumerate(_BLOCKS, 1)
        ),
    ),
    (
        # Block 1 has no expansion.
        (r"^backbone\.features\.1\.conv\.0\.conv\.", "backbone.features.1.conv.0.0."),
        (r"^backbone\.features\.1\.conv\.0\.bn\.", "backbone.features.1.conv.0.1."),
        (r"^backbone\.features\.1\.conv\.1\.conv\.", "backbone.features.1.conv.1."),
        (r"^backbone\.features\.1\.conv\.1\.bn\.", "backbone.features.1.conv.2."),
        (_BLOCK + r"\.([01])\.conv\.", r"\1.\2.0."),
        (_BLOCK + r"\.([01])\.bn\.", r"\1.\2.1."),
        (_BLOCK + r"\.2\.conv\.", r"\1.2."),
        (_BLOCK + r"\.2\.bn\.", r"\1.3."),
    ),
)
_BEHIND = (r"^backbone\.conv2\.", r"^head\.")  # MobileNetV2's 1280 channels, and mmpretrain's classifiers

_AUX = (
    (r"^auxiliary_head\.convs\.0\.conv\.", "aux_head.0."),
    (r"^auxiliary_head\.convs\.0\.bn\.", "aux_head.1."),
    (r"^auxiliary_head\.conv_seg\.", "aux_head.4."),
)

DEEPLABV3 = Layout(
    name="mmseg",
    groups=(
        (
            (r"^decode_head\.image_pool\.1\.conv\.", "aspp_head.aspp.convs.0.1."),
            (r"^decode_head\.image_pool\.1\.bn\.", "aspp_head.aspp.convs.0.2."),
            # The image-level branch comes first there: the others follow it.
            *((rf"^decode_head\.aspp_modules\.{n}\.conv\.", f"aspp_head.aspp.convs.{n + 1}.0.") for n in range(8)),
            *((rf"^decode_head\.aspp_modules\.{n}\.bn\.", f"aspp_head.aspp.convs.{n + 1}.1.") for n in range(8)),
            (r"^decode_head\.bottleneck\.conv\.", "aspp_head.aspp.project.0."),
            (r"^decode_head\.bottleneck\.bn\.", "aspp_head.aspp.project.1."),
            (r"^decode_head\.conv_seg\.", "aspp_head.classifier."),
            *_AUX,
        ),
        *_BACKBONES,
    ),
    ignored=_BEHIND,
)

PSPNET = Layout(
    name="mmseg",
    groups=(
        (
            (r"^decode_head\.psp_modules\.(\d)\.1\.conv\.", r"psp_head.stages.\1.1."),
            (r"^decode_head\.psp_modules\.(\d)\.1\.bn\.", r"psp_head.stages.\1.2."),
            (r"^decode_head\.bottleneck\.conv\.", "psp_head.bottleneck.0."),
            (r"^decode_head\.bottleneck\.bn\.", "psp_head.bottleneck.1."),
            (r"^decode_head\.conv_seg\.", "psp_head.classifier."),
            *_AUX,
        ),
        *_BACKBONES,
    ),
    ignored=_BEHIND,
)

_LATERAL = (r"^neck\.lateral_convs\.(\d)\.conv\.", r"neck.inner_blocks.\1.0.")
_OUTPUT = (r"^neck\.fpn_convs\.(\d)\.conv\.", r"neck.layer_blocks.\1.0.")
_NECK = (
    _LATERAL,
    (r"^neck\.fpn_convs\.3\.conv\.", "neck.extra_blocks.p6."),
    (r"^neck\.fpn_convs\.4\.conv\.", "neck.extra_blocks.p7."),
    _OUTPUT,
)

RETINANET = Layout(
    name="mmdet",
    groups=(
        (
            *_NECK,
            (r"^bbox_head\.cls_convs\.(\d)\.conv\.", r"box_head.classification_head.conv.\1.0."),
            (r"^bbox_head\.reg_convs\.(\d)\.conv\.", r"box_head.regression_head.conv.\1.0."),
            (r"^bbox_head\.retina_cls\.", "box_head.classification_head.cls_logits."),
            (r"^bbox_head\.retina_reg\.", "box_head.regression_head.bbox_reg."),
        ),
        *_BACKBONES,
    ),
    ignored=_BEHIND,
)


def _background_first(tensor: Tensor) -> Tensor:
    """Rows of class scores (K+1): theirs have the background last, ours first."""
    return tensor.roll(1, 0)


def _with_background(tensor: Tensor) -> Tensor:
    """Rows of offsets, 4K to 4(K+1): the background's box, which nobody reads, has none there."""
    return torch.cat([tensor.new_zeros(4, *tensor.shape[1:]), tensor])


# Since version 2.0. Before it the regions' head was a bare `bbox_head`, with the background first and a box of its own: those
# files lack the head here, and a teacher's is refused.
FASTER_RCNN = Layout(
    name="mmdet",
    groups=(
        (
            _LATERAL,
            _OUTPUT,  # of all four: the coarsest is a copy of every second position
            (r"^rpn_head\.rpn_conv\.", "box_head.rpn.conv.0.0."),
            (r"^rpn_head\.rpn_cls\.", "box_head.rpn.cls_logits."),
            (r"^rpn_head\.rpn_reg\.", "box_head.rpn.bbox_pred."),
            (r"^roi_head\.bbox_head\.shared_fcs\.0\.", "box_head.roi.fc6."),
            (r"^roi_head\.bbox_head\.shared_fcs\.1\.", "box_head.roi.fc7."),
            (r"^roi_head\.bbox_head\.fc_cls\.", "box_head.roi.cls_score."),
            (r"^roi_head\.bbox_head\.fc_reg\.", "box_head.roi.bbox_pred."),
        ),
        *_BACKBONES,
    ),
    ignored=_BEHIND,
    conversions=(
        (r"roi_head\.bbox_head\.fc_cls\.", _background_first),
        (r"roi_head\.bbox_head\.fc_reg\.", _with_background),
    ),
)

# A tower is convolution, group norm, ReLU in a row.
_TOWERS = tuple(
    (rf"^bbox_head\.{theirs}\.{n}\.{part}\.", f"box_head.{ours}.{3 * n + place}.")
    for theirs, ours in (("cls_convs", "class_tower"), ("reg_convs", "box_tower"))
    for part, place in (("conv", 0), ("gn", 1))
    for n in range(8)
)

# The outputs were called fcos_cls ... before version 2.3.
FCOS = Layout(
    name="mmdet",
    groups=(
        (
            *_NECK,
            *_TOWERS,
            (r"^bbox_head\.(?:conv|fcos)_cls\.", "box_head.cls_logits."),
            (r"^bbox_head\.(?:conv|fcos)_reg\.", "box_head.bbox_reg."),
            (r"^bbox_head\.(?:conv|fcos)_centerness\.", "box_head.bbox_ctrness."),
            (r"^bbox_head\.scales\.(\d)\.scale$", r"box_head.scales.\1"),
        ),
        *_BACKBONES,
    ),
    ignored=_BEHIND,
)

# Neck and towers have group norms, and convolutions without biases; deformable convolutions are a bare weight.
REPPOINTS = Layout(
    name="mmdet",
    groups=(
        (
            *(
                (rf"^neck\.{theirs}\.{part}\.", rf"neck.{ours}.{place}.")
                for part, place in (("conv", 0), ("gn", 1))
                for theirs, ours in (
                    (r"lateral_convs\.(\d)", r"inner_blocks.\1"),
                    (r"fpn_convs\.3", "extra_blocks.p6"),
                    (r"fpn_convs\.4", "extra_blocks.p7"),
                    (r"fpn_convs\.(\d)", r"layer_blocks.\1"),
                )
            ),
            *_TOWERS,
            (r"^bbox_head\.reppoints_pts_init_conv\.", "box_head.initial_conv."),
            (r"^bbox_head\.reppoints_pts_init_out\.", "box_head.initial_points."),
            (r"^bbox_head\.reppoints_pts_refine_conv\.", "box_head.refined_conv."),
            (r"^bbox_head\.reppoints_pts_refine_out\.", "box_head.refined_points."),
            (r"^bbox_head\.reppoints_cls_conv\.", "box_head.class_conv."),
            (r"^bbox_head\.reppoints_cls_out\.", "box_head.cls_logits."),
            (r"^bbox_head\.moment_transfer$", "box_head.moment_transfer"),
        ),
        *_BACKBONES,
    ),
    ignored=_BEHIND,
)
