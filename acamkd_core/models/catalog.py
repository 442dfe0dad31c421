"""Counts every preset and writes `acamkd_core/spec/catalog.json`: `python -m acamkd_core.models.catalog`.

Networks are built on the meta device: nothing is allocated or computed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal, get_args

import torch
from pydantic import TypeAdapter
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import acamkd_core.spec
from acamkd_core.models.backbones import build_backbone
from acamkd_core.models.base import TaskModel
from acamkd_core.models.layouts import LAYOUT_NAMES
from acamkd_core.models.registry import FAMILIES, build_model
from acamkd_core.spec.archs import FAMILY_TASKS, Arch, ResNetName
from acamkd_core.spec.catalog import BackboneFacts, Catalog, FamilyFacts, LevelFacts, PresetFacts, PrintedFacts
from acamkd_core.spec.presets import PRESETS
from acamkd_core.spec.printed import PRINTED, Printed

NUM_CLASSES = 19
IMAGE_SIZE = (1024, 2048)  # Cityscapes, the size that the published tables refer to
IMAGENET = (1000, (224, 224))  # of classifiers
_ARCH: TypeAdapter[Arch] = TypeAdapter(Arch)


def build_catalog() -> Catalog:
    """Everything, counted now."""
    with torch.device("meta"):
        names = (*get_args(ResNetName), "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")
        backbones = {name: build_backbone(name) for name in names}
    return Catalog(
        num_classes=NUM_CLASSES,
        image_size=IMAGE_SIZE,
        families=tuple(_family(arch) for arch in FAMILIES),
        backbones=tuple(
            BackboneFacts(
                name=name,
                parameters=_count(net),
                macs=_macs(net, IMAGENET[1]),
                channels={level: facts.channels for level, facts in net.levels.items()},
            )
            for name, net in backbones.items()
        ),
        presets=tuple(_preset(name) for name in PRESETS),
        printed=tuple(_printed(row) for row in PRINTED),
        layouts=LAYOUT_NAMES,
    )


def _family(arch: type) -> FamilyFacts:
    field: Literal["family"] = "family"
    name = get_args(arch.model_fields[field].annotation)[0]  # type: ignore[attr-defined]
    title = (arch.__doc__ or "").strip().splitlines()[0]
    presets = tuple(preset for preset, fields in PRESETS.items() if fields["family"] == name)
    return FamilyFacts(name=name, title=title, tasks=(FAMILY_TASKS[name],), presets=presets)


def _preset(name: str) -> PresetFacts:
    arch = _ARCH.validate_python(PRESETS[name])
    classifies = FAMILY_TASKS[arch.family] == "classification"
    num_classes, image_size = IMAGENET if classifies else (NUM_CLASSES, IMAGE_SIZE)
    model = _on_meta(arch, num_classes)
    aux = getattr(model, "aux_head", None)
    return PresetFacts(
        name=name,
        arch=arch,
        parameters=_count(model),
        inference_parameters=_count(model) - (_count(aux) if isinstance(aux, nn.Module) else 0),
        macs=_macs(model, image_size) + model.later_macs,
        num_classes=num_classes,
        image_size=image_size,
        levels=tuple(
            LevelFacts(name=level, channels=facts.channels, stride=facts.stride)
            for level, facts in model.levels.items()
        ),
    )


def _printed(row: Printed) -> PrintedFacts:
    model = _on_meta(_ARCH.validate_python(PRESETS[row.preset]), row.num_classes)
    return PrintedFacts(
        preset=row.preset, source=row.source, num_classes=row.num_classes, image_size=row.image_size,
        parameters=_count(model), macs=_macs(model, row.image_size) + model.later_macs,
        printed_parameters=row.parameters, printed_macs=row.macs,
        notes=tuple(note for note in (row.parameters_note, row.macs_note) if note),
    )  # fmt: skip


def _on_meta(arch: Arch, num_classes: int) -> TaskModel:
    with torch.device("meta"):
        return build_model(arch, num_classes=num_classes).eval()


def _macs(module: nn.Module, size: tuple[int, int]) -> int:
    module.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.empty(1, 3, *size, device="meta"))
    return int(counter.get_total_flops()) // 2


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def render(catalog: Catalog) -> str:
    """The committed text."""
    return catalog.model_dump_json(indent=1) + "\n"


def main() -> None:
    path = Path(next(iter(acamkd_core.spec.__path__))) / "catalog.json"
    path.write_text(render(build_catalog()), encoding="utf-8")
    sys.stdout.write(f"wrote {path.name}: {len(PRESETS)} presets\n")


if __name__ == "__main__":
    main()
