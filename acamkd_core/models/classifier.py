"""Image classifiers: MobileNetV2, MobileNetV3 and ResNet, each torchvision's network tensor by tensor.

A family of classifiers is a backbone and a head that makes class scores of its last map. timm's are in `timm_classifier`.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from acamkd_core.models.backbones import build_backbone
from acamkd_core.models.base import Level, ModelOutput, Normalise, TaskModel
from acamkd_core.spec.archs import MobileNetV2Arch, MobileNetV3Arch, ResNetArch
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.models import Preprocess
from acamkd_core.torchvision_compat import torchvision  # noqa: F401  (makes the torchvision imports below safe)

# isort: split
from torchvision.models import mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small

ClassifierArch = MobileNetV2Arch | MobileNetV3Arch | ResNetArch


class ClassHead(nn.Module):
    """The last map (c5) to class scores NK: a 1x1 convolution where the family has one, the mean over positions, the classifier."""

    def __init__(self, conv: nn.Module | None, classifier: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = classifier

    def forward(self, c5: Tensor) -> Tensor:
        x = c5 if self.conv is None else self.conv(c5)
        logits: Tensor = self.classifier(self.pool(x).flatten(1))
        return logits


class Classifier(TaskModel):
    """Images NCHW in [0, 1] to class scores NK; levels c2 to c5, and `logits` as a map of one position."""

    def __init__(self, arch: ClassifierArch, *, num_classes: int, preprocess: Preprocess) -> None:
        super().__init__()
        self.normalise = Normalise(preprocess)
        self.backbone = build_backbone(arch.backbone, width=getattr(arch, "width", 1.0))
        self.class_head = _head(arch, self.backbone.out_channels, num_classes)
        levels = {name: replace(level, onward=True) for name, level in self.backbone.levels.items()}
        self.levels = {**levels, "logits": Level(num_classes, 0, onward=True)}

    def forward(self, images: Tensor) -> ModelOutput:
        """Raises CoreError(`model.batch_of_one`): batch norm has nothing to average on a single value a channel."""
        stride = self.backbone.levels["c5"].stride
        if self.training and len(images) == 1 and max(images.shape[-2:]) <= stride:
            raise batch_of_one(images)
        features = self.backbone(self.normalise(images))
        logits = self.class_head(features["c5"])
        features["logits"] = logits[:, :, None, None]
        return ModelOutput(features=features, raw=logits)

    def onward(self, replaced: dict[str, Tensor]) -> list[ModelOutput]:
        return [ModelOutput({}, raw=self._scores_from(level, value)) for level, value in replaced.items()]

    def _scores_from(self, level: str, value: Tensor) -> Tensor:
        if level == "logits":
            return value.flatten(1)
        scores: Tensor = self.class_head(self.backbone.onward(level, value))
        return scores

    @property
    def head(self) -> nn.Module:
        """c5 to class scores."""
        return self.class_head


def batch_of_one(images: Tensor) -> CoreError:
    """Why a forward pass of a single image cannot train."""
    return CoreError(
        "model.batch_of_one",
        f"this network cannot train on one image of {images.shape[-2]}x{images.shape[-1]} pixels at a time: "
        "batch norm needs at least two values a channel",
        hint="use at least 2 images per forward pass (batch.global_size / batch.accumulate), or larger images",
        field="batch.global_size",
        value=1,
    )


def _head(arch: ClassifierArch, channels: int, num_classes: int) -> ClassHead:
    """torchvision's own modules, freshly initialised as it does; the backbones that come with them are thrown away."""
    if isinstance(arch, MobileNetV2Arch):
        net = mobilenet_v2(width_mult=arch.width, num_classes=num_classes)
        return ClassHead(net.features[-1], net.classifier)
    if isinstance(arch, MobileNetV3Arch):
        make = mobilenet_v3_large if arch.backbone == "mobilenet_v3_large" else mobilenet_v3_small
        return ClassHead(None, make(num_classes=num_classes).classifier)
    return ClassHead(None, nn.Linear(channels, num_classes))
