"""Named architectures: those of the papers' tables, with the settings that their names leave out."""

from __future__ import annotations

from typing import Any

# Three different networks are called "DeepLabV3-MobileNetV2" in the literature (2.1M, 3.2M, 512-channel ASPP):
# a preset names which one is meant.
PRESETS: dict[str, dict[str, Any]] = {
    "deeplabv3-mobilenet_v2-3.2m": {
        "family": "deeplabv3",
        "backbone": "mobilenet_v2",
        "width": 1.0,
        "output_stride": 8,
        "aspp_channels": 128,
        "aspp_rates": (12, 24, 36),
        "align_corners": True,
        "aux_head": False,
    },
    "deeplabv3-resnet18": {
        "family": "deeplabv3",
        "backbone": "resnet18",
        "output_stride": 8,
        "aspp_channels": 128,
        "aspp_rates": (12, 24, 36),
        "align_corners": True,
        "aux_head": True,
    },
    "deeplabv3-resnet101": {
        "family": "deeplabv3",
        "backbone": "resnet101",
        "output_stride": 8,
        "aspp_channels": 256,
        "aspp_rates": (12, 24, 36),
        "align_corners": True,
        "aux_head": True,
    },
    "deeplabv3-resnet50": {
        "family": "deeplabv3",
        "backbone": "resnet50",
        "output_stride": 8,
        "aspp_channels": 256,
        "aspp_rates": (12, 24, 36),
        "align_corners": True,
        "aux_head": True,
    },
    # The teacher and the larger student of the Cityscapes distillation tables: deep stem, 61.1M and 13.6M with the
    # auxiliary head. torchvision's ImageNet weights do not fit this stem.
    "deeplabv3-resnet101-61.1m": {
        "family": "deeplabv3",
        "backbone": "resnet101",
        "output_stride": 8,
        "aspp_channels": 256,
        "aspp_rates": (12, 24, 36),
        "align_corners": True,
        "aux_head": True,
        "deep_stem": True,
    },
    "deeplabv3-resnet18-13.6m": {
        "family": "deeplabv3",
        "backbone": "resnet18",
        "output_stride": 8,
        "aspp_channels": 128,
        "aspp_rates": (12, 24, 36),
        "align_corners": True,
        "aux_head": True,
        "deep_stem": True,
    },
    # Of the Cityscapes tables too: deep stem, 128 channels behind the pyramid, 12.9M with the auxiliary head.
    "pspnet-resnet18-12.9m": {
        "family": "pspnet",
        "backbone": "resnet18",
        "psp_channels": 128,
        "align_corners": True,
        "aux_head": True,
        "deep_stem": True,
    },
    "pspnet-resnet50": {"family": "pspnet", "backbone": "resnet50", "align_corners": True, "aux_head": True},
    "pspnet-resnet101": {"family": "pspnet", "backbone": "resnet101", "align_corners": True, "aux_head": True},
    "lraspp-mobilenet_v3_large": {"family": "lraspp", "backbone": "mobilenet_v3_large"},
    "lraspp-mobilenet_v2": {"family": "lraspp", "backbone": "mobilenet_v2"},
    # The detection papers' pair, which are mmdetection's networks: no ReLU before P7. torchvision's RetinaNet differs in
    # P6 and in the rounding of its anchors.
    "retinanet-r50-fpn": {"family": "retinanet", "backbone": "resnet50", "p7_relu": False},
    "retinanet-r101-fpn": {"family": "retinanet", "backbone": "resnet101", "p7_relu": False},
    "retinanet-x101-64x4d-fpn": {"family": "retinanet", "backbone": "resnext101_64x4d", "p7_relu": False},
    "retinanet-r50-fpn-torchvision": {
        "family": "retinanet",
        "backbone": "resnet50",
        "p6_from": "p5",
        "anchor_rounding": True,
    },
    "retinanet-mobilenet_v2": {"family": "retinanet", "backbone": "mobilenet_v2", "fpn_channels": 128},
    "fcos-r50-fpn": {"family": "fcos", "backbone": "resnet50"},
    "reppoints-r50-fpn": {"family": "reppoints", "backbone": "resnet50"},
    "reppoints-r101-fpn": {"family": "reppoints", "backbone": "resnet101"},
    "reppoints-x101-32x4d-dconv-fpn": {"family": "reppoints", "backbone": "resnext101_32x4d", "deformable": True},
    # The detection papers' two-stage pair, which are mmdetection's networks: another RoIAlign than torchvision's.
    "faster_rcnn-resnet50": {
        "family": "faster_rcnn",
        "backbone": "resnet50",
        "roi_aligned": True,
        "roi_sampling_ratio": 0,
    },
    "faster_rcnn-resnet101": {
        "family": "faster_rcnn",
        "backbone": "resnet101",
        "roi_aligned": True,
        "roi_sampling_ratio": 0,
    },
    "faster_rcnn-resnet50-torchvision": {"family": "faster_rcnn", "backbone": "resnet50", "anchor_rounding": True},
    "faster_rcnn-mobilenet_v2": {
        "family": "faster_rcnn",
        "backbone": "mobilenet_v2",
        "fpn_channels": 128,
        "head_channels": 512,
    },
    "ssdlite-mobilenet_v2": {"family": "ssdlite"},
    # Classifiers; the two MobileNetV2 are rows of its paper's ImageNet table.
    "mobilenet_v2-1.0": {"family": "mobilenet_v2"},
    "mobilenet_v2-1.4": {"family": "mobilenet_v2", "width": 1.4},
    "mobilenet_v3-large": {"family": "mobilenet_v3"},
    "mobilenet_v3-small": {"family": "mobilenet_v3", "backbone": "mobilenet_v3_small"},
    "resnet18": {"family": "resnet", "backbone": "resnet18"},
    "resnet34": {"family": "resnet", "backbone": "resnet34"},
    "resnet50": {"family": "resnet", "backbone": "resnet50"},
    "resnet101": {"family": "resnet", "backbone": "resnet101"},
    "mobile_deeplabv3": {"family": "mobile_deeplabv3", "aspp": False},
    "mobile_deeplabv3-aspp": {"family": "mobile_deeplabv3", "aspp": True},
}
