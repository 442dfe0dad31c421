"""Short names of networks for headers and tables, e.g. `DLv3-MBV2 0.35`, `RetinaNet-R50`."""

from __future__ import annotations

from pathlib import PurePath

from acamkd_core.spec.archs import (
    Arch,
    DeepLabV3Arch,
    FasterRCNNArch,
    FCOSArch,
    LRASPPArch,
    MobileNetV2Arch,
    MobileNetV3Arch,
    PSPNetArch,
    RepPointsArch,
    ResNetArch,
    RetinaNetArch,
    SSDLiteArch,
    TimmArch,
)
from acamkd_core.spec.models import ModelSpec, TeacherSpec
from acamkd_core.spec.timm_models import PREFIX

_BACKBONES = {
    "mobilenet_v2": "MBV2",
    "mobilenet_v3_large": "MBV3",
    "mobilenet_v3_small": "MBV3-S",
    "resnet18": "R18",
    "resnet34": "R34",
    "resnet50": "R50",
    "resnet101": "R101",
    "resnext101_32x4d": "X101-32x4d",
    "resnext101_32x8d": "X101-32x8d",
    "resnext101_64x4d": "X101-64x4d",
}
_CLASSIFIERS = {
    "mobilenet_v3_large": "MobileNetV3-L",
    "mobilenet_v3_small": "MobileNetV3-S",
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "resnet101": "ResNet-101",
    "resnext101_32x4d": "ResNeXt-101 32x4d",
    "resnext101_32x8d": "ResNeXt-101 32x8d",
    "resnext101_64x4d": "ResNeXt-101 64x4d",
}


def _backbone(name: str) -> str:
    return _BACKBONES.get(name) or name.removeprefix(PREFIX)


def arch_label(arch: Arch) -> str:
    """Family and backbone, and the width multiplier where it is not 1."""
    if isinstance(arch, ResNetArch | MobileNetV3Arch):
        return _CLASSIFIERS[arch.backbone]
    if isinstance(arch, TimmArch):
        return arch.backbone.removeprefix(PREFIX)
    width = "" if arch.width == 1.0 else f" {arch.width:g}"
    if isinstance(arch, MobileNetV2Arch):
        return f"MobileNetV2{width}"
    if isinstance(arch, DeepLabV3Arch):
        return f"DLv3-{_backbone(arch.backbone)}{width}"
    if isinstance(arch, FasterRCNNArch):
        return f"Faster R-CNN-{_backbone(arch.backbone)}{width}"
    if isinstance(arch, FCOSArch):
        return f"FCOS-{_backbone(arch.backbone)}{width}"
    if isinstance(arch, RepPointsArch):
        return f"RepPoints-{_backbone(arch.backbone)}{'-DCN' if arch.deformable else ''}{width}"
    if isinstance(arch, PSPNetArch):
        return f"PSPNet-{_backbone(arch.backbone)}{width}"
    if isinstance(arch, LRASPPArch):
        return f"LR-ASPP-{_backbone(arch.backbone)}{width}"
    if isinstance(arch, RetinaNetArch):
        return f"RetinaNet-{_backbone(arch.backbone)}{width}"
    if isinstance(arch, SSDLiteArch):
        return f"SSDLite-MBV2{width}"
    return f"Mobile DLv3{'+ASPP' if arch.aspp else ''}-MBV2{width}"


def network_label(model: ModelSpec) -> str:
    """As `arch_label`; a teacher that is run as a whole is called by its file."""
    if model.arch is not None:
        return arch_label(model.arch)
    weights = model.weights
    if isinstance(model, TeacherSpec) and model.is_program and weights is not None:
        return program_label(PurePath(str(weights.file)).name)
    return f"ONNX {PurePath(weights.file).name if weights.file else weights.reference}" if weights else "network"


def program_label(file: str) -> str:
    """A teacher that ran code is never shown without saying so. `file`: its name."""
    return f"program {file}"
