"""`acamkd models timm`: what timm's networks can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import SUCCEEDED, Format, Output, emit, millions, say, table

if TYPE_CHECKING:
    from acamkd_core.spec.timm_models import ClassifierFacts


def timm_networks(
    name: Annotated[str, typer.Argument(help="Only networks whose name contains this.")] = "",
    output: Output = Format.table,
) -> int:
    """Networks of timm that can be a classifier, a backbone or both; needs neither timm nor a server."""
    from acamkd_core.spec.timm_models import PREFIX, classifier_levels, load_timm_models

    models = load_timm_models()
    part = name.removeprefix(PREFIX)
    backbones = {key: one for key, one in models.backbones.items() if part in key}
    classifiers = {key: one for key, one in models.classifiers.items() if part in key}
    if emit(models.model_copy(update={"backbones": backbones, "classifiers": classifiers}), output):
        return SUCCEEDED
    rows = []
    for key in sorted({*backbones, *classifiers}):
        backbone, classifier = backbones.get(key), classifiers.get(key)
        kinds = [word for word, one in (("classifier", classifier), ("backbone", backbone)) if one is not None]
        maps: dict[str, int] = {}
        if classifier is not None:
            maps = {level: channels for level, (channels, _) in classifier_levels(PREFIX + key).items()}
        elif backbone is not None:
            maps = dict(zip(("c2", "c3", "c4", "c5"), backbone.channels, strict=True))
        rows.append(
            [
                PREFIX + key, ", ".join(kinds),
                millions(classifier.parameters) if classifier is not None else None,
                _takes(classifier) if classifier is not None else None,
                ", ".join(f"{level} {channels}" for level, channels in maps.items()),
                ", ".join(map(str, backbone.output_strides)) if backbone is not None else None,
            ]
        )  # fmt: skip
    table(["network", "can be", ">parameters", "image size", "levels and channels", "output strides"], rows)
    say(
        f"of timm {models.version}: {len(classifiers)} classifiers (parameters with 1000 classes) and {len(backbones)} "
        "backbones (maps at strides 4, 8, 16 and 32 of images of any size)"
    )
    return SUCCEEDED


def _takes(facts: ClassifierFacts) -> str:
    """Image sizes of a classifier, and the one that it was made for."""
    words = {"any": "any", "multiples": "multiples of 32", "one": "only"}[facts.takes]
    height, width = facts.size
    return f"{height} x {width}{' ' if facts.takes == 'one' else ', '}{words}"
