"""What a spec makes of an ONNX file: which tensor is which level, which holds the class scores, at which size it runs.

Torch-free: the server refuses with it before a job is queued, the engine builds the teacher from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from acamkd_core.graph_plan import BOX_OUTPUTS, LOGITS, RANKS, GraphPlan, Size, stride_of, with_scores
from acamkd_core.onnx_file import OnnxFile, OnnxTensor
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.graph_specs import OnnxSpec
from acamkd_core.spec.models import Preprocess, TeacherSpec
from acamkd_core.spec.problems import SHOWN, closest


@dataclass(frozen=True, kw_only=True)
class OnnxPlan(GraphPlan):
    """An ONNX file with every tensor's meaning."""

    kind: ClassVar[Literal["onnx"]] = "onnx"
    file: OnnxFile

    @property
    def label(self) -> str:
        return f"ONNX {self.name}"

    @property
    def parameters(self) -> int | None:
        return self.file.parameters

    def resolved(self) -> dict[str, Any]:
        return OnnxSpec(features=self.features, raw=self.raw, size=self.size).model_dump()

    def strides(self) -> dict[str, int]:
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
    features = with_scores(features, raw, OnnxPlan.kind)
    return OnnxPlan(
        name=file.name, file=file, features=features, raw=raw, flat=rank == 2, align_corners=corners, **facts
    )


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
    if (height is None) != (width is None):
        shown = "x".join("?" if size is None else str(size) for size in declared)
        raise CoreError(
            "onnx.one_side", f"{file.name} takes images of {shown}: one side is fixed and the other is not",
            field="teacher.onnx.size", hint="say the size at which it runs: onnx: {size: [height, width]}; or export it with both sides dynamic",
            value=list(declared),
        )  # fmt: skip
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
    return OnnxPlan(name=file.name, file=file, features=features, selection=selection, **facts)
