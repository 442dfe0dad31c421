"""Independent networks under OpenMMLab's tensor names, written from their structure: ResNet, MobileNetV2, FPN and heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CNA(nn.Module):
    """Convolution, norm, activation: `conv`, `bn` or `gn`."""

    def __init__(
        self, i: int, o: int, k: int = 3, s: int = 1, d: int = 1, g: int = 1, norm: str = "bn", act: str = "relu"
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(i, o, k, s, d * (k // 2), d, g, bias=norm != "bn")
        self.norm, self.act = norm, act
        if norm == "bn":
            self.bn = nn.BatchNorm2d(o)
        elif norm == "gn":
            self.gn = nn.GroupNorm(32, o)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.norm:
            x = getattr(self, self.norm)(x)
        return {"relu": F.relu, "relu6": F.relu6, "": lambda y: y}[self.act](x)


class Block(nn.Module):
    """A basic block (two 3x3) or a bottleneck (1x1, 3x3, 1x1), whose 3x3 has groups of 4 x `width` / 64 channels in ResNeXt."""

    def __init__(
        self, i: int, width: int, stride: int, dilation: int, deep: bool, caffe: bool, groups: int = 1
    ) -> None:
        super().__init__()
        o = width * 4 if deep else width
        if groups > 1:
            width = width * 4 // 64 * groups
        if deep:
            first, second = (stride, 1) if caffe else (1, stride)
            self.conv1 = nn.Conv2d(i, width, 1, first, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, second, dilation, dilation, groups, bias=False)
            self.conv3 = nn.Conv2d(width, o, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(o)
        else:
            self.conv1 = nn.Conv2d(i, width, 3, stride, dilation, dilation, bias=False)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.deep = deep
        if stride != 1 or i != o:
            self.downsample = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.deep:
            y = self.bn3(self.conv3(F.relu(y)))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class MMResNet(nn.Module):
    """ResNet: dilated and with the deep stem for segmentation (v1c, output stride 8), plain for detection."""

    def __init__(self, depth: int, *, segmentation: bool, caffe: bool = False, groups: int = 1) -> None:
        super().__init__()
        repeats = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]
        self.segmentation = segmentation
        if segmentation:
            layers: list[nn.Module] = []
            for i, o, s in ((3, 32, 2), (32, 32, 1), (32, 64, 1)):
                layers += [nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
            self.stem = nn.Sequential(*layers)
        else:
            self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        strides = (1, 2, 1, 1) if segmentation else (1, 2, 2, 2)
        dilations = ((1, 1), (1, 1), (1, 2), (2, 4)) if segmentation else ((1, 1),) * 4
        i, deep = 64, depth >= 50
        for stage in range(4):
            blocks: list[nn.Module] = []
            for index in range(repeats[stage]):
                width, stride = 64 * 2**stage, strides[stage] if index == 0 else 1
                blocks.append(Block(i, width, stride, dilations[stage][min(index, 1)], deep, caffe, groups))
                i = width * 4 if deep else width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x) if self.segmentation else F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, 2, 1)
        maps = []
        for stage in range(4):
            x = self.get_submodule(f"layer{stage + 1}")(x)
            maps.append(x)
        return maps


class ASPPHead(nn.Module):
    def __init__(self, inputs: int, channels: int, classes: int) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(channels, classes, 1)
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), CNA(inputs, channels, 1))
        rates = (1, 12, 24, 36)
        self.aspp_modules = nn.ModuleList(CNA(inputs, channels, 1 if d == 1 else 3, d=d) for d in rates)
        self.bottleneck = CNA(5 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.interpolate(self.image_pool(x), x.shape[2:], mode="bilinear", align_corners=False)
        return self.conv_seg(self.bottleneck(torch.cat([pooled, *(one(x) for one in self.aspp_modules)], 1)))


class PSPHead(nn.Module):
    def __init__(self, inputs: int, channels: int, classes: int) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(channels, classes, 1)
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(cells), CNA(inputs, channels, 1)) for cells in (1, 2, 3, 6)
        )
        self.bottleneck = CNA(inputs + 4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [F.interpolate(one(x), x.shape[2:], mode="bilinear", align_corners=False) for one in self.psp_modules]
        return self.conv_seg(self.bottleneck(torch.cat([x, *pooled], 1)))


class AuxHead(nn.Module):
    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(inputs // 4, classes, 1)
        self.convs = nn.Sequential(CNA(inputs, inputs // 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_seg(self.convs(x))


class MMSegmenter(nn.Module):
    """Images to (scores, auxiliary scores) at output stride 8."""

    def __init__(self, depth: int, head: type[ASPPHead] | type[PSPHead], channels: int, classes: int) -> None:
        super().__init__()
        wide = 4 if depth == 50 else 1
        self.backbone = MMResNet(depth, segmentation=True)
        self.decode_head = head(512 * wide, channels, classes)
        self.auxiliary_head = AuxHead(256 * wide, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.backbone(x)
        return self.decode_head(maps[3]), self.auxiliary_head(maps[2])


class MMInverted(nn.Module):
    def __init__(self, i: int, o: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden, self.skip = i * expand, stride == 1 and i == o
        layers = [CNA(i, hidden, 1, act="relu6")] if expand != 1 else []
        layers += [CNA(hidden, hidden, 3, stride, g=hidden, act="relu6"), CNA(hidden, o, 1, act="")]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.skip else self.conv(x)


class MMClassifier(nn.Module):
    """mmpretrain's MobileNetV2 classifier: images to the 320-channel map; the last convolution and the head are there too."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.conv1 = CNA(3, 32, 3, 2, act="relu6")
        i = 32
        rows = [
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ]
        for number, (expand, o, count, stride) in enumerate(rows, 1):
            blocks: list[nn.Module] = []
            for index in range(count):
                blocks.append(MMInverted(i, o, stride if index == 0 else 1, expand))
                i = o
            self.backbone.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.backbone.conv2 = CNA(320, 1280, 1, act="relu6")
        self.head = nn.Module()
        self.head.fc = nn.Linear(1280, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.backbone.conv1(x)
        for number in range(1, 8):
            x = self.backbone.get_submodule(f"layer{number}")(x)
        return x


class FPN(nn.Module):
    """p3 to p5, then two convolutions of stride 2 on c5 (RetinaNet) or on p5, the second behind a ReLU (FCOS)."""

    def __init__(self, inputs: list[int], channels: int, on_output: bool) -> None:
        super().__init__()
        self.on_output = on_output
        self.lateral_convs = nn.ModuleList(CNA(count, channels, 1, norm="", act="") for count in inputs)
        firsts = [channels if on_output else inputs[-1], channels]
        self.fpn_convs = nn.ModuleList(
            [CNA(channels, channels, norm="", act="") for _ in inputs]
            + [CNA(i, channels, s=2, norm="", act="") for i in firsts]
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        laterals = [conv(one) for conv, one in zip(self.lateral_convs, maps, strict=True)]
        for index in (1, 0):
            size = laterals[index].shape[2:]
            laterals[index] = laterals[index] + F.interpolate(laterals[index + 1], size=size, mode="nearest")
        outs = [conv(one) for conv, one in zip(self.fpn_convs, laterals, strict=False)]
        outs.append(self.fpn_convs[3](outs[-1] if self.on_output else maps[-1]))
        outs.append(self.fpn_convs[4](F.relu(outs[-1]) if self.on_output else outs[-1]))
        return outs


class MMRetinaNet(nn.Module):
    """Images to class logits and offsets of each level."""

    def __init__(self, channels: int, depth: int, classes: int) -> None:
        super().__init__()
        self.backbone = MMResNet(50, segmentation=False)
        self.neck = FPN([512, 1024, 2048], channels, on_output=False)
        head = self.bbox_head = nn.Module()
        head.cls_convs = nn.ModuleList(CNA(channels, channels, norm="") for _ in range(depth))
        head.reg_convs = nn.ModuleList(CNA(channels, channels, norm="") for _ in range(depth))
        head.retina_cls = nn.Conv2d(channels, 9 * classes, 3, padding=1)
        head.retina_reg = nn.Conv2d(channels, 36, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        classes, offsets = [], []
        for level in self.neck(self.backbone(x)[1:]):
            cls = reg = level
            for one, other in zip(self.bbox_head.cls_convs, self.bbox_head.reg_convs, strict=True):
                cls, reg = one(cls), other(reg)
            classes.append(self.bbox_head.retina_cls(cls))
            offsets.append(self.bbox_head.retina_reg(reg))
        return classes, offsets


class Scale(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(value))


class MMFCOS(nn.Module):
    """The variant with boxes in strides and centre-ness beside them: images to logits, sides in pixels and centre-ness."""

    def __init__(self, channels: int, depth: int, classes: int) -> None:
        super().__init__()
        self.backbone = MMResNet(50, segmentation=False, caffe=True)
        self.neck = FPN([512, 1024, 2048], channels, on_output=True)
        head = self.bbox_head = nn.Module()
        head.cls_convs = nn.ModuleList(CNA(channels, channels, norm="gn") for _ in range(depth))
        head.reg_convs = nn.ModuleList(CNA(channels, channels, norm="gn") for _ in range(depth))
        head.conv_cls = nn.Conv2d(channels, classes, 3, padding=1)
        head.conv_reg = nn.Conv2d(channels, 4, 3, padding=1)
        head.conv_centerness = nn.Conv2d(channels, 1, 3, padding=1)
        head.scales = nn.ModuleList(Scale(0.5 + 0.3 * index) for index in range(5))

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        classes, sides, centres = [], [], []
        for index, level in enumerate(self.neck(self.backbone(x)[1:])):
            cls = reg = level
            for one, other in zip(self.bbox_head.cls_convs, self.bbox_head.reg_convs, strict=True):
                cls, reg = one(cls), other(reg)
            classes.append(self.bbox_head.conv_cls(cls))
            sides.append(F.relu(self.bbox_head.conv_reg(reg) * self.bbox_head.scales[index].scale) * 8 * 2**index)
            centres.append(self.bbox_head.conv_centerness(reg))
        return classes, sides, centres
