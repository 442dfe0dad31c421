"""What can be known before a job runs, without torch and without reading a picture.

Every check adds problems (they stop the submission) or findings (they are shown). Nothing is fixed silently, except
that a registered dataset is replaced by the folder that its name stands for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sqlalchemy.orm import Session

from acamkd_core.program_file import SUFFIX, allowed_program
from acamkd_core.spec.api import Finding
from acamkd_core.spec.archs import FAMILY_TASKS
from acamkd_core.spec.datasets import RegisteredDataset, Splits, folder_dataset
from acamkd_core.spec.early import nothing_to_inherit
from acamkd_core.spec.errors import CoreError, ErrorInfo
from acamkd_core.spec.fit import settle
from acamkd_core.spec.job import InspectSpec, JobSpec
from acamkd_core.spec.label_map import Matched
from acamkd_core.spec.models import ModelSpec, TeacherSpec
from acamkd_core.spec.sizes import only_size, size_misfit
from server.auth.service import CallerScope
from server.datasets import repository as datasets
from server.db.tables import Dataset
from server.jobs.references import Network, graph_of, network_of
from server.jobs.teacher import check_classes, check_graph
from server.jobs.terms import check_term
from server.paths import inside_roots
from server.settings import Settings

SMALL_BATCH = 16  # images a pass, below which the detection papers freeze batch norm


@dataclass
class Checked:
    """What the checks found out, and what the job will need."""

    problems: list[ErrorInfo] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    inputs: dict[str, dict[str, str]] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)  # id -> name of jobs that must end first
    dataset: Dataset | None = None
    teacher: Network | None = None
    student: Network | None = None
    matched: Matched | None = None  # the teacher's classes against the dataset's, where both are known
    automatic: set[str] = field(default_factory=set)

    def refuse(self, code: str, message: str, path: str, *, hint: str | None = None, value: Any = None) -> None:
        """Adds a problem."""
        self.problems.append(ErrorInfo(code=code, message=message, field=path, hint=hint, value=value))

    def note(self, code: str, message: str, path: str, severity: Literal["warning", "info"] = "warning") -> None:
        """Adds a finding."""
        self.findings.append(Finding(severity=severity, info=ErrorInfo(code=code, message=message, field=path)))


@dataclass(frozen=True)
class Scope:
    """Where the checks look things up."""

    session: Session
    caller: CallerScope
    settings: Settings


def check_job(spec: JobSpec, scope: Scope) -> tuple[JobSpec, Checked]:
    """A distillation spec with its dataset and paths settled, and everything found on the way."""
    checked = Checked()
    dataset = _settle_dataset(spec.dataset, scope, checked)
    spec = spec.model_copy(update={"dataset": dataset})
    if spec.teacher is not None:
        teacher, checked.teacher = _settle_network(spec.teacher, "teacher", scope, checked, spec.task)
        spec = spec.model_copy(update={"teacher": teacher})
    student, checked.student = _settle_network(spec.student, "student", scope, checked, spec.task)
    spec = spec.model_copy(update={"student": student})
    if spec.student.arch is None and spec.student.weights is None:
        checked.refuse(
            "student.no_arch", "the student needs an architecture", "student.arch", hint="e.g. a preset's name"
        )
    _check_task(spec, checked)
    settle(
        spec.distill, spec.task, *(one.arch if one is not None else None for one in (checked.student, checked.teacher))
    )
    if checked.student is not None and checked.teacher is not None:
        arches = checked.student.arch, checked.teacher.arch
        if (misfit := nothing_to_inherit(spec.student.inherit, *arches)) is not None:
            checked.problems.append(misfit)
    spec = _settle_size(spec, checked)
    check_classes(spec, checked)
    check_graph(spec, checked)
    for index, _ in enumerate(spec.distill):
        check_term(spec, index, scope, checked)
    _check_numbers(spec, checked)
    return spec, checked


def check_inspection(spec: InspectSpec, scope: Scope) -> tuple[InspectSpec, Checked]:
    """As `check_job`, for an inspection."""
    checked = Checked()
    dataset = _settle_dataset(spec.dataset, scope, checked, must_be_ready=False)
    return spec.model_copy(update={"dataset": dataset}), checked


def _settle_dataset(dataset: Any, scope: Scope, checked: Checked, *, must_be_ready: bool = True) -> Any:
    if isinstance(dataset, RegisteredDataset):
        return _settle_registered(dataset, scope, checked, must_be_ready)
    if dataset.root is None:  # scenes are made in the worker's own cache
        return dataset
    try:
        root = inside_roots(dataset.root, scope.settings, field="dataset.root", kind="folder")
    except CoreError as error:
        if not (error.code == "path.missing" and dataset.format == "scenes"):  # generated on first use
            checked.problems.append(error.info)
        return dataset
    if not root.is_dir():
        hint = "name the folder that holds the images; a zip is uploaded first: `acamkd datasets add NAME ZIP`"
        checked.refuse("dataset.not_a_folder", "a dataset is a folder", "dataset.root", hint=hint, value=dataset.root)
    return dataset.model_copy(update={"root": str(root)})


def _settle_registered(dataset: RegisteredDataset, scope: Scope, checked: Checked, must_be_ready: bool) -> Any:
    name, _, version = dataset.name.partition("@")
    row = datasets.get(scope.session, project_id=scope.caller.project_id, ref=name)
    if row is None:
        checked.refuse(
            "dataset.unknown", f"there is no dataset {name!r}", "dataset", hint="register it first", value=name
        )
        return dataset
    checked.dataset = row
    if must_be_ready and row.state == "inspecting":
        hint = "wait for its inspection to end"
        checked.refuse("dataset.not_inspected", f"dataset {name!r} is still being inspected", "dataset", hint=hint)
    elif must_be_ready and row.state == "failed":
        message = f"dataset {name!r} did not pass its inspection ({row.errors} kinds of errors)"
        checked.refuse("dataset.unfit", message, "dataset", hint="see the dataset's page, mend it, inspect it again")
    elif version and not (row.version or "").startswith(version):
        message = f"dataset {name!r} is at version {(row.version or 'none')[:12]}, not {version}"
        checked.refuse("dataset.version", message, "dataset", hint="its files have changed since", value=version)
    if row.warnings:
        checked.note("dataset.warnings", f"the inspection of {name!r} has {row.warnings} warnings", "dataset")
    options = {name: value for name, value in row.options.items() if name != "splits"}
    checked.automatic |= {"dataset.format", "dataset.root", *(f"dataset.{name}" for name in options)}
    # The job's own words about splits win over those of the registration.
    if "splits" in dataset.model_fields_set or "splits" not in row.options:
        splits = dataset.splits
    else:
        splits = Splits.model_validate(row.options["splits"])
    return folder_dataset(row.format, row.root, options).model_copy(update={"splits": splits})


def _settle_network(
    spec: ModelSpec, role: str, scope: Scope, checked: Checked, task: str
) -> tuple[ModelSpec, Network | None]:
    """Checks a network's sources; files become absolute paths inside the roots."""
    changes: dict[str, Any] = {}
    network = Network(arch=spec.arch)
    for part in ("weights", "backbone_weights"):
        weights = getattr(spec, part)
        if weights is None:
            continue
        path = f"{role}.{part}"
        try:
            if weights.file is not None:
                whole = isinstance(spec, TeacherSpec) and part == "weights" and (spec.is_onnx or spec.is_program)
                file = _settle_file(spec, weights.file, path, scope.settings)
                changes[part] = weights.model_copy(update={"file": str(file)})
                if whole and isinstance(spec, TeacherSpec):
                    found = graph_of(spec, file, task, field=path)
                else:
                    found = network_of(scope.session, scope.caller, changes[part], field=path)
            else:
                found = network_of(scope.session, scope.caller, weights, field=path)
        except CoreError as error:
            info = error.info
            checked.problems.append(info if info.field else info.model_copy(update={"field": path}))
            continue
        if found.input is not None:
            checked.inputs[weights.reference] = found.input
        checked.parents |= found.parents
        if part == "weights":
            network = found.with_arch(spec.arch)
    if spec.arch is not None and "arch" not in spec.model_fields_set:  # timm's weights say it
        checked.automatic |= {f"{role}.arch.{name}" for name in type(spec.arch).model_fields}
    return (spec.model_copy(update=changes) if changes else spec), network


