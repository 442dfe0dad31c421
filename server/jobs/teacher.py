"""What a teacher has to fit at submission: the dataset's classes, and for a graph the job's image sizes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from acamkd_core.graph_plan import check_count, check_sizes
from acamkd_core.program_plan import ProgramPlan
from acamkd_core.spec.api import Finding
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.job import JobSpec
from acamkd_core.spec.label_map import FIELD, match
from acamkd_core.spec.torchvision_models import published

if TYPE_CHECKING:
    from server.jobs.checks import Checked


def evaluation_size(spec: JobSpec, checked: Checked) -> tuple[int, int] | None:
    """Height and width of the networks' input at evaluation, where it is known before the run."""
    if spec.augment.size is not None or spec.task == "classification":  # a classifier's is cut out of the image
        return spec.augment.size
    stored: tuple[int, int] | None = None
    sizes = (checked.dataset.report or {}).get("sizes") or [] if checked.dataset is not None else []
    if spec.dataset.format == "scenes":
        stored = spec.dataset.size
    elif len(sizes) == 1:
        stored = (sizes[0]["height"], sizes[0]["width"])
    return spec.augment.padded(spec.augment.fitted(stored)) if stored is not None else None


def teacher_strides(spec: JobSpec, checked: Checked) -> dict[str, int]:
    """Strides of the teacher's levels in the job's pixels, rounded as the run has them, where they are known before it."""
    strides = checked.teacher.strides() if checked.teacher is not None else {}
    if spec.teacher_size is None:
        return strides
    if (trained := spec.augment.crop or evaluation_size(spec, checked)) is None:
        return {}
    zoom = math.sqrt(math.prod(own / side for own, side in zip(spec.teacher_size, trained, strict=True)))
    return {name: stride and max(1, round(stride / zoom)) for name, stride in strides.items()}


def check_classes(spec: JobSpec, checked: Checked) -> None:
    """Sets the teacher's classes against the dataset's, as far as both are known."""
    if spec.teacher is None or checked.teacher is None or checked.dataset is None or not checked.dataset.classes:
        return
    teacher = checked.teacher
    learnt = list(spec.teacher.classes or teacher.classes)
    known = teacher.graph is not None or (teacher.arch is not None and not teacher.parents)
    if not learnt and (spec.teacher.label_map is None or not known or _names_known_to_the_run(spec)):
        _check_published(spec, len(checked.dataset.classes), checked)
        return  # their names only the run will know
    try:
        checked.matched = match(learnt, class_names(checked.dataset.classes), spec.teacher.label_map, task=spec.task)
    except CoreError as error:
        checked.problems.append(error.info)
        return
    if spec.teacher.label_map is not None:
        checked.note("teacher.label_map", f"the teacher knows {checked.matched.words()}", FIELD, "info")
    if (warning := checked.matched.warning()) is not None:
        checked.findings.append(Finding(severity="warning", info=warning))


def _check_published(spec: JobSpec, wanted: int, checked: Checked) -> None:
    """torchvision's weights have a known number of classes, and without a map the dataset has to have as many."""
    weights = spec.teacher.weights if spec.teacher is not None else None
    if spec.teacher is None or weights is None or weights.torchvision is None or spec.teacher.label_map is not None:
        return
    network = published(weights.torchvision)
    if network is not None and network.classes != wanted:
        checked.refuse(
            "teacher.other_classes",
            f"the weights of {weights.torchvision} are for {network.classes} classes, the dataset has {wanted}",
            "teacher",
            hint="teacher.label_map: by_name where names agree, or {teacher class: dataset class}; or train a teacher on this dataset",
            value=network.classes,
        )


def _names_known_to_the_run(spec: JobSpec) -> bool:
    """Whether the teacher's weights are torchvision's or timm's, which name their classes to the run alone."""
    weights = spec.teacher.weights if spec.teacher is not None else None
    return weights is not None and (weights.torchvision is not None or weights.timm is not None)


def class_names(classes: list[Any]) -> list[str]:
    """Names out of class records of whatever source."""
    return [str(item.get("name")) if isinstance(item, dict) else str(item) for item in classes]


def check_graph(spec: JobSpec, checked: Checked) -> None:
    """Adds problems and findings about a teacher that comes as a whole; does nothing for other teachers."""
    graph = checked.teacher.graph if checked.teacher is not None else None
    if graph is None or spec.teacher is None:
        return
    try:
        check_sizes(graph, spec.augment, evaluation_size(spec, checked), spec.teacher.size)
        if names := spec.teacher.classes or graph.classes:
            check_count(graph, graph.channels, len(names), of="its classes are")
        elif checked.dataset is not None and checked.dataset.classes:
            check_count(graph, graph.channels, len(checked.dataset.classes), of="the dataset has")
    except CoreError as error:
        checked.problems.append(error.info)
    if isinstance(graph, ProgramPlan):
        checked.note(
            "teacher.runs_code",
            "the teacher is a program: whatever code is in it runs on the worker, and the student's lineage will say so",
            "teacher.allow_code",
        )
    if graph.preprocess is None and spec.teacher.preprocess is None:
        message = "the file does not say what its input looks like: RGB in [0, 1] with ImageNet's mean and deviation is assumed"
        checked.note(f"{graph.kind}.preprocess", message, "teacher.preprocess")
    if spec.task == "detection" and not graph.selection and spec.teacher.expect is not None:
        message, hint = "the teacher gives features only: there is no score to expect", "leave teacher.expect out"
        checked.refuse("teacher.unscored", message, "teacher.expect", hint=hint)
    elif spec.task == "detection" and not graph.selection:
        checked.note(
            "teacher.unscored",
            "the teacher gives features only: what it knows cannot be scored before training",
            "teacher",
        )
