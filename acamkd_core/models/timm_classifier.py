"""Any classifier of timm, whole: timm's own network under timm's names, so that its weights give its scores bit for bit.

Maps come out of the same forward pass, by timm's `forward_intermediates`; which maps a network has is known without timm
(`spec.timm_models`). Images are never padded: the maps have the sizes that timm gives them.
"""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

from acamkd_core.models.base import Backbone, Level, ModelOutput, Normalise, TaskModel
from acamkd_core.models.classifier import batch_of_one
from acamkd_core.models.layouts import Layout
from acamkd_core.models.timm_backbone import load_timm
from acamkd_core.spec.archs import TimmArch
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.models import Preprocess
from acamkd_core.spec.timm_models import PREFIX, classifier_facts, classifier_levels, timm_facts


class TimmNetwork(Backbone):
    """`net` is what `timm.create_model(name, num_classes=...)` returns. Its classifier is in it, and counts as head.

    Args:
        name: `timm:NAME`.
        num_classes: channels of `logits`.
    """

    enterable = False
    layout = Layout(name="timm", groups=(((r"^", "backbone.net."),),))

    def __init__(self, name: str, num_classes: int) -> None:
        super().__init__()
        assert classifier_facts(name) is not None, name
        self.name = name
        self.net = create_classifier(name.removeprefix(PREFIX), num_classes)
        maps = classifier_levels(name)
        self.levels = {level: Level(channels, stride) for level, (channels, stride) in maps.items()}
        self.indices = level_indices(self.net, list(maps))
        inside = head_names(self.net)
        self.heads = tuple(f"backbone.net.{one}." for one in inside)
        self.class_outputs = tuple(
            f"backbone.net.{key}"
            for key, value in self.net.state_dict().items()
            if key.startswith(tuple(f"{one}." for one in inside)) and value.dim() > 1 and len(value) == num_classes
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """All levels, and `logits` N K 1 1."""
        if not self.levels:
            return {"logits": self.net(images)[:, :, None, None]}
        net: Any = self.net
        last, maps = net.forward_intermediates(images, indices=self.indices, output_fmt="NCHW")
        logits: Tensor = net.forward_head(last)
        return {**dict(zip(self.levels, maps, strict=True)), "logits": logits[:, :, None, None]}

    def head_modules(self) -> list[nn.Module]:
        """The layers that make class scores: one, or two where a second one was taught by another teacher (DeiT)."""
        return [self.net.get_submodule(one) for one in head_names(self.net)]

    def stages(self) -> list[nn.Module]:
        """The stages of networks that are a row of modules with maps c2 to c5.

        Raises:
            CoreError: `student.freeze_stages` for any other.
        """
        row = self._row()
        if row is None:
            raise CoreError(
                "student.freeze_stages",
                f"{self.name} does not come apart into stages",
                hint="`freeze: {norm: eval}` works with every network, stages with most convolutional ones",
                field="student.freeze.stages",
            )
        units, ends = row
        return [nn.ModuleList(units[start:end]) for start, end in zip((0, *ends[:-1]), ends, strict=True)]

    def _row(self) -> tuple[list[nn.Module], list[int]] | None:
        """The modules in the order in which they run, and where each of c2 to c5 ends; None where it is no such row."""
        info: Any = self.net.feature_info
        ends = [str(info[index]["module"]) for index in self.indices]
        if list(self.levels) != ["c2", "c3", "c4", "c5"] or any(True for _ in self.net.parameters(recurse=False)):
            return None
        units: dict[str, nn.Module] = {}
        for name, child in self.net.named_children():
            inside = dict(child.named_children()) if type(child) in (nn.Sequential, nn.ModuleList) else {}
            if any(f"{name}.{one}" in ends for one in inside):
                units |= {f"{name}.{one}": module for one, module in inside.items()}
            else:
                units[name] = child
        names = list(units)
        if any(end not in names for end in ends):
            return None
        places = [names.index(end) + 1 for end in ends]
        return (list(units.values()), places) if places == sorted(set(places)) else None

    def recomputable(self) -> list[nn.Module]:
        return list(self.net.children())


class TimmClassifier(TaskModel):
    """Images NCHW in [0, 1] to class scores NK; the levels of `classifier_levels`, and `logits` as a map of one position."""

    backbone: TimmNetwork

    def __init__(self, arch: TimmArch, *, num_classes: int, preprocess: Preprocess) -> None:
        super().__init__()
        self.normalise = Normalise(preprocess)
        self.backbone = TimmNetwork(arch.backbone, num_classes)
        self.levels = {**self.backbone.levels, "logits": Level(num_classes, 0, onward=True)}

    def forward(self, images: Tensor) -> ModelOutput:
        """Raises CoreError(`model.batch_of_one`): batch norm has nothing to average on a single value a channel."""
        try:
            features = self.backbone(self.normalise(images))
        except ValueError as error:  # only the network knows where its last batch norm is
            if self.training and len(images) == 1 and "more than 1 value per channel" in str(error):
                raise batch_of_one(images) from None
            raise
        return ModelOutput(features=features, raw=features["logits"].flatten(1))

    def onward(self, replaced: dict[str, Tensor]) -> list[ModelOutput]:
        assert list(replaced) == ["logits"], list(replaced)
        return [ModelOutput({}, raw=replaced["logits"].flatten(1))]

    @property
    def head(self) -> nn.Module:
        """What makes class scores of pooled features."""
        return self.backbone.head_modules()[0]

    def part(self, name: str) -> nn.Module | None:
        return nn.ModuleList(self.backbone.head_modules()) if name == "head" else None

    def head_tensors(self) -> tuple[str, ...]:
        return self.backbone.heads


def create_classifier(name: str, num_classes: int) -> nn.Module:
    """timm's whole network, untrained."""
    facts = timm_facts(PREFIX + name)
    options = {"strict_img_size": False} if facts is not None and facts.sizes == "asked" else {}
    net: nn.Module = load_timm("arch.backbone").create_model(name, pretrained=False, num_classes=num_classes, **options)
    return net


def head_names(net: nn.Module) -> list[str]:
    """Names of the layers that timm calls the classifier."""
    found = net.get_classifier()  # type: ignore[operator]
    heads = [found] if isinstance(found, nn.Module) and not isinstance(found, nn.ModuleList) else list(found)
    return [name for name, module in net.named_modules() if any(module is one for one in heads)]


def level_indices(net: nn.Module, levels: list[str]) -> list[int]:
    """Which of timm's maps the levels are: `cN` is the last one at stride 2 to the N, `bN` comes out of the N-th block."""
    info: Any = net.feature_info if levels else []
    found = []
    for level in levels:
        match = re.fullmatch(r"([bc])(\d+)", level)
        assert match is not None, level
        kind, number = match[1], int(match[2])
        same = [index for index, one in enumerate(info) if one["reduction"] == 1 << number]
        found.append(number - 1 if kind == "b" else same[-1])
    return found
