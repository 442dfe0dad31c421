"""Tries every network of timm as a backbone and writes `acamkd_core/spec/timm_models.json`.

`python -m acamkd_core.models.timm_facts [NAME ...]` (half an hour for all; named ones are only tried again). Networks are
built and run on the meta device: nothing is allocated or computed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import nn

import acamkd_core.spec
from acamkd_core.models.timm_backbone import create_features, load_timm
from acamkd_core.spec.timm_models import TimmFacts, TimmModels, load_timm_models

NOMINAL = (4, 8, 16, 32)
EVEN, ODD = (256, 320), (70, 93)
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


def render(models: TimmModels) -> str:
    """The committed text: a line a network, so that a new timm is a readable change."""
    lines = [
        f" {json.dumps(name)}: {facts.model_dump_json(exclude_defaults=True)}"
        for name, facts in sorted(models.backbones.items())
    ]
    refused = [f" {json.dumps(reason)}: {json.dumps(names)}" for reason, names in sorted(models.refused.items())]
    return (
        f'{{"version": {json.dumps(models.version)},\n"backbones": {{\n'
        + ",\n".join(lines)
        + '\n},\n"refused": {\n'
        + ",\n".join(refused)
        + "\n}}\n"
    )


def main() -> None:
    """Tries all networks, or those named beside what is known of the others."""
    timm = load_timm("name")
    names = sys.argv[1:] or timm.list_models()
    known = load_timm_models() if sys.argv[1:] else TimmModels(version=timm.__version__, backbones={}, refused={})
    backbones = {name: facts for name, facts in known.backbones.items() if name not in names}
    reasons = {name: reason for reason, those in known.refused.items() for name in those if name not in names}
    for name in names:
        found = try_network(name)
        if isinstance(found, str):
            reasons[name] = found
        else:
            backbones[name] = found
    refused = {
        reason: tuple(sorted(one for one in reasons if reasons[one] == reason)) for reason in set(reasons.values())
    }
    path = Path(next(iter(acamkd_core.spec.__path__))) / "timm_models.json"
    path.write_text(
        render(TimmModels(version=timm.__version__, backbones=backbones, refused=refused)), encoding="utf-8"
    )
    sys.stdout.write(f"wrote {path.name}: {len(backbones)} backbones\n")


if __name__ == "__main__":
    main()
