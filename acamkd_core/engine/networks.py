"""A job's two networks: built, filled with weights, and the teacher's classes set against the dataset's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from acamkd_core.engine.parts import Run
from acamkd_core.engine.placebo import keep_head
from acamkd_core.engine.resolve import locate
from acamkd_core.graph_plan import LOGITS, GraphPlan, check_count, check_sizes
from acamkd_core.models.base import TaskModel
from acamkd_core.models.graph_network import GraphDetector, GraphNetwork, Runtime
from acamkd_core.models.mapped import mapped
from acamkd_core.models.onnx_runtime import OnnxRuntime
from acamkd_core.models.program_runtime import ProgramRuntime
from acamkd_core.models.registry import build_model
from acamkd_core.models.resized import resized
from acamkd_core.models.timm_backbone import timm_classes
from acamkd_core.models.weights import load_weights, torchvision_classes
from acamkd_core.onnx_plan import OnnxPlan
from acamkd_core.program_plan import ProgramPlan
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.label_map import Matched, difference, match, plain
from acamkd_core.spec.models import ModelSpec, TeacherSpec
from acamkd_core.spec.sizes import seen_by_teacher

if TYPE_CHECKING:
    from acamkd_core.engine.build import Data


@dataclass
class Taught:
    """A teacher, ready to teach.

    model: in the dataset's classes and for the job's images, whatever size it sees them at. own: the same network in its own classes. graph: what runs inside it, where that comes as a whole. matched: whose classes are whose.
    """

    model: TaskModel
    own: TaskModel
    matched: Matched
    graph: GraphNetwork | None = None

    @property
    def compared(self) -> list[int] | None:
        """The student's channels of class scores that have a counterpart in the teacher's `logits`; None: all."""
        return None if self.matched.identity or LOGITS not in self.model.levels else self.matched.compared


def build_student(data: Data, run: Run, notes: list[str]) -> TaskModel:
    """The network that learns. Raises CoreError: `weights.*`."""
    return _network(data.spec.student, "student", len(data.dataset.classes), run, notes)


def build_teacher(data: Data, run: Run, device: torch.device, notes: list[str]) -> Taught:
    """The frozen network, with its classes mapped to the dataset's where they differ.

    Raises:
        CoreError: `teacher.*` of `spec.label_map`, `weights.*`, `onnx.*`, `pt2.*`.
    """
    spec, task = data.spec.teacher, data.spec.task
    assert spec is not None
    matched = match(_classes(spec), [c.name for c in data.dataset.classes], spec.label_map, task=task)
    graph: GraphNetwork | None = None
    if data.graph is not None:
        model: TaskModel = (graph := _graph(spec, data.graph, len(matched.theirs), data, run, device, notes))
    else:
        model = _network(spec, "teacher", len(matched.theirs), run, notes)
    if spec.label_map is not None:
        notes.append(f"the teacher knows {matched.words()}")
    elif (note := _other_names(spec, matched.names)) is not None:
        notes.append(note)
    if (size := spec.size) is not None and (frame := data.spec.augment.trained) is not None:
        notes.append(f"the teacher sees {size[0]}x{size[1]} where the student sees {frame[0]}x{frame[1]}")
    if matched.identity:
        return Taught(_as_it_sees(model, data), model, matched, graph)
    if "head" in data.spec.student.inherit:
        raise CoreError(
            "student.inherit_classes", "the teacher's head is for other classes than the student's",
            hint="inherit the neck alone", field="student.inherit", value="head",
        )  # fmt: skip
    return Taught(_as_it_sees(mapped(model, matched.columns), data), model, matched, graph)


def with_random_head(taught: Taught, data: Data) -> TaskModel:
    """The teacher with a head that was never trained, for placebos; draws from torch's generator."""
    spec = data.spec.teacher
    assert spec is not None
    assert spec.arch is not None
    drawn = build_model(spec.arch, num_classes=len(taught.matched.theirs), preprocess=spec.preprocess)
    keep_head(drawn, taught.own)
    return _as_it_sees(drawn if taught.matched.identity else mapped(drawn, taught.matched.columns), data)


