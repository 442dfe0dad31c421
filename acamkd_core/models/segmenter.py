"""What DeepLabV3, Mobile DeepLabv3 and PSPNet share: c5, one context map made of it, class scores made of that."""

from __future__ import annotations

from torch import Tensor

from acamkd_core.models.base import Backbone, Level, ModelOutput, Normalise, TaskModel
from acamkd_core.models.heads import ContextHead, FCNHead
from acamkd_core.spec.models import Preprocess


class ContextSegmenter(TaskModel):
    """Images NCHW in [0, 1] to class scores at the output stride; the task resizes them (`align_corners`).

    Its levels follow one another, so it can go on from each that its backbone can be entered at. A family sets `context` (name of the level that its head
    makes) and makes the head, an attribute `<context>_head`; an auxiliary head on c4 comes after it.
    """

    context: str

    def __init__(self, backbone: Backbone, *, align_corners: bool, preprocess: Preprocess) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.normalise = Normalise(preprocess)
        self.backbone = backbone
        self.aux_head: FCNHead | None = None

    def _publish(self, channels: int, num_classes: int, *, aux_head: bool = False) -> None:
        """The auxiliary head, and the levels: the backbone's, the context map of so many channels, the class scores."""
        if aux_head:
            self.aux_head = FCNHead(self.backbone.levels["c4"].channels, num_classes)
        own = {name: (level.channels, level.stride) for name, level in self.backbone.levels.items()}
        stride = self.backbone.levels["c5"].stride
        shapes = {**own, self.context: (channels, stride), "logits": (num_classes, stride)}
        closed = set() if self.backbone.enterable else set(own) - {"c5"}
        self.levels = {name: Level(*shape, onward=name not in closed) for name, shape in shapes.items()}

    @property
    def head(self) -> ContextHead:
        """c5 to (context map, class scores)."""
        found = self.get_submodule(f"{self.context}_head")
        assert isinstance(found, ContextHead)
        return found

    def forward(self, images: Tensor) -> ModelOutput:
        features = self.backbone(self.normalise(images))
        features[self.context], logits = self.head(features["c5"])
        features["logits"] = logits
        # Only the loss reads the auxiliary scores: no arithmetic for them at inference.
        aux = self.aux_head(features["c4"]) if self.aux_head is not None and self.training else None
        return ModelOutput(features=features, raw=logits, aux=aux)

    def onward(self, replaced: dict[str, Tensor]) -> list[ModelOutput]:
        return [ModelOutput({}, raw=self._scores_from(level, value)) for level, value in replaced.items()]

    def _scores_from(self, level: str, value: Tensor) -> Tensor:
        if level == "logits":
            return value
        if level != self.context:
            value = self.head.pool(self.backbone.onward(level, value))
        return self.head.classify(value)
