"""torchvision's published weights that say which network they belong to, for readers without torch."""

from __future__ import annotations

from typing import Any, NamedTuple

from acamkd_core.spec.presets import PRESETS


class PublishedNetwork(NamedTuple):
    """The fields of an `arch`, and the number of classes that its weights score."""

    arch: dict[str, Any]
    classes: int


def _deeplab(backbone: str) -> dict[str, Any]:
    return {**PRESETS[f"deeplabv3-{backbone}"], "align_corners": False}


# By the name of the weights' enum. Detectors have an output for each of COCO's category ids; Faster R-CNN's first is background.
NETWORKS: dict[str, PublishedNetwork] = {
    **{
        f"{enum}_Weights": PublishedNetwork(PRESETS[preset], 1000)
        for enum, preset in (
            ("ResNet18", "resnet18"),
            ("ResNet34", "resnet34"),
            ("ResNet50", "resnet50"),
            ("ResNet101", "resnet101"),
            ("MobileNet_V2", "mobilenet_v2-1.0"),
            ("MobileNet_V3_Large", "mobilenet_v3-large"),
            ("MobileNet_V3_Small", "mobilenet_v3-small"),
        )
    },
    "DeepLabV3_ResNet50_Weights": PublishedNetwork(_deeplab("resnet50"), 21),
    "DeepLabV3_ResNet101_Weights": PublishedNetwork(_deeplab("resnet101"), 21),
    "LRASPP_MobileNet_V3_Large_Weights": PublishedNetwork(PRESETS["lraspp-mobilenet_v3_large"], 21),
    "RetinaNet_ResNet50_FPN_Weights": PublishedNetwork(PRESETS["retinanet-r50-fpn-torchvision"], 91),
    "FCOS_ResNet50_FPN_Weights": PublishedNetwork(PRESETS["fcos-r50-fpn"], 91),
    "FasterRCNN_ResNet50_FPN_Weights": PublishedNetwork(PRESETS["faster_rcnn-resnet50-torchvision"], 90),
}


def published(name: str) -> PublishedNetwork | None:
    """The network of `Enum.NAME`; None where the spec has to say it (backbones of other networks, networks that we do not have)."""
    return NETWORKS.get(name.partition(".")[0])
