"""Two towers of 3x3 convolutions with group norm, one for classes and one for boxes: what FCOS and RepPoints share."""

from __future__ import annotations

from torch import Tensor, nn

from acamkd_core.models.base import DenseHead
from acamkd_core.models.pyramid import GROUPS, LEVELS


def tower(channels: int, depth: int, *, bias: bool) -> nn.Sequential:
    """`depth` times a 3x3 convolution, group norm and ReLU; channels stay."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Conv2d(channels, channels, 3, padding=1, bias=bias), nn.GroupNorm(GROUPS, channels), nn.ReLU()]
    return nn.Sequential(*layers)


class TwoTowerHead(DenseHead):
    """Subclasses make `class_tower` and `box_tower`, and finish what comes out of them. The same for all levels."""

    class_tower: nn.Sequential
    box_tower: nn.Sequential

    def forward(self, levels: dict[str, Tensor]) -> object:
        present = [name for name in LEVELS if name in levels]
        return self.finish(
            present,
            [self.class_tower(levels[name]) for name in present],
            [self.box_tower(levels[name]) for name in present],
        )

    def towers(self) -> tuple[list[nn.Module], list[nn.Module]]:
        classes, boxes = (
            [stages[start : start + 2] for start in range(0, len(stages), 3)]
            for stages in (self.class_tower, self.box_tower)
        )
        return list(classes), list(boxes)
