"""Backbones on torchvision's building blocks, with the output stride set by dilation.

All publish four levels, c2 to c5, at nominal strides 4, 8, 16 and 32. MobileNetV2 is cut after its 320-channel block:
the 1280-channel convolution that follows serves image classification only. MobileNetV3 keeps its last 1x1 convolution
(960 channels), as the segmentation networks of its paper do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from acamkd_core.models.base import Backbone, Level
from acamkd_core.models.deform import DeformConv2dPack
from acamkd_core.models.dilated import replace_dilated
from acamkd_core.models.timm_backbone import TimmBackbone
from acamkd_core.spec.timm_models import PREFIX
from acamkd_core.torchvision_compat import torchvision  # noqa: F401  (makes the torchvision imports below safe)

# isort: split
from torchvision.models import mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small, resnet
from torchvision.models.resnet import BasicBlock, Bottleneck

# Block, blocks a stage, groups of the 3x3 convolutions and channels a group (ResNet: one group of 64).
_RESNETS: dict[str, tuple[type[BasicBlock | Bottleneck], list[int], int, int]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2], 1, 64),
    "resnet34": (BasicBlock, [3, 4, 6, 3], 1, 64),
    "resnet50": (Bottleneck, [3, 4, 6, 3], 1, 64),
    "resnet101": (Bottleneck, [3, 4, 23, 3], 1, 64),
    "resnext101_32x4d": (Bottleneck, [3, 4, 23, 3], 32, 4),
    "resnext101_32x8d": (Bottleneck, [3, 4, 23, 3], 32, 8),
    "resnext101_64x4d": (Bottleneck, [3, 4, 23, 3], 64, 4),
}
_LEVELS = ("c2", "c3", "c4", "c5")


class ResNet(Backbone):
    """ResNet (He et al. 2016) and ResNeXt (Xie et al. 2017) with torchvision's blocks (stride on the 3x3 convolution).

    Args:
        name: one of `_RESNETS`.
        output_stride: 8, 16 or 32.
        deep_stem: three 3x3 convolutions (64, 64, 128 channels) instead of one 7x7, as in the "v1s" networks of the
            Cityscapes distillation papers.
        style: whose details. `caffe`: the first 1x1 of a bottleneck halves the map and not its 3x3. `mmseg`: a deep stem
            has 32, 32 and 64 channels ("v1c"), and the second convolution of a basic block is never dilated.
        deformable: the 3x3 convolutions of bottlenecks behind c2 are deformable (mmdetection's "dconv c3-c5").
    """

    def __init__(
        self,
        name: str,
        *,
        output_stride: int,
        deep_stem: bool = False,
        style: str = "torchvision",
        deformable: bool = False,
    ) -> None:
        super().__init__()
        block, blocks, groups, width = _RESNETS[name]
        net = resnet.ResNet(block, blocks, groups=groups, width_per_group=width)
        pool = nn.MaxPool2d(3, stride=2, padding=1)
        if deep_stem:
            inner, outer = (32, 64) if style == "mmseg" else (64, 128)
            self.stem = nn.Sequential(*_conv(3, inner, stride=2), *_conv(inner, inner), *_conv(inner, outer), pool)
            if outer != 64:
                _widen_input(net.layer1[0], outer)
        else:
            self.stem = nn.Sequential(net.conv1, net.bn1, nn.ReLU(inplace=True), pool)
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        stages = [self.layer1, self.layer2, self.layer3, self.layer4]
        if style == "caffe":
            for stage in stages[1:]:
                stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
        strides = _dilate(stages, output_stride)
        if style == "mmseg" and block is BasicBlock:
            for inside in (inside for stage in stages for inside in stage):
                inside.conv2.dilation = inside.conv2.padding = (1, 1)
        if deformable:
            for inside in (inside for stage in stages[1:] for inside in stage):
                inside.conv2 = DeformConv2dPack(inside.conv2)
        channels = [count * block.expansion for count in (64, 128, 256, 512)]
        self.levels = {n: Level(c, s) for n, c, s in zip(_LEVELS, channels, strides, strict=True)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        c2 = self.layer1(self.stem(images))
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return {"c2": c2, "c3": c3, "c4": c4, "c5": self.layer4(c4)}

    def onward(self, level: str, value: Tensor) -> Tensor:
        for stage in (self.layer2, self.layer3, self.layer4)[_LEVELS.index(level) :]:
            value = stage(value)
        return value

    def stages(self) -> list[nn.Module]:
        return [nn.ModuleList([self.stem, self.layer1]), self.layer2, self.layer3, self.layer4]


class _Blocks(Backbone):
    """A backbone that is one row of blocks, as torchvision's `features`; levels are the outputs of the blocks `_ENDS`."""

    _ENDS: tuple[int, ...]
    features: nn.Sequential

    def _publish(self, strides: list[int]) -> None:
        channels: list[Any] = [self.features[end].out_channels for end in self._ENDS]
        self.levels = {n: Level(c, s) for n, c, s in zip(_LEVELS, channels, strides, strict=True)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        out: dict[str, Tensor] = {}
        x = images
        for index, block in enumerate(self.features):
            x = block(x)
            if index in self._ENDS:
                out[_LEVELS[self._ENDS.index(index)]] = x
        return out

    def onward(self, level: str, value: Tensor) -> Tensor:
        for block in list(self.features)[self._ENDS[_LEVELS.index(level)] + 1 :]:
            value = block(value)
        return value

    @property
    def expanded_channels(self) -> int:
        """Channels of block 14 after its expansion."""
        expand = next(m for m in self.features[self._ENDS[2] + 1].modules() if isinstance(m, nn.Conv2d))
        return expand.out_channels

    def with_expansion(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The levels, and what SSDLite looks at first: block 14 after its expansion, before its stride."""
        out: dict[str, Tensor] = {}
        x = expanded = images
        for index, block in enumerate(self.features):
            if index == self._ENDS[2] + 1:
                expand, *rest = block.get_submodule("conv").children()
                expanded = x = expand(x)
                for step in rest:
                    x = step(x)
            else:
                x = block(x)
            if index in self._ENDS:
                out[_LEVELS[self._ENDS.index(index)]] = x
        return out, expanded

    def stages(self) -> list[nn.Module]:
        starts = (0, *(end + 1 for end in self._ENDS[:-1]))
        return [self.features[start : end + 1] for start, end in zip(starts, self._ENDS, strict=True)]


class MobileNetV2(_Blocks):
    """MobileNetV2 (Sandler et al. 2018, table 2) of any width, up to and including the 320-channel block."""

    _ENDS = (3, 6, 13, 17)

    def __init__(self, *, width: float, output_stride: int) -> None:
        super().__init__()
        self.features = mobilenet_v2(width_mult=width).features[:-1]
        self._publish(_dilate(self.stages(), output_stride))


class MobileNetV3Large(_Blocks):
    """MobileNetV3-Large (Howard et al. 2019, table 1) with torchvision's dilation, which ends at output stride 16.

    c3 is the first map at stride 8 and not the last: it is what the segmentation head of the paper's networks reads.
    """

    _ENDS = (3, 4, 12, 16)

    def __init__(self, *, output_stride: int) -> None:
        super().__init__()
        # The keyword halves the last stage's stride only. Its first block takes the doubled dilation at once, and its
        # kernels are 5x5: `_dilate` would give other networks than the published weights were trained in.
        self.features = mobilenet_v3_large(dilated=output_stride == 16).features
        replace_dilated(self.features)
        self._publish([4, 8, 16, output_stride])


class MobileNetV3Small(_Blocks):
    """MobileNetV3-Small (Howard et al. 2019, table 2) with its last 1x1 convolution (576 channels)."""

    _ENDS = (1, 3, 8, 12)

    def __init__(self) -> None:
        super().__init__()
        self.features = mobilenet_v3_small().features
        self._publish([4, 8, 16, 32])


def build_backbone(
    name: str,
    *,
    width: float = 1.0,
    output_stride: int = 32,
    deep_stem: bool = False,
    style: str = "torchvision",
    deformable: bool = False,
) -> Backbone:
    """The backbone that a spec names; which options fit which name is the spec's to check."""
    if name.startswith(PREFIX):
        return TimmBackbone(name, output_stride=output_stride)
    if name == "mobilenet_v2":
        return MobileNetV2(width=width, output_stride=output_stride)
    if name == "mobilenet_v3_large":
        return MobileNetV3Large(output_stride=output_stride)
    if name == "mobilenet_v3_small":
        assert output_stride == 32
        return MobileNetV3Small()
    return ResNet(name, output_stride=output_stride, deep_stem=deep_stem, style=style, deformable=deformable)


def _dilate(stages: Sequence[nn.Module], output_stride: int) -> list[int]:
    """Trades strides beyond `output_stride` for dilation, in place; returns each stage's stride.

    The convolution that lost its stride keeps the dilation of the stage before (its input has that grid); the
    convolutions after it take the doubled one. torchvision does the same for Bottleneck and refuses BasicBlock.
    """
    strides, dilation = [4], 1
    for nominal, stage in zip((8, 16, 32), stages[1:], strict=True):
        if nominal <= output_stride:
            strides.append(nominal)
            continue
        before, dilation = dilation, dilation * 2
        for conv in (module for module in stage.modules() if isinstance(module, nn.Conv2d)):
            lost_stride = conv.stride != (1, 1)
            conv.stride = (1, 1)
            if conv.kernel_size == (3, 3):
                step = before if lost_stride else dilation
                conv.dilation = conv.padding = (step, step)
        replace_dilated(stage)
        strides.append(output_stride)
    return strides


def _conv(inputs: int, outputs: int, *, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _widen_input(block: nn.Module, channels: int) -> None:
    """Lets the first block take `channels` inputs; a BasicBlock then needs a projection on its shortcut."""
    old = block.get_submodule("conv1")
    assert isinstance(old, nn.Conv2d)
    conv = nn.Conv2d(channels, old.out_channels, old.kernel_size[0], padding=old.padding[0], bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    outputs = block.get_submodule("bn3" if hasattr(block, "bn3") else "bn2")
    assert isinstance(outputs, nn.BatchNorm2d)
    shortcut = nn.Conv2d(channels, outputs.num_features, 1, bias=False)
    nn.init.kaiming_normal_(shortcut.weight, mode="fan_out", nonlinearity="relu")
    block.conv1 = conv
    block.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs.num_features))
