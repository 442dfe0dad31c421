"""Filling in what only the data and the networks can tell: the automatic values of a spec."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from acamkd_core.datasets.base import Dataset
from acamkd_core.graph_plan import check_sizes
from acamkd_core.models.timm_backbone import timm_preprocess
from acamkd_core.onnx_file import read_onnx
from acamkd_core.onnx_plan import OnnxPlan, plan_onnx
from acamkd_core.program_file import SUFFIX, allowed_program, digest_of
from acamkd_core.program_plan import ProgramPlan, plan_program
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.job import JobSpec
from acamkd_core.spec.models import ModelSpec, Preprocess, TeacherSpec, WeightsSpec
from acamkd_core.spec.native import NativeHeader, read_native_header
from acamkd_core.spec.timm_models import PREFIX

DEFAULT_EPOCHS = 30


def locate(model: ModelSpec, inputs: dict[str, Path], field: str) -> Path | None:
    """The local file behind `weights`, or None when there are none or torchvision or timm has them."""
    weights = model.weights
    if weights is None or weights.torchvision is not None or weights.timm is not None:
        return None
    if isinstance(model, TeacherSpec) and model.is_program:  # from nowhere else, and whether it may run is asked first
        return Path(str(weights.file))
    if weights.reference in inputs:
        return inputs[weights.reference]
    if weights.file is None:
        raise CoreError(
            "weights.needs_server",
            f"{weights.reference} is known to a server only",
            hint="submit the job to the server, or give a file",
            field=f"{field}.weights",
            value=weights.reference,
        )
    path = Path(weights.file).expanduser()
    if not path.is_file():
        raise CoreError(
            "weights.not_found", f"no file {weights.file}", field=f"{field}.weights.file", value=weights.file
        )
    return path


def from_program(
    model: ModelSpec, path: Path | None, spec: JobSpec, roots: list[Path] | None, field: str
) -> tuple[dict[str, Any], ProgramPlan] | None:
    """(updates for the teacher's spec, what its outputs mean) of a teacher that is a program; None for all other networks.

    Args:
        roots: as `Run.code_roots`.

    Raises:
        CoreError: the codes of `allowed_program`, `plan_program` and `digest_of`; `pt2.not_named`.
    """
    if not (isinstance(model, TeacherSpec) and model.is_program and model.allow_code):
        if path is not None and path.suffix.lower() == SUFFIX:  # behind another name, or as a student
            raise CoreError(
                "pt2.not_named", f"{path.name} is a program, and the job does not name it as one", field=f"{field}.weights",
                hint="programs can teach: weights: FILE.pt2 with allow_code: true", value=path.name,
            )  # fmt: skip
        return None
    assert model.weights is not None
    plan = plan_program(allowed_program(str(model.weights.file), roots), model, task=spec.task)
    plan = replace(plan, sha256=digest_of(plan.path, plan.sha256))
    updates: dict[str, Any] = {"pt2": plan.resolved()}
    if model.preprocess is None:
        updates["preprocess"] = Preprocess().model_dump()
    return updates, plan


def from_onnx(
    model: ModelSpec, path: Path | None, spec: JobSpec, size: tuple[int, int]
) -> tuple[dict[str, Any], OnnxPlan] | None:
    """(updates for the teacher's spec, what its tensors mean) of a teacher in an ONNX file; None for all other networks.

    Args:
        spec: with its sizes filled in.
        size: of the networks' input at evaluation.

    Raises:
        CoreError: the codes of `read_onnx`, `plan_onnx` and `check_sizes`; `student.onnx`, `onnx.no_file`.
    """
    if path is None or path.suffix.lower() != ".onnx":
        if isinstance(model, TeacherSpec) and model.onnx is not None:
            raise CoreError(
                "onnx.no_file", "`onnx` describes an ONNX file, and the weights are none", field="teacher.onnx",
                value=model.weights.reference if model.weights else None,
            )  # fmt: skip
        return None
    if not isinstance(model, TeacherSpec):
        raise CoreError(
            "student.onnx", "an ONNX file can teach, but it cannot learn", field="student.weights", value=path.name,
            hint="take the .safetensors file",
        )  # fmt: skip
    plan = plan_onnx(read_onnx(path), model, task=spec.task)
    check_sizes(plan, spec.augment, size, model.size)
    updates: dict[str, Any] = {"onnx": plan.resolved()}
    if model.preprocess is None:
        updates["preprocess"] = (plan.preprocess or Preprocess()).model_dump()
    return updates, plan


def from_header(model: ModelSpec, path: Path | None, field: str) -> tuple[dict[str, Any], NativeHeader | None]:
    """(updates for the model's spec, header): architecture and preprocessing, from a file of ours or from what timm knows."""
    header = read_native_header(path) if path is not None else None
    updates: dict[str, Any] = {}
    if model.preprocess is None:
        updates["preprocess"] = (header.preprocess if header is not None else _usual(model, field)).model_dump()
    if header is None:
        if model.arch is None:
            raise CoreError(
                "model.no_arch",
                "these weights do not say which network they belong to",
                hint="give `arch`: a preset's name or its fields",
                field=f"{field}.arch",
            )
        return updates, None
    if model.arch is None:
        updates["arch"] = header.arch.model_dump()
    return updates, header


def _usual(model: ModelSpec, field: str) -> Preprocess:
    """The preprocessing of timm's weights or networks; of others, that of ImageNet's classifiers."""
    backbone = getattr(model.arch, "backbone", "")
    for name in ("weights", "backbone_weights"):
        weights: WeightsSpec | None = getattr(model, name)
        if weights is not None and weights.timm is not None:
            return timm_preprocess(weights.timm, f"{field}.{name}")
    if backbone.startswith(PREFIX):
        return timm_preprocess(backbone.removeprefix(PREFIX), f"{field}.arch.backbone")
    return Preprocess()


def resolve(
    spec: JobSpec, dataset: Dataset, size: tuple[int, int], batches_per_epoch: int
) -> tuple[JobSpec, dict[str, Any]]:
    """The spec with sizes and lengths filled in, and the automatic values by dotted path.

    Args:
        size: height and width of the dataset's images.
        batches_per_epoch: full batches in one pass over the training split.

    Raises:
        CoreError: `schedule.warmup` when the warm-up is as long as the run.
    """
    data = spec.model_dump()
    automatic: dict[str, Any] = {}

    def fill(path: str, value: Any) -> None:
        part, name = path.split(".")
        if data[part][name] is None:
            data[part][name] = automatic[path] = value

    for name, value in spec.augment.automatic(spec.task, size).items():
        fill(f"augment.{name}", value)
    if data["schedule"]["iterations"] is None:
        fill("schedule.epochs", DEFAULT_EPOCHS)
    total = data["schedule"]["iterations"] or data["schedule"]["epochs"] * batches_per_epoch
    if data["schedule"]["warmup_iterations"] >= total:
        raise CoreError(
            "schedule.warmup",
            f"a warm-up of {data['schedule']['warmup_iterations']} iterations leaves nothing of {total}",
            hint="a shorter warm-up, or more epochs",
            field="schedule.warmup_iterations",
            value=data["schedule"]["warmup_iterations"],
        )
    fill("evaluation.every", max(1, total // 10))
    fill("checkpoint.every", data["evaluation"]["every"])
    if data["dataset"]["splits"]["test"] is None and "test" in dataset.splits():
        data["dataset"]["splits"]["test"] = automatic["dataset.splits.test"] = "test"
    for number, term in enumerate(spec.distill):
        for name, value in term.automatic(classes=len(dataset.classes), iterations=total).items():
            data["distill"][number][name] = automatic[f"distill.{number}.{name}"] = value
    return JobSpec.model_validate(data), automatic
