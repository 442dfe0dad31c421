"""From a spec to the parts of a run: the only place that puts tasks, models, datasets and methods together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from pydantic import BaseModel

from acamkd_core import ranks
from acamkd_core.datasets.base import Dataset
from acamkd_core.datasets.loader import EvalLoader, TrainLoader
from acamkd_core.datasets.registry import open_dataset
from acamkd_core.engine.networks import Taught, build_student, build_teacher, with_random_head
from acamkd_core.engine.parts import Parts, Run
from acamkd_core.engine.randomness import seed_torch
from acamkd_core.engine.recorded_ratio import recorded_ratio
from acamkd_core.engine.resolve import from_header, from_onnx, from_program, locate, resolve
from acamkd_core.graph_plan import GraphPlan
from acamkd_core.methods.base import LevelPair, Method
from acamkd_core.methods.registry import build_method
from acamkd_core.models.base import TaskModel
from acamkd_core.models.weights import inherit
from acamkd_core.program_file import SUFFIX
from acamkd_core.program_plan import ProgramPlan
from acamkd_core.spec.archs import Arch
from acamkd_core.spec.errors import CoreError, ErrorInfo
from acamkd_core.spec.fit import far_levels, headless_placebo, misfit_of, other_head, settle
from acamkd_core.spec.job import JobSpec
from acamkd_core.spec.label_map import mapped_misfit
from acamkd_core.spec.methods import FeatureMSEMatchedTerm, MethodTerm
from acamkd_core.spec.models import ModelSpec, TeacherSpec
from acamkd_core.spec.native import NativeHeader, read_native_header
from acamkd_core.spec.pairing import Pairing, Shape, pair_up, pair_words
from acamkd_core.spec.sizes import only_size, size_misfit
from acamkd_core.tasks.registry import build_task
from acamkd_core.tasks.segmentation import SegmentationTask


@dataclass
class Data:
    """An opened dataset and the spec that fits it.

    given: fields that each distillation term was given; `spec` has every field filled in.
    """

    spec: JobSpec
    automatic: dict[str, Any]
    dataset: Dataset
    input_size: tuple[int, int]
    headers: dict[str, NativeHeader | None] = field(default_factory=dict)
    graph: GraphPlan | None = None
    given: list[set[str]] = field(default_factory=list)

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
    warnings: list[ErrorInfo] = field(default_factory=list)


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
    networks = _archs(spec, run)
    settle(spec.distill, spec.task, networks["student"], networks.get("teacher"))
    given = [set(term.model_fields_set) for term in spec.distill]
    if spec.augment.size is None and (only := only_size(networks, spec.teacher_size)) is not None:
        spec = spec.model_copy(update={"augment": spec.augment.model_copy(update={"size": only})})
    resolved, automatic = resolve(spec, dataset, (first.shape[0], first.shape[1]), per_epoch)
    for number, term in enumerate(spec.distill):
        automatic |= {f"distill.{number}.{name}": value for name, value in term.decided().items()}
    if (misfit := size_misfit(networks, resolved.augment, spec.teacher_size)) is not None:
        raise CoreError.of(misfit)
    augment = resolved.augment
    input_size = augment.padded(augment.fitted((first.shape[0], first.shape[1])))
    data = Data(resolved, automatic, dataset, input_size, given=given)
    for role in ("teacher", "student"):
        model: ModelSpec | None = getattr(data.spec, role)
        if model is None:
            continue
        path = locate(model, run.inputs, role)
        whole: tuple[dict[str, Any], GraphPlan] | None = from_program(model, path, data.spec, run.code_roots, role)
        whole = whole or from_onnx(model, path, data.spec, data.input_size)
        if whole is not None:
            updates, data.graph = whole
        else:
            updates, data.headers[role] = from_header(model, path, role)
        if isinstance(model, TeacherSpec) and model.classes is None and (names := _class_names(data)):
            updates["classes"] = names
        if updates:
            merged = type(model).model_validate({**model.model_dump(), **updates})
            data.spec = data.spec.model_copy(update={role: merged})
            automatic.update({f"{role}.{name}": value for name, value in _found(model, updates).items()})
    return data


def runs_code(data: Data) -> str:
    """What `build` will run of others' code, in words and before it does; empty for all jobs but those that allow it."""
    plan = data.graph
    return f"runs the code of {plan.name}, sha256 {plan.sha256}" if isinstance(plan, ProgramPlan) else ""


