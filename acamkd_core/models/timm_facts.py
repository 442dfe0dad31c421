"""Tries every network of timm as a backbone and as a classifier, and writes `acamkd_core/spec/timm_models.json`.

`python -m acamkd_core.models.timm_facts [--backbones] [--classifiers] [--missing] [NAME ...]`: half an hour for all backbones
and ten minutes for all classifiers. Of both, or of the kind that is named, all are tried, or those that are not known yet
(`--missing`, which goes on where an interrupted run ended), or the named ones. Networks are built and run on the meta device:
nothing is allocated or computed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import nn

import acamkd_core.spec
from acamkd_core.models.timm_backbone import create_features, load_timm
from acamkd_core.models.timm_classifier import create_classifier, head_names, level_indices
from acamkd_core.spec.timm_models import ClassifierFacts, TimmFacts, TimmModels, load_timm_models

NOMINAL = (4, 8, 16, 32)
EVEN, ODD = (256, 320), (70, 93)
CLASSES = 1000
WIDE_ODD = (150, 173)  # some classifiers need more than ODD
LEAST = (32, 64, 96, 128)
SAVE_EVERY = 50
Facts = TypeVar("Facts", TimmFacts, ClassifierFacts)
NO_HEAD = "it makes no class scores"
UNTRIED = "it was not tried yet"
NO_FEATURES = "timm has no feature extractor (`features_only`) for it"
NO_SIZE = "it takes images of one size only"
UNEVEN = "its convolutions lose positions at the edges, so that its maps are no halvings"


def try_network(name: str) -> TimmFacts | str:
    """Facts of a network, or why it cannot be a backbone."""
    try:
        with torch.device("meta"):
            info = load_timm("name").create_model(name, features_only=True).feature_info
    except Exception:  # timm refuses by whatever its code stumbles over: RuntimeError, AttributeError, KeyError ...
        return NO_FEATURES
    strides = [level["reduction"] for level in info.info]
    if any(stride not in strides for stride in NOMINAL):
        return f"its maps have stride {', '.join(str(one) for one in sorted(set(strides)))}; 4, 8, 16 and 32 are needed"
    indices = [max(index for index, one in enumerate(strides) if one == stride) for stride in NOMINAL]
    first = indices[0]
    if indices != list(range(first, first + 4)):
        return f"its maps have strides {', '.join(str(one) for one in strides)}: not one map a halving"
    channels = tuple(info.info[index]["num_chs"] for index in indices)
    even = [(count, 256 // stride, 320 // stride) for count, stride in zip(channels, NOMINAL, strict=True)]
    found = {word: _sizes(_build(name, first, sizes=word), EVEN) for word in ("any", "asked")}
    sizes = next((word for word, maps in found.items() if maps == even), None)
    if sizes is None:
        return UNEVEN if found["any"] else NO_SIZE
    net = _build(name, first, sizes=sizes)
    assert net is not None
    halving = [(count, -(-70 // stride), -(-93 // stride)) for count, stride in zip(channels, NOMINAL, strict=True)]
    return TimmFacts(
        channels=channels,
        first=first,
        output_strides=tuple(stride for stride in (8, 16, 32) if stride == 32 or _dilates(name, first, stride)),
        multiple=1 if _sizes(net, ODD) == halving else 32,
        sizes=sizes,
        parameters=sum(parameter.numel() for parameter in net.parameters()),
    )


def _build(name: str, first: int, output_stride: int = 32, sizes: str = "any") -> nn.Module | None:
    """None where timm cannot build it so."""
    try:
        with torch.device("meta"):
            return create_features(name, first=first, output_stride=output_stride, sizes=sizes).eval()
    except Exception:  # as above: TypeError, AssertionError ...
        return None


def _sizes(net: nn.Module | None, size: tuple[int, int]) -> list[tuple[int, ...]] | None:
    """(channels, height, width) of each map; None where there is no network, or it takes no image of this size."""
    if net is None:
        return None
    last = str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC")
    try:
        with torch.no_grad():
            shapes = [tuple(one.shape[1:]) for one in net(torch.empty(2, 3, *size, device="meta"))]
    except Exception:  # as above
        return None
    return [(shape[2], shape[0], shape[1]) if last else shape for shape in shapes]


def _dilates(name: str, first: int, stride: int) -> bool:
    found = _sizes(_build(name, first, stride), EVEN)
    return found is not None and [one[1] for one in found] == [256 // min(nominal, stride) for nominal in NOMINAL]


def try_classifier(name: str, backbone: TimmFacts | None) -> ClassifierFacts | str:
    """Facts of a network with its own classifier, or why it cannot be one. `backbone`: what it is as a backbone."""
    try:
        with torch.device("meta"):
            net = create_classifier(name, CLASSES).eval()
        heads = [net.get_submodule(one) for one in head_names(net)]
    except Exception:  # as above
        return NO_HEAD
    height, width = net.pretrained_cfg["input_size"][1:]  # type: ignore[index]
    if not heads or not all(any(True for _ in head.parameters()) for head in heads):
        return NO_HEAD
    levels = _levels(net, height, width)
    if not levels and not _scores(net, height, width):
        return NO_HEAD
    odd = _scores(net, *WIDE_ODD)
    even = odd or _scores(net, *EVEN)
    side = next((side for side in LEAST if even and _scores(net, side, side)), 32)
    own = (
        dict(zip(("c2", "c3", "c4", "c5"), zip(backbone.channels, NOMINAL, strict=True), strict=True))
        if backbone
        else None
    )
    return ClassifierFacts(
        size=(height, width),
        takes="any" if odd and even else "multiples" if even else "one",
        least=side,
        levels=None if levels == own else levels,
        parameters=sum(parameter.numel() for parameter in net.parameters()),
    )


def _scores(net: nn.Module, height: int, width: int) -> bool:
    """Whether it makes class scores of an image of this size."""
    try:
        with torch.no_grad():
            return tuple(net(torch.empty(2, 3, height, width, device="meta")).shape) == (2, CLASSES)
    except Exception:  # as above
        return False


def _levels(net: nn.Module, height: int, width: int) -> dict[str, tuple[int, int]]:
    """Channels and stride of the maps that a network has: c2, c3 ... of those that halve, else four blocks along the way."""
    try:
        strides = [int(one["reduction"]) for one in net.feature_info]  # type: ignore[union-attr]
        with torch.no_grad():
            last, maps = net.forward_intermediates(  # type: ignore[operator]
                torch.empty(2, 3, height, width, device="meta"), output_fmt="NCHW"
            )
            scores = net.forward_head(last)  # type: ignore[operator]
    except Exception:  # as above
        return {}
    if tuple(scores.shape) != (2, CLASSES) or len(maps) != len(strides):
        return {}
    if len(set(strides)) == 1 and len(strides) >= 4:
        names = [f"b{-(-len(strides) * quarter // 4)}" for quarter in (1, 2, 3, 4)]
    else:
        found = sorted(set(strides))
        names = [f"c{stride.bit_length() - 1}" for stride in found if stride >= 4 and stride.bit_count() == 1]
    levels: dict[str, tuple[int, int]] = {}
    for name, index in zip(names, level_indices(net, names), strict=True):
        stride, shape = strides[index], tuple(maps[index].shape[2:])
        fitting = [(height / stride, width / stride), (-(-height // stride), -(-width // stride))]
        if name.startswith("b"):  # patches do not overlap: what is left of the image at its edges is not looked at
            fitting.append((height // stride, width // stride))
        if shape not in fitting:
            return {}
        levels[name] = (int(maps[index].shape[1]), stride)
    return levels


def render(models: TimmModels) -> str:
    """The committed text: a line a network, so that a new timm is a readable change."""

    def rows(facts: dict[str, TimmFacts] | dict[str, ClassifierFacts]) -> str:
        return ",\n".join(
            f" {json.dumps(name)}: {one.model_dump_json(exclude_defaults=True)}" for name, one in sorted(facts.items())
        )

    def reasons(refused: dict[str, tuple[str, ...]]) -> str:
        return ",\n".join(f" {json.dumps(reason)}: {json.dumps(names)}" for reason, names in sorted(refused.items()))

    return (
        f'{{"version": {json.dumps(models.version)},\n'
        f'"backbones": {{\n{rows(models.backbones)}\n}},\n"refused": {{\n{reasons(models.refused)}\n}},\n'
        f'"classifiers": {{\n{rows(models.classifiers)}\n}},\n"no_classifiers": {{\n{reasons(models.no_classifiers)}\n}}}}\n'
    )


class Found(Generic[Facts]):
    """What is known of one kind of network: facts, or why there are none."""

    def __init__(self, facts: dict[str, Facts], refused: dict[str, tuple[str, ...]]) -> None:
        self.facts: dict[str, Facts] = dict(facts)
        self.reasons = {name: reason for reason, names in refused.items() for name in names}

    def put(self, name: str, found: Facts | str) -> None:
        """Takes the place of what was known of this network."""
        self.facts.pop(name, None)
        self.reasons.pop(name, None)
        if isinstance(found, str):
            self.reasons[name] = found
        else:
            self.facts[name] = found

    def tried(self, name: str) -> bool:
        """Whether it is known what this network is."""
        return name in self.facts or self.reasons.get(name, UNTRIED) != UNTRIED

    def settle(self, names: Iterable[str]) -> None:
        """Knows these networks and no others (an older timm's): those that were not tried are refused for that reason."""
        for name in {*self.facts, *self.reasons} - set(names):
            self.facts.pop(name, None)
            self.reasons.pop(name, None)
        for name in names:
            if name not in self.facts:
                self.reasons.setdefault(name, UNTRIED)

    def refused(self) -> dict[str, tuple[str, ...]]:
        """Names by the reason."""
        found = self.reasons
        return {reason: tuple(sorted(one for one in found if found[one] == reason)) for reason in set(found.values())}


def main() -> None:
    """Tries networks and writes the file, also every few networks on the way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbones", action="store_true")
    parser.add_argument("--classifiers", action="store_true")
    parser.add_argument("--missing", action="store_true")
    parser.add_argument("names", nargs="*")
    asked = parser.parse_args()
    timm, known = load_timm("name"), load_timm_models()
    names = asked.names or timm.list_models()
    both = not (asked.backbones or asked.classifiers)
    backbones = Found(known.backbones, known.refused)
    classifiers = Found(known.classifiers, known.no_classifiers)

    def write() -> None:
        backbones.settle(timm.list_models())
        classifiers.settle(timm.list_models())
        path = Path(next(iter(acamkd_core.spec.__path__))) / "timm_models.json"
        models = TimmModels(
            version=timm.__version__,
            backbones=backbones.facts,
            refused=backbones.refused(),
            classifiers=classifiers.facts,
            no_classifiers=classifiers.refused(),
        )
        path.write_text(render(models), encoding="utf-8")
        sys.stdout.write(f"wrote {path.name}: {len(backbones.facts)} backbones, {len(classifiers.facts)} classifiers\n")
        sys.stdout.flush()

    tried = 0
    for name in names:
        if (both or asked.backbones) and not (asked.missing and backbones.tried(name)):
            backbones.put(name, try_network(name))
            tried += 1
        if (both or asked.classifiers) and not (asked.missing and classifiers.tried(name)):
            classifiers.put(name, try_classifier(name, backbones.facts.get(name)))
            tried += 1
        if tried >= SAVE_EVERY:
            write()
            tried = 0
    write()


if __name__ == "__main__":
    main()
