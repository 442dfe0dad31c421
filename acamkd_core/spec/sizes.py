"""Which image sizes a job's networks take: known without building them, so that a job is refused at submit."""

from __future__ import annotations

from collections.abc import Mapping

from acamkd_core.spec.archs import Arch, TimmArch
from acamkd_core.spec.augment import AugmentSpec
from acamkd_core.spec.errors import ErrorInfo
from acamkd_core.spec.timm_models import ClassifierFacts, classifier_facts

Networks = Mapping[str, Arch | None]
"""Role (student, teacher) to architecture, as far as it is known."""

Size = tuple[int, int]
"""Height and width."""

FIELD = "augment.size"
STEP = 32  # what `multiples` in the facts means


def seen_by_teacher(images: Size, own: Size, trained: Size) -> Size:
    """Height and width at which a teacher sees images of a size, by the factor between its own and the student's.

    Args:
        images: height and width of the job's images.
        own: `teacher.size`.
        trained: height and width of the job's training samples, which it sees at `own`.
    """
    height, width = (max(1, round(side * a / b)) for side, a, b in zip(images, own, trained, strict=True))
    return height, width


def only_size(networks: Networks, own: Size | None = None) -> Size | None:
    """Height and width of a network that takes one size only; None where every network takes several.

    A teacher with a size of its `own` (`teacher.size`) has no say in the job's.
    """
    return next(
        (facts.size for role, _, facts in _known(networks) if facts.takes == "one" and _shares(role, own)), None
    )


def size_misfit(networks: Networks, augment: AugmentSpec, own: Size | None = None) -> ErrorInfo | None:
    """Why a network cannot take the images that it would see, or why no size fits all; None where all fit, or no size is known.

    They are of `augment.size`, for a teacher with a size of its `own` (`teacher.size`) of that.
    """
    only = only_size(networks, own)
    size = augment.size or only
    for role, name, facts in _known(networks):
        seen = size if _shares(role, own) else own
        if seen is None:
            continue
        field = FIELD if _shares(role, own) else "teacher.size"
        if facts.takes == "one" and facts.size != seen:
            other = field == FIELD and (only != facts.size or augment.size is None)
            hints = [] if other else [_setting(field, facts.size)]
            hints += [_setting("teacher.size", facts.size)] if field == FIELD and role == "teacher" else []
            return _refused(
                f"the {role} {name} takes images of {_words(facts.size)} only, not {_words(seen)}"
                + (", which is all that the other network takes" if other else ""),
                ", or ".join(hints)
                or "two networks of one size, or one that takes any: `acamkd models timm` says which do",
                field,
                seen,
            )
        if facts.takes == "multiples" and any(side % STEP for side in seen):
            height, width = (max(1, round(side / STEP)) * STEP for side in seen)
            return _refused(
                f"the {role} {name} takes images whose sides are multiples of {STEP}, not {_words(seen)}",
                _setting(field, (height, width)),
                field,
                seen,
            )
        if facts.takes != "one" and min(seen) < facts.least:
            return _refused(
                f"the {role} {name} halves images too often for {_words(seen)}",
                f"{_setting(field, (facts.least, facts.least))}, or larger",
                field,
                seen,
            )
    if size is None:
        return None
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


def _shares(role: str, own: Size | None) -> bool:
    """Whether a network sees the job's images as they are."""
    return role != "teacher" or own is None


def _words(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


def _setting(field: str, size: Size) -> str:
    part, _, name = field.partition(".")
    return f"{part}: {{{name}: [{size[0]}, {size[1]}]}}"


def _refused(message: str, hint: str, field: str, size: Size) -> ErrorInfo:
    part = field.partition(".")[0]
    return ErrorInfo(code=f"{part}.network_size", message=message, hint=hint, field=field, value=list(size))
