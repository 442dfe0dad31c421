"""What stands around a network and changes a part of what it takes or gives."""

from __future__ import annotations

from torch import Tensor, nn

from acamkd_core.models.base import Foreign, ModelOutput, TaskModel


class Around(TaskModel):
    """All that a subclass does not change is the inner network's."""

    def __init__(self, inner: TaskModel) -> None:
        super().__init__()
        self.inner = inner
        self.levels = dict(inner.levels)
        self.align_corners = inner.align_corners

    def forward(self, images: Tensor) -> ModelOutput:
        out: ModelOutput = self.inner(images)
        return out

    def onward(self, replaced: dict[str, Tensor]) -> list[ModelOutput]:
        return self.inner.onward(replaced)

    @property
    def foreign(self) -> Foreign | None:
        return self.inner.foreign

    @property
    def later_macs(self) -> int:  # type: ignore[override]  # the inner network's own
        return self.inner.later_macs

    def infer(self, images: Tensor) -> object:
        return self.inner.infer(images)

    @property
    def scorable(self) -> bool:
        return self.inner.scorable

    @property
    def head(self) -> nn.Module:
        return self.inner.head

    def part(self, name: str) -> nn.Module | None:
        return self.inner.part(name)
