"""From a spec to the parts of a run: the only place that puts tasks, models, datasets and methods together."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from acamkd_core import ranks
from acamkd_core.datasets.base import Dataset
from acamkd_core.datasets.loader import EvalLoader, TrainLoader
from acamkd_core.datasets.registry import open_dataset
from acamkd_core.engine.parts import Parts, Run
from acamkd_core.engine.placebo import keep_head
from acamkd_core.engine.randomness import seed_torch
from acamkd_core.engine.resolve import from_header, from_onnx, locate, resolve
from acamkd_core.methods.base import LevelPair, Method
from acamkd_core.methods.registry import build_method
from acamkd_core.models.base import TaskModel
from acamkd_core.models.onnx_network import OnnxDetector, OnnxNetwork
from acamkd_core.models.registry import build_model
from acamkd_core.models.weights import inherit, load_weights
from acamkd_core.onnx_plan import LOGITS, OnnxPlan, check_count
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.fit import far_levels, headless_placebo, misfit_of, no_graph, other_head
from acamkd_core.spec.job import JobSpec
from acamkd_core.spec.methods import FeatureMSEMatchedTerm, MethodTerm
from acamkd_core.spec.models import ModelSpec, TeacherSpec
from acamkd_core.spec.native import NativeHeader
from acamkd_core.tasks.registry import build_task
from acamkd_core.tasks.segmentation import SegmentationTask


@dataclass
class Data:
    """An opened dataset and the spec that fits it."""

    spec: JobSpec
    automatic: dict[str, Any]
    dataset: Dataset
    input_size: tuple[int, int]
    headers: dict[str, NativeHeader | None] = field(default_factory=dict)
    onnx: OnnxPlan | None = None

    def facts(self) -> dict[str, Any]:
        """What the run page says of the data."""
        return {
            "name": self.dataset.name,
            "digest": self.dataset.digest,
            "classes": [{"id": c.id, "name": c.name, "color": list(c.color)} for c in self.dataset.classes],
            "ignore_id": self.dataset.ignore_id,
            "images": self.dataset.splits(),
        }


@dataclass
class Built:
    """Everything that trains, and what was decided on the way."""

    spec: JobSpec
    automatic: dict[str, Any]
    parts: Parts
    pairs: list[dict[str, Any]]
    notes: list[str]


def load_data(spec: JobSpec, run: Run) -> Data:
    """Opens the dataset and fills in sizes, lengths and architectures that only files know.

    Raises:
        CoreError: `dataset.*`, `weights.*`, `batch.too_large`.
    """
    dataset = open_dataset(spec.dataset, roots=run.roots or (), cache=run.cache, task=spec.task)
    if dataset.task != spec.task:
        raise CoreError(
            "dataset.other_task",
            f"the labels of {dataset.name} are for {dataset.task}, the job is {spec.task}",
            hint="take a network of the dataset's task, or a dataset with other labels",
            field="dataset",
            value=dataset.task,
        )
    images = dataset.splits()
    for split in ("train", "val"):
        if not images.get(split):
            raise CoreError(
                "dataset.empty_split", f"the split {split} has no image", field=f"dataset.splits.{split}", value=split
            )
    count = images["train"] + images.get("unlabelled", 0)
    per_epoch = count // spec.batch.global_size
    if per_epoch == 0:
        raise CoreError(
            "batch.too_large",
            f"a batch of {spec.batch.global_size} does not fit a training split of {count} images",
            hint=f"set batch.global_size to {count} or less",
            field="batch.global_size",
            value=spec.batch.global_size,
        )
    first = dataset.load(dataset.items("train")[0]).image
    resolved, automatic = resolve(spec, dataset, (first.shape[0], first.shape[1]), per_epoch)
    augment = resolved.augment
    input_size = augment.padded(augment.fitted((first.shape[0], first.shape[1])))
    data = Data(resolved, automatic, dataset, input_size)
    for role in ("teacher", "student"):
        model: ModelSpec | None = getattr(data.spec, role)
        if model is None:
            continue
        path = locate(model, run.inputs, role)
        if (graph := from_onnx(model, path, data.spec, data.input_size)) is not None:
            updates, data.onnx = graph
        else:
            updates, data.headers[role] = from_header(model, path, role)
        if updates:
            merged = type(model).model_validate({**model.model_dump(), **updates})
            data.spec = data.spec.model_copy(update={role: merged})
            automatic.update({f"{role}.{name}": value for name, value in updates.items()})
    student = data.spec.student.arch
    asked = any(item.format == "onnx" for item in data.spec.exports)
    # A student that only its file names was unknown when the spec was parsed.
    if student is not None and asked and (misfit := no_graph(student.family, data.spec.augment)) is not None:
        raise CoreError.of(misfit)
    return data


def build(data: Data, run: Run, device: torch.device) -> Built:
    """Networks, methods and loaders. Student and methods are drawn from (seed, purpose): arms share their start.

    Raises:
        CoreError: `teacher.other_classes`, `level.unknown`, `weights.*`, and what the methods refuse.
    """
    spec, dataset = data.spec, data.dataset
    rank, world = ranks.rank(), ranks.world()
    notes: list[str] = []
    task = build_task(spec, dataset)
    seed_torch(spec.seed, "student")
    student = _network(spec.student, "student", dataset, data, run, notes)
    teacher: TaskModel | None = None
    if spec.teacher is not None:
        seed_torch(spec.seed, "teacher")
        if data.onnx is not None:
            teacher = _graph(spec.teacher, data.onnx, data, run, device, notes)
        else:
            teacher = _network(spec.teacher, "teacher", dataset, data, run, notes)
        teacher = teacher.eval().requires_grad_(False).to(device)
    if spec.student.inherit:
        assert teacher is not None
        notes += [f"student {name}: {inherit(student, teacher, name)}" for name in spec.student.inherit]
    if spec.train.sync_bn and world > 1:
        student = nn.SyncBatchNorm.convert_sync_batchnorm(student)
    student.freeze(spec.student.freeze.stages, norm=spec.student.freeze.norm == "eval")
    methods, pairs = _methods(spec, student, teacher, len(dataset.classes), run, device)
    if isinstance(teacher, OnnxNetwork):
        teacher.use({pair.teacher_name for method in methods for pair in method.pairs})
    random_head = None
    if teacher is not None and any(term.placebo == "random_head" for term in spec.distill):
        assert spec.teacher is not None
        assert spec.teacher.arch is not None
        seed_torch(spec.seed, "placebo")
        drawn = build_model(spec.teacher.arch, num_classes=len(dataset.classes), preprocess=spec.teacher.preprocess)
        keep_head(drawn, teacher)
        random_head = drawn.eval().requires_grad_(False).to(device)
    notes += [f"{term.method} is a placebo: {term.placebo}" for term in spec.distill if term.placebo != "none"]
    student.to(device)
    if spec.train.channels_last:
        for network in (student, teacher, random_head):
            if network is not None:
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loader = partial(
        TrainLoader, dataset, task, seed=spec.seed, batch=spec.batch.global_size,
        workers=-(-spec.batch.workers // world), rank=rank, world=world,
    )  # fmt: skip
    per_epoch = loader().iterations_per_epoch
    val = EvalLoader(dataset, task, "val", batch=spec.evaluation.batch_size)
    test = EvalLoader(dataset, task, "test", batch=spec.evaluation.batch_size) if dataset.splits().get("test") else None
    iterations = spec.schedule.iterations or (spec.schedule.epochs or 0) * per_epoch
    assert spec.evaluation.every
    assert spec.checkpoint.every
    count = min(spec.evaluation.panels, len(val))
    parts = Parts(
        task=task, student=student, teacher=teacher, random_head=random_head, methods=methods,
        train=lambda start: iter(loader(start_iteration=start)), batches_per_epoch=per_epoch, val=val, test=test, device=device,
        iterations=iterations, evaluate_every=spec.evaluation.every, checkpoint_every=spec.checkpoint.every,
        global_batch=spec.batch.global_size, input_size=data.input_size, panel_images=[i * len(val) // count for i in range(count)],
    )  # fmt: skip
    if spec.evaluation.averages:
        assert isinstance(task, SegmentationTask), "the spec refuses it elsewhere"
        parts.averaged = partial(task.averaged, scales=spec.evaluation.scales, flip=spec.evaluation.flip)
    return Built(spec, data.automatic, parts, pairs, notes)


def _network(spec: ModelSpec, role: str, dataset: Dataset, data: Data, run: Run, notes: list[str]) -> TaskModel:
    assert spec.arch is not None
    names = [c.name for c in dataset.classes]
    header = data.headers.get(role)
    if role == "teacher" and header is not None:
        _require_classes(list(header.class_names), names)
    model = build_model(spec.arch, num_classes=len(names), preprocess=spec.preprocess)
    if spec.backbone_weights is not None:
        report = load_weights(
            model, spec.backbone_weights, files=run.inputs, backbone_only=True, field=f"{role}.backbone_weights"
        )
        notes.append(f"{role} backbone: {report}")
    if spec.weights is not None:
        report = load_weights(model, spec.weights, files=run.inputs, strict=role == "teacher", field=f"{role}.weights")
        notes.append(f"{role}: {report}")
    return model


def _require_classes(theirs: list[str], names: list[str]) -> None:
    """A teacher that names its classes has to have the dataset's, in their order."""
    if theirs and theirs != names:
        raise CoreError(
            "teacher.other_classes",
            f"the teacher knows {len(theirs)} classes ({', '.join(theirs[:6])} ...), the dataset has {len(names)} ({', '.join(names[:6])} ...)",
            hint="train a teacher on this dataset, or use the dataset it was trained on",
            field="teacher",
            value=len(theirs),
        )