def _settle_file(spec: ModelSpec, file: str, path: str, settings: Settings) -> Path:
    """Where a file lies, inside the folders for its kind: programs come from folders of their own."""
    if isinstance(spec, TeacherSpec) and spec.is_program:
        return allowed_program(file, settings.code_folders, field=path)
    found = inside_roots(file, settings, field=path, kind="weights file")
    if found.suffix.lower() == SUFFIX:
        raise CoreError(
            "pt2.not_named", "the name leads to a program (.pt2), and the job does not name it as one", field=path,
            hint="programs can teach: weights: FILE.pt2 with allow_code: true", value=file,
        )  # fmt: skip
    return found


def _check_task(spec: JobSpec, checked: Checked) -> None:
    """Labels and networks that only the server knows are of the job's task; the spec itself has checked the rest."""
    found: dict[str, str] = {}
    if checked.dataset is not None and checked.dataset.task:
        found["dataset"] = checked.dataset.task
    for role, network in (("teacher", checked.teacher), ("student", checked.student)):
        if network is not None and network.arch is not None:
            found[role] = FAMILY_TASKS[network.arch.family]
    for where, task in found.items():
        if task != spec.task:
            message = f"the job is for {spec.task.replace('_', ' ')}, its {where} for {task.replace('_', ' ')}"
            hint = f"set task to {task}" if "task" not in spec.model_fields_set else "all parts have to be for one task"
            checked.refuse("task.differs", message, where, hint=hint, value=task)


