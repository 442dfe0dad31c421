"""What a submission with a teacher in an ONNX file has to fit: the job's image sizes, and the dataset's classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acamkd_core.onnx_plan import check_count, check_sizes
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.job import JobSpec

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


def check_graph(spec: JobSpec, checked: Checked) -> None:
    """Adds problems and findings about a teacher in an ONNX file; does nothing for other teachers."""
    graph = checked.teacher.graph if checked.teacher is not None else None
    if graph is None or spec.teacher is None:
        return
    try:
        check_sizes(graph, spec.augment, evaluation_size(spec, checked))
        if checked.dataset is not None and checked.dataset.classes:
            check_count(graph, graph.channels, len(checked.dataset.classes), of="the dataset has")
    except CoreError as error:
        checked.problems.append(error.info)
    if graph.preprocess is None and spec.teacher.preprocess is None:
        message = "the file does not say what its input looks like: RGB in [0, 1] with ImageNet's mean and deviation is assumed"
        checked.note("onnx.preprocess", message, "teacher.preprocess")
    if spec.task == "detection" and not graph.selection:
        checked.note(
            "teacher.unscored",
            "the teacher gives features only: what it knows cannot be scored before training",
            "teacher",
        )
