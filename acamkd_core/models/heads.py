"""Segmentation heads: atrous spatial pyramid pooling with a classifier, and the auxiliary FCN head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from acamkd_core.spec.errors import CoreError


def conv_bn_relu(inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU; the map keeps its size."""
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class ImagePooling(nn.Sequential):
    """Image-level features: global mean, 1x1 convolution, spread back over the map.

    Upsampling a single position is a broadcast on either grid (`align_corners` or not), so it is written as one.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), *conv_bn_relu(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        norm = self[2]
        # SyncBatchNorm is another class and counts the images of all ranks: one image a rank is fine there.
        if isinstance(norm, nn.BatchNorm2d) and norm.training and x.shape[0] == 1:
            raise CoreError(
                "model.batch_of_one",
                "this network cannot train on a batch of one image: "
                "the batch norm of its image-level branch needs at least two values a channel",
                hint="use at least 2 images per forward pass (batch.global_size / batch.accumulate), "
                "or drop the last incomplete batch",
                field="batch.global_size",
                value=1,
            )
        pooled: Tensor = x
        for module in self:
            pooled = module(pooled)
        return pooled.expand(-1, -1, x.shape[2], x.shape[3])


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al. 2017, arXiv 1706.05587, section 3.3).

    A 1x1 branch, one 3x3 branch a rate (none if `rates` is empty) and the image-level branch, concatenated and
    projected to `channels`.

    Args:
        mmseg: mmsegmentation's order of branches, the image-level one first, and a 3x3 projection.
    """

    def __init__(self, inputs: int, channels: int, rates: tuple[int, ...], *, mmseg: bool = False) -> None:
        super().__init__()
        branches = [
            conv_bn_relu(inputs, channels),
            *(conv_bn_relu(inputs, channels, kernel=3, dilation=rate) for rate in rates),
        ]
        pooling = ImagePooling(inputs, channels)
        self.convs = nn.ModuleList([pooling, *branches] if mmseg else [*branches, pooling])
        self.project = conv_bn_relu(len(self.convs) * channels, channels, kernel=3 if mmseg else 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(torch.cat([conv(x) for conv in self.convs], dim=1))  # type: ignore[no-any-return]


class ContextHead(nn.Module):
    """Backbone map (c5) to (context map, class scores), in two steps that can be taken apart."""

    def forward(self, c5: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.pool(c5)
        return pooled, self.classify(pooled)

    def pool(self, c5: Tensor) -> Tensor:
        """The context map, before dropout: distillation compares features and not noise."""
        raise NotImplementedError

    def classify(self, pooled: Tensor) -> Tensor:
        """Class scores from the context map."""
        raise NotImplementedError


class ASPPHead(ContextHead):
    """Backbone map (c5) to (ASPP map, class scores).

    Args:
        inputs: channels of c5.
        channels: width of every branch.
        rates: atrous rates; empty for no atrous branches.
        num_classes: number of classes.
        refine: a 3x3 convolution between ASPP and classifier (DeepLabV3 has it, Mobile DeepLabv3 has not).
        mmseg: see `ASPP`.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        rates: tuple[int, ...],
        num_classes: int,
        *,
        refine: bool,
        mmseg: bool = False,
    ) -> None:
        super().__init__()
        self.aspp = ASPP(inputs, channels, rates, mmseg=mmseg)
        self.dropout = nn.Dropout(0.5 if refine else 0.1)
        self.refine = nn.Sequential(*conv_bn_relu(channels, channels, kernel=3), nn.Dropout(0.1)) if refine else None
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def pool(self, c5: Tensor) -> Tensor:
        aspp: Tensor = self.aspp(c5)
        return aspp

    def classify(self, pooled: Tensor) -> Tensor:
        x = self.dropout(pooled)
        if self.refine is not None:
            x = self.refine(x)
        scores: Tensor = self.classifier(x)
        return scores


class FCNHead(nn.Sequential):
    """Auxiliary head on c4: 3x3 convolution to a quarter of the channels, then the classifier."""

    def __init__(self, inputs: int, num_classes: int) -> None:
        hidden = inputs // 4
        super().__init__(*conv_bn_relu(inputs, hidden, kernel=3), nn.Dropout(0.1), nn.Conv2d(hidden, num_classes, 1))