def _settle_size(spec: JobSpec, checked: Checked) -> JobSpec:
    """A network that takes one image size only decides on it, also one that only the server knows."""
    networks = {
        role: network.arch if network is not None else None
        for role, network in (("student", checked.student), ("teacher", checked.teacher))
    }
    if (misfit := size_misfit(networks, spec.augment, spec.teacher_size)) is not None:
        checked.problems.append(misfit)
        return spec
    only = only_size(networks, spec.teacher_size)
    if only is None or "size" in spec.augment.model_fields_set:
        return spec
    checked.automatic.add("augment.size")
    return spec.model_copy(update={"augment": spec.augment.model_copy(update={"size": only})})


def train_images(spec: JobSpec, checked: Checked) -> int | None:
    """Images of the training split, where they are known before the run."""
    if spec.dataset.format == "scenes":
        return spec.dataset.train_images
    images = checked.dataset.images if checked.dataset is not None else {}
    count = images.get("train")
    return count if isinstance(count, int) else None


def _check_numbers(spec: JobSpec, checked: Checked) -> None:
    images, batch = train_images(spec, checked), spec.batch
    if images is not None and batch.global_size > images:
        message = f"a batch of {batch.global_size} does not fit {images} training images"
        hint = f"at most {images}"
        checked.refuse("batch.too_many", message, "batch.global_size", hint=hint, value=batch.global_size)
    weights, classes = spec.task_loss.class_weights, checked.dataset.classes if checked.dataset is not None else None
    if weights is not None and classes and len(weights) != len(classes):
        message = f"{len(weights)} weights face the dataset's {len(classes)} classes"
        hint = "one factor a class, in the order of the dataset's classes"
        checked.refuse("task.class_weights", message, "task_loss.class_weights", hint=hint, value=list(weights))
    if batch.global_size // batch.accumulate == 1:
        checked.note("batch.one_image", "one image a forward pass: batch norm sees no batch", "batch.accumulate")
    images = batch.global_size // (batch.accumulate * spec.resources.world)
    pretrained = spec.student.backbone_weights is not None or spec.student.weights is not None
    if spec.task == "detection" and pretrained and spec.student.freeze.norm == "train" and images < SMALL_BATCH:
        message = (
            f"batch norm learns anew from {images} images a pass; detectors that start from pretrained weights usually keep "
            "its statistics: student.freeze: {stages: 1, norm: eval}"
        )
        checked.note("student.small_batch_norm", message, "student.freeze.norm", "info")
    if spec.schedule.policy == "multistep" and not spec.schedule.milestones:
        checked.refuse("schedule.milestones", "multistep needs milestones", "schedule.milestones")
    length = spec.schedule.iterations
    if length is not None and spec.evaluation.every is not None and spec.evaluation.every > length:
        checked.note("evaluation.rare", "the run is shorter than the evaluation interval", "evaluation.every")
    if length is not None and spec.schedule.warmup_iterations >= length:
        hint = f"fewer than {length} iterations"
        checked.refuse("schedule.warmup", "the warm-up is as long as the run", "schedule.warmup_iterations", hint=hint)
    if spec.train.sync_bn and spec.resources.gpus < 2:
        checked.note("train.no_effect", "sync_bn has no effect on fewer than two GPUs", "train.sync_bn")
    names = [export.format for export in spec.exports]
    if len(set(names)) != len(names):
        checked.refuse("exports.twice", "a format is listed twice", "exports", hint="each once", value=names)
    if spec.teacher is None and spec.reference is None and not spec.distill:
        checked.note("job.alone", "no teacher: the student is trained alone", "teacher", "info")
    elif spec.teacher is not None and not spec.distill:
        checked.note("job.unused_teacher", "the teacher is scored, but no distill term uses it", "distill")
