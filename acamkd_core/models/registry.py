"""From an architecture's fields to a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from acamkd_core.models.base import TaskModel
from acamkd_core.models.classifier import Classifier
from acamkd_core.models.deeplabv3 import DeepLabV3
from acamkd_core.models.faster_rcnn import FasterRCNN
from acamkd_core.models.fcos import FCOS
from acamkd_core.models.lraspp import LRASPP
from acamkd_core.models.mobile_deeplabv3 import MobileDeepLabV3
from acamkd_core.models.pspnet import PSPNet
from acamkd_core.models.reppoints import RepPoints
from acamkd_core.models.retinanet import RetinaNet
from acamkd_core.models.ssdlite import SSDLite
from acamkd_core.models.timm_classifier import TimmClassifier
from acamkd_core.spec.archs import (
    Arch,
    DeepLabV3Arch,
    FasterRCNNArch,
    FCOSArch,
    LRASPPArch,
    MobileDeepLabV3Arch,
    MobileNetV2Arch,
    MobileNetV3Arch,
    PSPNetArch,
    RepPointsArch,
    ResNetArch,
    RetinaNetArch,
    SSDLiteArch,
    TimmArch,
)
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.models import Preprocess

FAMILIES: dict[type[Any], Callable[..., TaskModel]] = {
    DeepLabV3Arch: DeepLabV3,
    MobileDeepLabV3Arch: MobileDeepLabV3,
    PSPNetArch: PSPNet,
    LRASPPArch: LRASPP,
    RetinaNetArch: RetinaNet,
    FCOSArch: FCOS,
    RepPointsArch: RepPoints,
    FasterRCNNArch: FasterRCNN,
    SSDLiteArch: SSDLite,
    MobileNetV2Arch: Classifier,
    MobileNetV3Arch: Classifier,
    ResNetArch: Classifier,
    TimmArch: TimmClassifier,
}


def build_model(arch: Arch, *, num_classes: int, preprocess: Preprocess | None = None) -> TaskModel:
    """An untrained network (random weights from torch's generator) that knows its preprocessing.

    Raises:
        CoreError: `model.classes` for fewer than two classes.
    """
    if num_classes < 2:
        raise CoreError(
            "model.classes",
            f"a network tells classes apart, and the dataset has {num_classes}",
            hint="name what is not your class as a class of its own (background) instead of ignoring it",
            field="dataset",
            value=num_classes,
        )
    return FAMILIES[type(arch)](arch, num_classes=num_classes, preprocess=preprocess or Preprocess())
