"""What a spec makes of an ONNX file: which tensor is which level, which holds the class scores, at which size it runs.

Torch-free: the server refuses with it before a job is queued, the engine builds the teacher from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from acamkd_core.onnx_file import OnnxFile, OnnxTensor
from acamkd_core.spec.augment import AugmentSpec
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.models import OnnxSpec, Preprocess, TeacherSpec
from acamkd_core.spec.problems import SHOWN, closest

Size = tuple[int, int]
"""Height and width."""
LOGITS = "logits"
RANKS = {"semantic_segmentation": 4, "classification": 2}
"""Dimensions of class scores by task."""
BOX_OUTPUTS = ("scores", "boxes")  # of a detector that we exported


@dataclass(frozen=True)
class OnnxPlan:
    """A file with every tensor's meaning.

    features: tensor to level, `logits` among them where there are class scores. raw: tensor with the class scores of
    segmentation or classification. flat: those are N x classes, not maps. align_corners: the grid on which those are resized. size: height and width, where it is fixed.
    preprocess, classes: as the file says, where it does. selection: of a detector that we exported, whose boxes can be scored.
    """

    file: OnnxFile
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
        return f"ONNX {self.file.name}"

    @property
    def tensors(self) -> list[str]:
        """What has to be computed, each once."""
        wanted = [*self.features, *([self.raw] if self.raw else []), *(BOX_OUTPUTS if self.selection else ())]
        return list(dict.fromkeys(wanted))

    def resolved(self) -> dict[str, Any]:
        """The `teacher.onnx` block with everything filled in."""
        return OnnxSpec(features=self.features, raw=self.raw, size=self.size).model_dump()

    def strides(self) -> dict[str, int]:
        """Level to stride, for those that the file declares."""
        found = {}
        for tensor, level in self.features.items():
            shape = self.file.outputs[tensor].shape if tensor in self.file.outputs else None
            if self.size is not None and shape is not None and len(shape) == 4:
                height, width = shape[2:]
                if height is not None and width is not None:
                    found[level] = stride_of(self.size, (height, width))
        return found

    @property
    def channels(self) -> int | None:
        """Number of classes that it scores, where the file declares it."""
        shape = self.file.outputs[self.raw].shape if self.raw in self.file.outputs else None
        if shape is None:  # the tensor before a last resize has the channels of what comes after it
            after = next((o for o, (tensor, _) in self.file.before_resize.items() if tensor == self.raw), None)
            shape = self.file.outputs[after].shape if after is not None else None
        return shape[1] if shape is not None and len(shape) == (2 if self.flat else 4) else None


def plan_onnx(file: OnnxFile, spec: TeacherSpec, *, task: str) -> OnnxPlan:
    """Puts the spec's names and the file's own facts together.

    Raises:
        CoreError: `onnx.other_task`, `onnx.no_tensor`, `onnx.which_raw`, `onnx.no_scores`, `onnx.no_features`,
            `onnx.other_size`; with the field.
    """
    told = spec.onnx or OnnxSpec()
    header = file.header
    if header is not None and header.task != task:
        raise CoreError(
            "onnx.other_task",
            f"{file.name} was exported for {header.task.replace('_', ' ')}, the job is for {task.replace('_', ' ')}",
            field="teacher.weights", value=header.task,
        )  # fmt: skip
    features = dict(told.features)
    for tensor in features:
        _require(file, tensor, "teacher.onnx.features")
    if header is not None and not features:
        features = {tensor: level for tensor, level in header.levels.items() if file.has(tensor)}
    fixed = _fixed_size(file, told)
    facts: dict[str, Any] = {"size": fixed}
    if header is not None:
        given = header.input
        facts["preprocess"] = Preprocess(order=given.channel_order, range=given.range, mean=given.mean, std=given.std)
        facts["classes"] = tuple(entry.name for entry in header.classes)
    if task == "detection":
        return _detector(file, told, features, facts)
    # A segmenter's scores are maps, a classifier's N x classes; its level `logits` is made of them.
    rank = RANKS[task]
    if rank == 2 and not told.features:
        features = {tensor: level for tensor, level in features.items() if level != LOGITS}
    raw, corners = _scores(file, told, features, rank)
    for tensor, level in features.items():
        if level == LOGITS and tensor != raw:
            raise CoreError(
                "onnx.which_raw", f"level logits is {tensor!r}, and the class scores are {raw!r}",
                hint="they are one tensor: name it once", field="teacher.onnx.raw", value=raw,
            )  # fmt: skip
    features.setdefault(raw, LOGITS)
    if features[raw] != LOGITS:
        raise CoreError(
            "onnx.which_raw", f"{raw!r} holds the class scores, so its level is called logits, not {features[raw]!r}",
            field="teacher.onnx.features", value=features[raw],
        )  # fmt: skip
    return OnnxPlan(file=file, features=features, raw=raw, flat=rank == 2, align_corners=corners, **facts)


def check_sizes(plan: OnnxPlan, augment: AugmentSpec, size: Size | None) -> None:
    """Refuses images of another size than a fixed graph takes.

    Args:
        size: of the images at evaluation, where it is known.

    Raises:
        CoreError: `onnx.fixed_size`, at the field of the spec.
    """
    if plan.size is None:
        return
    height, width = plan.size
    told, field = None, ""
    if augment.resize is not None:
        told, field = "images that keep their aspect ratio, of many sizes", "augment.resize"
    for name, shown in (("size", size), ("crop", augment.crop)):
        if told is None and shown is not None and tuple(shown) != plan.size:
            told, field = f"{shown[0]}x{shown[1]}", f"augment.{name}"
    if told is not None:
        raise CoreError(
            "onnx.fixed_size",
            f"{plan.file.name} takes images of {height}x{width}, and this job shows it {told}",
            hint=f"set augment.size to [{height}, {width}] and leave crop and resize out, or export it with dynamic height and width",
            field=field,
            value=told,
        )


def check_count(plan: OnnxPlan, found: int | None, wanted: int, *, of: str) -> None:
    """Refuses a graph that scores another number of classes. `of`: whose classes they should be, in words.

    Raises:
        CoreError: `teacher.other_classes`.
    """
    if found is None or found == wanted:
        return
    raise CoreError(
        "teacher.other_classes",
        f"{plan.file.name} scores {found} classes, {of} {wanted}",
        hint=f"if {plan.raw!r} holds no class scores, name the tensor that does in teacher.onnx.raw",
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


def _require(file: OnnxFile, tensor: str, field: str) -> None:
    if file.has(tensor):
        return
    near = closest(tensor, [*file.outputs, *file.inner])
    near = f"{near} " if near.startswith("did you") else ""
    raise CoreError(
        "onnx.no_tensor",
        f"{file.name} has no tensor {tensor!r}",
        hint=f"{near}{_outputs(file)}",
        field=field,
        value=tensor,
    )


def _outputs(file: OnnxFile) -> str:
    shown = []
    for name, one in list(file.outputs.items())[:SHOWN]:
        sizes = "x".join("?" if size is None else str(size) for size in one.shape or ())
        shown.append(f"{name} ({sizes})" if sizes else name)
    return f"its outputs are {', '.join(shown)}; tensors inside the graph can be named too (netron.app shows them)"


def _fixed_size(file: OnnxFile, told: OnnxSpec) -> Size | None:
    assert file.image.shape is not None
    declared = file.image.shape[2:]
    if told.size is not None:
        for own, given in zip(declared, told.size, strict=True):
            if own is not None and own != given:
                shown = "x".join("?" if size is None else str(size) for size in declared)
                raise CoreError(
                    "onnx.other_size", f"{file.name} takes images of {shown}, not {told.size[0]}x{told.size[1]}",
                    field="teacher.onnx.size", hint="leave it out: the file says it", value=list(told.size),
                )  # fmt: skip
        return told.size
    height, width = declared
    return (height, width) if height is not None and width is not None else None


def _scores(file: OnnxFile, told: OnnxSpec, features: dict[str, str], rank: int) -> tuple[str, bool]:
    """(tensor with the class scores, the grid on which they are resized)."""
    grids = {tensor: corners for tensor, corners in file.before_resize.values()}
    named = told.raw or next((tensor for tensor, level in features.items() if level == LOGITS), None)
    if named is not None:
        _require(file, named, "teacher.onnx.raw")
        _require_scores(file, named, rank)
        return named, grids.get(named, False)
    left = [name for name in file.outputs if name not in features]
    maps = [name for name in left if _holds_scores(file.outputs[name], rank)]
    if len(left) == 1:
        [output] = left
        _require_scores(file, output, rank)
    elif len(maps) == 1:
        [output] = maps
    else:
        raise CoreError(
            "onnx.which_raw",
            f"{len(maps)} outputs of {file.name} could hold the class scores",
            hint=f"name it in teacher.onnx.raw; {_outputs(file)}",
            field="teacher.onnx.raw",
            value=", ".join(maps) or None,
        )
    # Networks often end in an upsampling to the image; a student's scores are compared where they are made.
    return file.before_resize.get(output, (output, False))


def _holds_scores(one: OnnxTensor, rank: int) -> bool:
    """Whether it can, as far as it is declared."""
    return one.is_float and (one.shape is None or len(one.shape) == rank)


def _require_scores(file: OnnxFile, tensor: str, rank: int) -> None:
    one = file.outputs.get(tensor)
    if one is None or _holds_scores(one, rank):
        return
    kind, source = file.made_by.get(tensor, ("", ""))
    raise CoreError(
        "onnx.no_scores",
        f"{tensor!r} of {file.name} is {(one.kind or 'unknown').lower()} with {len(one.shape or ())} dimensions; "
        f"class scores are floating-point N x classes{' x H x W' if rank == 4 else ''}",
        hint=f"the scores are what {kind} reads: teacher.onnx.raw: {source}" if kind == "ArgMax" else _outputs(file),
        field="teacher.onnx.raw",
        value=tensor,
    )


def _detector(file: OnnxFile, told: OnnxSpec, features: dict[str, str], facts: dict[str, Any]) -> OnnxPlan:
    if told.raw is not None:
        raise CoreError(
            "onnx.no_scores", "a detector in an ONNX file teaches by its features: it has no map of class scores",
            hint="leave teacher.onnx.raw out and name feature maps in teacher.onnx.features",
            field="teacher.onnx.raw", value=told.raw,
        )  # fmt: skip
    if not features:
        raise CoreError(
            "onnx.no_features", f"no feature of {file.name} is named, so nothing of it can be compared",
            hint=f"teacher.onnx.features: {{tensor: p3, ...}}; {_outputs(file)}", field="teacher.onnx.features",
        )  # fmt: skip
    scored = file.header is not None and all(name in file.outputs for name in BOX_OUTPUTS)
    selection = file.header.selection if file.header is not None and scored else {}
    return OnnxPlan(file=file, features=features, selection=selection, **facts)
