"""An independent DeepLabV3 under CIRKD's tensor names, written from its structure: plain blocks, dilation by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def cbr(
    i: int, o: int, k: int = 3, s: int = 1, d: int = 1, g: int = 1, act: type[nn.Module] = nn.ReLU
) -> list[nn.Module]:
    return [nn.Conv2d(i, o, k, s, d * (k // 2), d, g, bias=False), nn.BatchNorm2d(o), act()]


class Basic(nn.Module):
    def __init__(self, i: int, o: int, stride: int, first: int, second: int) -> None:
        super().__init__()
        self.conv1, self.bn1, _ = cbr(i, o, 3, stride, first)
        self.conv2, self.bn2, _ = cbr(o, o, 3, 1, second)
        if stride != 1 or i != o:
            self.downsample = nn.Sequential(*cbr(i, o, 1, stride)[:2])

    def forward(self, x: Tensor) -> Tensor:
        short = self.downsample(x) if hasattr(self, "downsample") else x
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + short)


class DeepStemResNet18(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, _ = cbr(3, 64, 3, 2)
        self.conv2, self.bn2, _ = cbr(64, 64)
        self.conv3, self.bn3, _ = cbr(64, 128)
        self.layer1 = nn.Sequential(Basic(128, 64, 1, 1, 1), Basic(64, 64, 1, 1, 1))
        self.layer2 = nn.Sequential(Basic(64, 128, 2, 1, 1), Basic(128, 128, 1, 1, 1))
        self.layer3 = nn.Sequential(Basic(128, 256, 1, 1, 2), Basic(256, 256, 1, 2, 2))
        self.layer4 = nn.Sequential(Basic(256, 512, 1, 2, 4), Basic(512, 512, 1, 4, 4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for conv, bn in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = F.relu(bn(conv(x)))
        c4 = self.layer3(self.layer2(self.layer1(F.max_pool2d(x, 3, 2, 1))))
        return c4, self.layer4(c4)


class Inverted(nn.Module):
    def __init__(self, i: int, o: int, stride: int, expand: int, dilation: int) -> None:
        super().__init__()
        h, self.skip = i * expand, stride == 1 and i == o
        expansion = cbr(i, h, 1, act=nn.ReLU6) if expand != 1 else []
        self.conv = nn.Sequential(*expansion, *cbr(h, h, 3, stride, dilation, h, nn.ReLU6), *cbr(h, o, 1)[:2])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.skip else self.conv(x)  # type: ignore[no-any-return]


class FlatMobileNetV2(nn.Module):
    """Output stride 8 written out: (channels, repeats, stride, dilation of the first block, of the others)."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Sequential(*cbr(3, 32, 3, 2, act=nn.ReLU6))]
        i = 32
        rows = [
            (1, 16, 1, 1, 1, 1),
            (6, 24, 2, 2, 1, 1),
            (6, 32, 3, 2, 1, 1),
            (6, 64, 4, 1, 1, 2),
            (6, 96, 3, 1, 2, 2),
            (6, 160, 3, 1, 2, 4),
            (6, 320, 1, 1, 4, 4),
        ]
        for expand, o, n, stride, first, others in rows:
            for index in range(n):
                blocks.append(Inverted(i, o, stride if not index else 1, expand, others if index else first))
                i = o
        self.net = nn.Module()
        self.net.features = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> tuple[None, Tensor]:
        return None, self.net.features(x)


class CirkdDeepLab(nn.Module):
    """Images to (scores, auxiliary scores) at output stride 8."""

    def __init__(self, backbone: str, num_classes: int, channels: int) -> None:
        super().__init__()
        self.pretrained: nn.Module = DeepStemResNet18() if backbone == "resnet18" else FlatMobileNetV2()
        width = 512 if backbone == "resnet18" else 320
        aspp = nn.Module()
        aspp.b0 = nn.Sequential(*cbr(width, channels, 1))
        for index, rate in enumerate((12, 24, 36), start=1):
            branch = nn.Module()
            branch.block = nn.Sequential(*cbr(width, channels, 3, 1, rate))
            aspp.add_module(f"b{index}", branch)
        aspp.b4 = nn.Module()
        aspp.b4.gap = nn.Sequential(nn.AdaptiveAvgPool2d(1), *cbr(width, channels, 1))
        aspp.project = nn.Sequential(*cbr(5 * channels, channels, 1))
        self.head = nn.Module()
        self.head.aspp = aspp
        self.head.block = nn.Sequential(*cbr(channels, channels), nn.Dropout(0.1), nn.Conv2d(channels, num_classes, 1))
        if backbone == "resnet18":
            self.auxlayer = nn.Module()
            self.auxlayer.block = nn.Sequential(*cbr(256, 64), nn.Dropout(0.1), nn.Conv2d(64, num_classes, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        c4, c5 = self.pretrained(x)
        aspp = self.head.aspp
        pooled = F.interpolate(aspp.b4.gap(c5), c5.shape[2:], mode="bilinear", align_corners=True)
        maps = [aspp.b0(c5), aspp.b1.block(c5), aspp.b2.block(c5), aspp.b3.block(c5), pooled]
        scores = self.head.block(aspp.project(torch.cat(maps, 1)))
        return scores, self.auxlayer.block(c4) if c4 is not None else None


class CirkdPSPNet(nn.Module):
    """PSPNet-R18 under the same names: images to (scores, auxiliary scores) at output stride 8."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.pretrained = DeepStemResNet18()
        psp = nn.Module()
        for index in (1, 2, 3, 4):
            psp.add_module(f"conv{index}", nn.Sequential(*cbr(512, 128, 1)))
        self.head = nn.Module()
        self.head.psp = psp
        self.head.block = nn.Sequential(*cbr(1024, 128), nn.Dropout(0.1))
        self.head.classifier = nn.Conv2d(128, num_classes, 1)
        self.auxlayer = nn.Module()
        self.auxlayer.block = nn.Sequential(*cbr(256, 64), nn.Dropout(0.1), nn.Conv2d(64, num_classes, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        c4, c5 = self.pretrained(x)
        maps = [c5]
        for conv, cells in zip(self.head.psp.children(), (1, 2, 3, 6), strict=True):
            pooled = conv(F.adaptive_avg_pool2d(c5, cells))
            maps.append(F.interpolate(pooled, c5.shape[2:], mode="bilinear", align_corners=True))
        return self.head.classifier(self.head.block(torch.cat(maps, 1))), self.auxlayer.block(c4)
