"""A teacher that comes as a whole (an ONNX graph, a program): which of its tensors is which level, and what that has to fit.

Torch-free: the server refuses with it before a job is queued, the engine builds the teacher from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from acamkd_core.spec.augment import AugmentSpec
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.models import Preprocess
from acamkd_core.spec.sizes import seen_by_teacher

Size = tuple[int, int]
"""Height and width."""
LOGITS = "logits"
RANKS = {"semantic_segmentation": 4, "classification": 2}
"""Dimensions of class scores by task."""
BOX_OUTPUTS = ("scores", "boxes")  # of a detector that we exported


@dataclass(frozen=True, kw_only=True)
class GraphPlan:
    """A file with every tensor's meaning.

    name: of the file. features: tensor to level, `logits` among them where there are class scores. raw: tensor with the
    class scores of segmentation or classification. flat: those are N x classes, not maps. align_corners: the grid on which
    those are resized. size: height and width, where it is fixed. preprocess, classes: as the file says, where it does.
    selection: of a detector that we exported, whose boxes can be scored.
    """

    kind: ClassVar[Literal["onnx", "pt2"]]
    """What is said of it in a spec (`teacher.<kind>`) and how codes of its refusals begin."""

    name: str
    features: dict[str, str]
    raw: str | None = None
    flat: bool = False
    align_corners: bool = False
    size: Size | None = None
    preprocess: Preprocess | None = None
    classes: tuple[str, ...] = ()
    selection: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Short name for headers and tables."""
        raise NotImplementedError

    @property
    def tensors(self) -> list[str]:
        """What has to be computed, each once."""
        wanted = [*self.features, *([self.raw] if self.raw else []), *(BOX_OUTPUTS if self.selection else ())]
        return list(dict.fromkeys(wanted))

    @property
    def parameters(self) -> int | None:
        """Numbers in its weights, where they can be counted without running it."""
        return None

    @property
    def channels(self) -> int | None:
        """Number of classes that it scores, where the file declares it."""
        return None

    def strides(self) -> dict[str, int]:
        """Level to stride, for those that the file declares."""
        return {}

    def resolved(self) -> dict[str, Any]:
        """The block of the spec with everything filled in."""
        raise NotImplementedError


def with_scores(plan_features: dict[str, str], raw: str, kind: str) -> dict[str, str]:
    """Features with the class scores among them, as level `logits`.

    Raises:
        CoreError: `<kind>.which_raw` where another tensor has that name, or the scores have another.
    """
    features = dict(plan_features)
    for tensor, level in features.items():
        if level == LOGITS and tensor != raw:
            raise CoreError(
                f"{kind}.which_raw", f"level logits is {tensor!r}, and the class scores are {raw!r}",
                hint="they are one tensor: name it once", field=f"teacher.{kind}.raw", value=raw,
            )  # fmt: skip
    features.setdefault(raw, LOGITS)
    if features[raw] != LOGITS:
        raise CoreError(
            f"{kind}.which_raw", f"{raw!r} holds the class scores, so its level is called logits, not {features[raw]!r}",
            field=f"teacher.{kind}.features", value=features[raw],
        )  # fmt: skip
    return features


def check_sizes(plan: GraphPlan, augment: AugmentSpec, size: Size | None, own: Size | None = None) -> None:
    """Refuses images of another size than a fixed graph takes.

    Args:
        size: of the job's images at evaluation, where it is known.
        own: `teacher.size`, to which the teacher's are resized.

    Raises:
        CoreError: `<kind>.fixed_size`, at the field of the spec.
    """
    if plan.size is None:
        return
    height, width = plan.size
    if own is not None:
        _check_resized(plan, augment, size, own)
        return
    told, field = None, ""
    if augment.resize is not None:
        told, field = "images that keep their aspect ratio, of many sizes", "augment.resize"
    for name, shown in (("size", size), ("crop", augment.crop)):
        if told is None and shown is not None and tuple(shown) != plan.size:
            told, field = f"{shown[0]}x{shown[1]}", f"augment.{name}"
    if told is not None:
        resized = f"teacher: {{size: [{height}, {width}]}} shows it the job's images resized to that"
        other = f"set augment.size to [{height}, {width}] and leave crop and resize out, or export it with dynamic height and width"
        raise CoreError(
            f"{plan.kind}.fixed_size",
            f"{plan.name} takes images of {height}x{width}, and this job shows it {told}",
            hint=f"{resized}; or {other}" if field == "augment.size" and augment.crop in (None, size) else other,
            field=field,
            value=told,
        )


def _check_resized(plan: GraphPlan, augment: AugmentSpec, size: Size | None, own: Size) -> None:
    """The same for a teacher that sees the job's images resized."""
    height, width = own
    if own != plan.size:
        assert plan.size is not None
        raise CoreError(
            f"{plan.kind}.fixed_size",
            f"{plan.name} takes images of {plan.size[0]}x{plan.size[1]}, and teacher.size is {height}x{width}",
            hint=f"teacher: {{size: [{plan.size[0]}, {plan.size[1]}]}}",
            field="teacher.size",
            value=list(own),
        )
    if size is not None and augment.crop is not None and (seen := seen_by_teacher(size, own, augment.crop)) != own:
        raise CoreError(
            f"{plan.kind}.fixed_size",
            f"{plan.name} takes images of {height}x{width}, and at evaluation, where nothing is cropped, it would see {seen[0]}x{seen[1]}",
            hint="leave augment.crop out, or export it with dynamic height and width",
            field="augment.crop",
            value=list(augment.crop),
        )


def check_count(plan: GraphPlan, found: int | None, wanted: int, *, of: str) -> None:
    """Refuses a graph that scores another number of classes. `of`: whose classes they should be, in words.

    Raises:
        CoreError: `teacher.other_classes`.
    """
    if found is None or found == wanted:
        return
    raise CoreError(
        "teacher.other_classes",
        f"{plan.name} scores {found} classes, {of} {wanted}",
        hint=f"if {plan.raw!r} holds no class scores, name the tensor that does in teacher.{plan.kind}.raw",
        field="teacher",
        value=found,
    )


def stride_of(image: Size, found: Size) -> int:
    """Input size over map size; the power of two that gives a map of this size, where there is one.

    A map of an image whose sides the stride does not divide is a little larger than their quotient.
    """
    ratio = max(side / own for side, own in zip(image, found, strict=True))
    for power in sorted((2**n for n in range(12)), key=lambda p: abs(math.log2(p / ratio))):
        if all(own in (side // power, -(-side // power)) for side, own in zip(image, found, strict=True)):
            return int(power)
    return max(1, round(ratio))