def _found(model: ModelSpec, updates: dict[str, Any]) -> dict[str, Any]:
    """What was found out, by path: of a part that the job has given, only what it had left open."""
    found: dict[str, Any] = {}
    for name, value in updates.items():
        given = getattr(model, name)
        if isinstance(given, BaseModel):
            found |= {f"{name}.{key}": one for key, one in value.items() if one != getattr(given, key)}
        else:
            found[name] = value
    return found


def _archs(spec: JobSpec, run: Run) -> dict[str, Arch | None]:
    """Which network each role is, where the spec or a file of ours says it."""
    found: dict[str, Arch | None] = {}
    for role in ("student", "teacher"):
        model: ModelSpec | None = getattr(spec, role)
        if model is None:
            continue
        path = locate(model, run.inputs, role) if model.arch is None else None
        whole = path is not None and path.suffix.lower() in (".onnx", SUFFIX)
        header = read_native_header(path) if path is not None and not whole else None
        found[role] = model.arch if header is None else header.arch
    return found


def _class_names(data: Data) -> tuple[str, ...]:
    """The teacher's classes as its file names them; empty where it does not."""
    header = data.headers.get("teacher")
    return data.graph.classes if data.graph is not None else header.class_names if header is not None else ()


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
    student = build_student(data, run, notes)
    taught: Taught | None = None
    teacher: TaskModel | None = None
    if spec.teacher is not None:
        seed_torch(spec.seed, "teacher")
        taught = build_teacher(data, run, device, notes)
        teacher = taught.model.eval().requires_grad_(False).to(device)
    if spec.student.inherit:
        assert teacher is not None
        notes += [f"student {name}: {inherit(student, teacher, name)}" for name in spec.student.inherit]
    if spec.train.sync_bn and world > 1:
        student = ranks.synchronised_norm(student)
    student.freeze(spec.student.freeze.stages, norm=spec.student.freeze.norm == "eval")
    methods, pairs = _methods(data, student, taught, run, device, notes)
    if taught is not None and taught.graph is not None:
        taught.graph.use({pair.teacher_name for method in methods for pair in method.pairs})
    random_head = None
    if taught is not None and any(term.placebo == "random_head" for term in spec.distill):
        seed_torch(spec.seed, "placebo")
        random_head = with_random_head(taught, data).eval().requires_grad_(False).to(device)
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
        compared=taught.compared if taught is not None else None,
        train=lambda start: iter(loader(start_iteration=start)), batches_per_epoch=per_epoch, val=val, test=test, device=device,
        iterations=iterations, evaluate_every=spec.evaluation.every, checkpoint_every=spec.checkpoint.every,
        global_batch=spec.batch.global_size, input_size=data.input_size, panel_images=[i * len(val) // count for i in range(count)],
    )  # fmt: skip
    if spec.evaluation.averages:
        assert isinstance(task, SegmentationTask), "the spec refuses it elsewhere"
        parts.averaged = partial(task.averaged, scales=spec.evaluation.scales, flip=spec.evaluation.flip)
    warning = taught.matched.warning() if taught is not None else None
    return Built(spec, data.automatic, parts, pairs, notes, [warning] if warning is not None else [])


