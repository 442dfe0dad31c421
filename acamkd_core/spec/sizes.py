"""Which image sizes a job's networks take: known without building them, so that a job is refused at submit."""

from __future__ import annotations

from collections.abc import Mapping

from acamkd_core.spec.archs import Arch, TimmArch
from acamkd_core.spec.augment import AugmentSpec
from acamkd_core.spec.errors import ErrorInfo
from acamkd_core.spec.timm_models import ClassifierFacts, classifier_facts

Networks = Mapping[str, Arch | None]
"""Role (student, teacher) to architecture, as far as it is known."""

FIELD = "augment.size"
STEP = 32  # what `multiples` in the facts means


def only_size(networks: Networks) -> tuple[int, int] | None:
    """Height and width of a network that takes one size only; None where every network takes several."""
    return next((facts.size for _, _, facts in _known(networks) if facts.takes == "one"), None)


def size_misfit(networks: Networks, augment: AugmentSpec) -> ErrorInfo | None:
    """Why a network cannot take images of `augment.size`, or why no size fits all; None where all fit, or no size is known."""
    only = only_size(networks)
    size = augment.size or only
    if size is None:
        return None
    for role, name, facts in _known(networks):
        if facts.takes == "one" and facts.size != size:
            other = only != facts.size or augment.size is None
            return _refused(
                f"the {role} {name} takes images of {_words(facts.size)} only, not {_words(size)}"
                + (", which is all that the other network takes" if other else ""),
                "two networks of one size, or one that takes any: `acamkd models timm` says which do"
                if other
                else f"augment: {{size: [{facts.size[0]}, {facts.size[1]}]}}",
                size,
            )
        if facts.takes == "multiples" and any(side % STEP for side in size):
            nearest = [max(1, round(side / STEP)) * STEP for side in size]
            return _refused(
                f"the {role} {name} takes images whose sides are multiples of {STEP}, not {_words(size)}",
                f"augment: {{size: [{nearest[0]}, {nearest[1]}]}}",
                size,
            )
        if facts.takes != "one" and min(size) < facts.least:
            return _refused(
                f"the {role} {name} halves images too often for {_words(size)}",
                f"augment: {{size: [{facts.least}, {facts.least}]}}, or larger",
                size,
            )
    if augment.short_side is not None and augment.short_side < max(size):
        return ErrorInfo(
            code="augment.network_size",
            message=f"{_words(size)} cannot be cut out of an image whose short side is {augment.short_side}",
            hint=f"at least {max(size)}",
            field="augment.short_side",
            value=augment.short_side,
        )
    return None


def _known(networks: Networks) -> list[tuple[str, str, ClassifierFacts]]:
    found = []
    for role, arch in networks.items():
        if isinstance(arch, TimmArch) and (facts := classifier_facts(arch.backbone)) is not None:
            found.append((role, arch.backbone, facts))
    return found


def _words(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _refused(message: str, hint: str, size: tuple[int, int]) -> ErrorInfo:
    return ErrorInfo(code="augment.network_size", message=message, hint=hint, field=FIELD, value=list(size))