def _graph(
    spec: TeacherSpec, plan: OnnxPlan, data: Data, run: Run, device: torch.device, notes: list[str]
) -> OnnxNetwork:
    """A teacher in an ONNX file, run once to see its levels."""
    path = locate(spec, run.inputs, "teacher")
    assert path is not None
    assert spec.preprocess is not None
    names = [c.name for c in data.dataset.classes]
    _require_classes(list(plan.classes), names)
    kind = OnnxDetector if data.spec.task == "detection" else OnnxNetwork
    model = kind(
        path, plan, preprocess=spec.preprocess, device=device,
        sizes=[data.spec.augment.crop or data.input_size, data.input_size],
    )  # fmt: skip
    if plan.raw is not None:
        check_count(plan, model.levels[LOGITS].channels, len(names), of="the dataset has")
    levels = ", ".join(f"{name} {one.channels} @ {one.stride}" for name, one in model.levels.items())
    notes.append(f"teacher: {plan.file.name} on {'GPU' if model.runtime.on_gpu else 'CPU'} by onnxruntime, {levels}")
    if device.type == "cuda" and not model.runtime.on_gpu:
        notes.append("teacher: this onnxruntime has no CUDA, so the teacher is slow; onnxruntime-gpu has it")
    return model


def _methods(
    spec: JobSpec, student: TaskModel, teacher: TaskModel | None, num_classes: int, run: Run, device: torch.device
) -> tuple[list[Method], list[dict[str, Any]]]:
    methods: list[Method] = []
    described: list[dict[str, Any]] = []
    for number, term in enumerate(spec.distill):
        assert teacher is not None
        if (misfit := misfit_of(term, spec.task)) is not None:
            raise CoreError.of(misfit.within(f"distill.{number}"))
        assert spec.teacher is not None
        assert spec.student.arch is not None
        misfit = other_head(term, spec.student.arch, spec.teacher.arch)
        if misfit is None:
            misfit = headless_placebo(term, spec.teacher.arch.family if spec.teacher.arch is not None else "onnx")
        if misfit is not None:
            raise CoreError.of(misfit.within(f"distill.{number}"))
        pairs = pair_levels(term, student, teacher, f"distill.{number}")
        if isinstance(term, FeatureMSEMatchedTerm) and term.ratio is None:
            term = term.model_copy(update={"ratio": _ratio(term, run, f"distill.{number}.ratio_from")})
        seed_torch(spec.seed, "methods", number)
        methods.append(build_method(term, pairs, num_classes=num_classes).to(device))
        described += [
            {
                "method": term.method,
                "student_level": pair.name,
                "teacher_level": pair.teacher_name,
                "student": [pair.student.channels, pair.student.stride],
                "teacher": [pair.teacher.channels, pair.teacher.stride],
                "adapter": pair.student.channels != pair.teacher.channels,
            }
            for pair in pairs
        ]
    return methods, described