def _methods(
    data: Data, student: TaskModel, taught: Taught | None, run: Run, device: torch.device, notes: list[str]
) -> tuple[list[Method], list[dict[str, Any]]]:
    """The methods, and what they compare; enters pairs of levels that the job leaves open into the spec."""
    spec, num_classes = data.spec, len(data.dataset.classes)
    size = spec.augment.crop or data.input_size
    methods: list[Method] = []
    described: list[dict[str, Any]] = []
    for number, term in enumerate(spec.distill):
        assert taught is not None
        misfit = misfit_of(term, spec.task) or mapped_misfit(term, spec.task, taught.matched)
        if misfit is not None:
            raise CoreError.of(misfit.within(f"distill.{number}"))
        assert spec.teacher is not None
        assert spec.student.arch is not None
        misfit = other_head(term, spec.student.arch, spec.teacher.arch)
        if misfit is not None:
            raise CoreError.of(misfit.within(f"distill.{number}"))
        _pair(term, number, student, taught.model, data, notes)
        graph, arch = taught.graph, spec.teacher.arch
        family = graph.plan.kind if graph is not None else arch.family if arch is not None else ""
        if (misfit := headless_placebo(term, family)) is not None:
            raise CoreError.of(misfit.within(f"distill.{number}"))
        pairs = pair_levels(term, student, taught.model, f"distill.{number}")
        if (compared := taught.compared) is not None:
            known = replace(student.levels["logits"], channels=len(compared))
            pairs = [replace(pair, student=known) if pair.name == "logits" else pair for pair in pairs]
        if isinstance(term, FeatureMSEMatchedTerm) and term.ratio is None:
            term = term.model_copy(update={"ratio": recorded_ratio(term, run.inputs, f"distill.{number}.ratio_from")})
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
                "text": pair_words(
                    Shape(pair.name, pair.student.channels, pair.student.stride),
                    Shape(pair.teacher_name, pair.teacher.channels, pair.teacher.stride),
                    size,
                ),
            }
            for pair in pairs
        ]
    return methods, described


def _pair(term: MethodTerm, number: int, student: TaskModel, teacher: TaskModel, data: Data, notes: list[str]) -> None:
    """Enters the pairs of levels that the job leaves open into the term. Raises CoreError: `distill.no_partner`."""
    pairing = pair_up(
        term, *({name: level.stride for name, level in model.levels.items()} for model in (student, teacher)),
        given="at" in data.given[number], entries=tuple(name for name, level in teacher.levels.items() if level.onward),
    )  # fmt: skip
    if not isinstance(pairing, Pairing):
        raise CoreError.of(pairing.within(f"distill.{number}"))
    data.automatic |= {f"distill.{number}.{name}": list(value) for name, value in pairing.enter(term).items()}
    if pairing.left_out:
        notes.append(f"distill.{number} ({term.method}): {pairing.words()}")


def pair_levels(term: MethodTerm, student: TaskModel, teacher: TaskModel, field_name: str) -> list[LevelPair]:
    """The levels that a term compares.

    Raises:
        CoreError: `level.unknown`, with the levels that exist; `distill.far_levels`.
    """
    names = term.teacher_at or term.at
    if len(names) != len(term.at):
        raise CoreError(
            "level.count", f"at names {len(term.at)} levels, teacher_at {len(names)}", field=f"{field_name}.teacher_at",
            hint="name one teacher level for each level of `at`, in its order", value=list(names),
        )  # fmt: skip
    for name, model, key, who in [
        *((n, student, "at", "student") for n in term.at),
        *((n, teacher, "teacher_at", "teacher") for n in names),
    ]:
        if name not in model.levels:
            raise CoreError(
                "level.unknown",
                f"the {who} has no level {name!r}",
                hint=f"it has {', '.join(model.levels)}",
                field=f"{field_name}.{key if term.teacher_at else 'at'}",
                value=name,
            )
    strides = [{name: level.stride for name, level in model.levels.items()} for model in (student, teacher)]
    if (far := far_levels(term, *strides)) is not None:
        raise CoreError.of(far.within(field_name))
    return [LevelPair(s, t, student.levels[s], teacher.levels[t]) for s, t in zip(term.at, names, strict=True)]