def _as_it_sees(model: TaskModel, data: Data) -> TaskModel:
    """A teacher for the job's images, which it may see at a size of its own."""
    size, frame = data.spec.teacher_size, data.spec.augment.trained
    return model if size is None or frame is None else resized(model, size, frame)


def _classes(spec: TeacherSpec) -> Sequence[str]:
    """The teacher's classes as the spec names them, or did when its file was read; empty where nobody does."""
    if spec.classes is not None:
        return spec.classes
    # A job without a map means a network of the dataset's size.
    return _published_classes(spec) if spec.label_map is not None else ()


def _published_classes(spec: TeacherSpec) -> Sequence[str]:
    """The classes that torchvision's and timm's weights were trained on; empty for others."""
    if spec.classes is None and spec.weights is not None:
        if spec.weights.torchvision is not None:
            return torchvision_classes(spec.weights.torchvision, "teacher.weights")
        if spec.weights.timm is not None:
            return timm_classes(spec.weights.timm, "teacher.weights")
    return ()


def _other_names(spec: TeacherSpec, names: Sequence[str]) -> str | None:
    """What to say where published weights call their classes otherwise than the dataset does. It refuses nothing: ImageNet's
    folders are WordNet ids and torchvision's names are words, in one order."""
    published = _published_classes(spec)
    if not published or [plain(name) for name in published] == [plain(name) for name in names]:
        return None
    return (
        f"{difference(published, names)}: its scores are taken in the dataset's order, and its score on val tells whether "
        "that is right; teacher.label_map maps classes by name"
    )


def _network(spec: ModelSpec, role: str, num_classes: int, run: Run, notes: list[str]) -> TaskModel:
    assert spec.arch is not None
    model = build_model(spec.arch, num_classes=num_classes, preprocess=spec.preprocess)
    if spec.backbone_weights is not None:
        report = load_weights(
            model, spec.backbone_weights, files=run.inputs, backbone_only=True, field=f"{role}.backbone_weights"
        )
        notes.append(f"{role} backbone: {report}")
    if spec.weights is not None:
        report = load_weights(model, spec.weights, files=run.inputs, strict=role == "teacher", field=f"{role}.weights")
        notes.append(f"{role}: {report}")
    return model


def _graph(
    spec: TeacherSpec, plan: GraphPlan, num_classes: int, data: Data, run: Run, device: torch.device, notes: list[str]
) -> GraphNetwork:
    """A teacher that comes as a whole, run once to see its levels."""
    assert spec.preprocess is not None
    if isinstance(plan, ProgramPlan):
        runtime: Runtime = (program := ProgramRuntime(plan, device))
        plan = replace(plan, size=program.size)  # nobody could know it before
        check_sizes(plan, data.spec.augment, data.input_size, spec.size)
        notes.append(f"teacher: {plan.name} is a program (sha256 {plan.sha256}) and has run its code: allow_code")
    else:
        runtime = _onnx_runtime(spec, plan, run, device, notes)
    kind = GraphDetector if data.spec.task == "detection" else GraphNetwork
    trained = data.spec.augment.crop or data.input_size
    sizes = [trained, data.input_size]
    if spec.size is not None:
        sizes = [seen_by_teacher(size, spec.size, trained) for size in sizes]
    model = kind(runtime, plan, preprocess=spec.preprocess, sizes=sizes)
    if plan.raw is not None:
        whose = "its classes are" if spec.classes is not None else "the dataset has"
        check_count(plan, model.levels[LOGITS].channels, num_classes, of=whose)
    levels = ", ".join(f"{name} {one.channels} @ {one.stride}" for name, one in model.levels.items())
    notes.append(f"teacher: {plan.name} on {'GPU' if runtime.on_gpu else 'CPU'} by {runtime.name}, {levels}")
    return model


def _onnx_runtime(spec: TeacherSpec, plan: GraphPlan, run: Run, device: torch.device, notes: list[str]) -> OnnxRuntime:
    path = locate(spec, run.inputs, "teacher")
    assert path is not None
    assert isinstance(plan, OnnxPlan)
    runtime = OnnxRuntime(path, plan, device)
    if device.type == "cuda" and not runtime.on_gpu:
        notes.append("teacher: this onnxruntime has no CUDA, so the teacher is slow; onnxruntime-gpu has it")
    return runtime