def pair_levels(term: MethodTerm, student: TaskModel, teacher: TaskModel, field_name: str) -> list[LevelPair]:
    """The levels that a term compares.

    Raises:
        CoreError: `level.unknown`, with the levels that exist; `distill.far_levels`.
    """
    names = term.teacher_at or term.at
    if len(names) != len(term.at):
        raise CoreError(
            "level.count", f"at names {len(term.at)} levels, teacher_at {len(names)}", field=f"{field_name}.teacher_at"
        )
    for name, model, key, who in [
        *((n, student, "at", "student") for n in term.at),
        *((n, teacher, "teacher_at", "teacher") for n in names),
    ]:
        if name not in model.levels:
            raise CoreError(
                "level.unknown",
                f"the {who} has no level {name!r}",
                hint=f"it has {', '.join(model.levels)}",
                field=f"{field_name}.{key}",
                value=name,
            )
    strides = [{name: level.stride for name, level in model.levels.items()} for model in (student, teacher)]
    if (far := far_levels(term, *strides)) is not None:
        raise CoreError.of(far.within(field_name))
    return [LevelPair(s, t, student.levels[s], teacher.levels[t]) for s, t in zip(term.at, names, strict=True)]


def _ratio(term: FeatureMSEMatchedTerm, run: Run, field_name: str) -> tuple[tuple[int, float], ...]:
    if term.ratio_from is None:
        raise CoreError(
            "ratio.missing",
            "feature_mse_matched needs `ratio` or `ratio_from`",
            hint="name a finished ACAM-KD job",
            field=field_name,
        )
    reference = term.ratio_from
    path = run.inputs.get(reference.replace("job:", "ratio:", 1)) or Path(reference)
    try:
        pairs = [(int(step), float(ratio)) for step, ratio in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError) as error:
        raise CoreError(
            "ratio.unreadable",
            f"no (iteration, ratio) pairs in {reference}: {error}",
            field=field_name,
            value=reference,
        ) from None
    return tuple(pairs)
