"""Networks that a spec names: `job:x`, `model:x@alias`, files. What can be known of them without torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy.orm import Session

from acamkd_core.graph_plan import GraphPlan
from acamkd_core.onnx_file import read_onnx
from acamkd_core.onnx_plan import plan_onnx
from acamkd_core.program_plan import plan_program
from acamkd_core.spec.api import TERMINAL_STATES
from acamkd_core.spec.archs import Arch
from acamkd_core.spec.catalog import levels_of, load_catalog
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.models import TeacherSpec, WeightsSpec
from acamkd_core.spec.native import read_native_header
from server.auth.service import CallerScope
from server.db.tables import Job
from server.jobs import repository
from server.models import repository as models

_ARCH: TypeAdapter[Any] = TypeAdapter(Arch)


@dataclass(frozen=True)
class Network:
    """What is known of a network before it is built."""

    arch: Any = None
    classes: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    input: dict[str, str] | None = None  # how a worker finds its file
    parents: dict[str, str] = field(default_factory=dict)  # jobs that have to end first: id -> name
    counted: int | None = None  # parameters, as a run found them
    graph: GraphPlan | None = None  # of a teacher that comes as a whole

    def with_arch(self, arch: Any) -> Network:
        """The same with the spec's architecture, which wins over the one that the weights carry."""
        return self if arch is None else replace(self, arch=arch)

    def levels(self) -> list[str]:
        """Names of the levels that distillation can use; empty when the architecture is not known yet."""
        if self.graph is not None:
            return list(self.graph.features.values())
        return [] if self.arch is None else [level.name for level in levels_of(self.arch, 2)]

    def levels_by_stride(self) -> dict[str, int | None]:
        """Level to stride in the order of the forward pass; None where only a run can tell the stride."""
        strides = self.strides()
        return {name: strides.get(name) for name in self.levels()}

    def strides(self) -> dict[str, int]:
        """Strides of the levels, where they are known."""
        if self.graph is not None:
            return self.graph.strides()
        # The number of classes is no matter here: only strides are asked for.
        return {} if self.arch is None else {one.name: one.stride for one in levels_of(self.arch, 2)}

    @property
    def family(self) -> str | None:
        """The family's name; `onnx` or `pt2` for a graph; None when it is not known yet."""
        return self.graph.kind if self.graph is not None else self.arch.family if self.arch is not None else None

    def parameters(self) -> int | None:
        """As a run counted them, or a preset's at the catalog's number of classes; None for any other network."""
        if self.counted is not None:
            return self.counted
        presets = load_catalog().presets
        return next((preset.inference_parameters for preset in presets if preset.arch == self.arch), None)


def _arch_of(job: Job) -> Any:
    data = (job.spec.get("student") or {}).get("arch")
    try:
        return None if data is None else _ARCH.validate_python(data)
    except ValidationError:  # a stored spec of another version is shown, never re-validated
        return None


def _of_job(session: Session, caller: CallerScope, ref: str, where: str) -> Network:
    job = repository.get(session, project_id=caller.project_id, ref=ref)
    if job is None:
        raise CoreError("teacher.unknown", f"there is no job {ref!r}", field=where, value=ref)
    if job.kind != "distill":
        raise CoreError("teacher.not_a_model", f"job {ref!r} trains nothing (it is an {job.kind} job)", field=where)
    if job.state in TERMINAL_STATES and job.state != "succeeded":
        raise CoreError(
            "teacher.failed", f"job {ref!r} is {job.state}", field=where, hint="retry it, and name the retry", value=ref
        )
    facts = (job.facts.get("dataset") or {}).get("classes") or []
    return Network(
        arch=_arch_of(job),
        classes=[str(item.get("name")) if isinstance(item, dict) else str(item) for item in facts],
        metrics=dict(job.metrics),
        counted=((job.facts.get("profile") or {}).get("student") or {}).get("parameters"),
        input={"job": job.id},
        parents={} if job.state == "succeeded" else {job.id: job.name},
    )


def _of_model(session: Session, caller: CallerScope, ref: str, where: str) -> Network:
    row = models.get(session, project_id=caller.project_id, ref=ref)
    if row is None:
        hint = "`acamkd models list` shows names, versions and aliases"
        raise CoreError("teacher.unknown", f"there is no model {ref!r}", field=where, hint=hint, value=ref)
    job = repository.get(session, project_id=caller.project_id, ref=row.job_id) if row.job_id else None
    return Network(
        arch=_arch_of(job) if job is not None else None,
        classes=[str(name) for name in row.classes],
        metrics=dict(row.metrics),
        counted=row.parameters,
        input={"artifact": row.artifact_id},
    )


def graph_of(spec: TeacherSpec, file: Path, task: str, *, field: str) -> Network:
    """The teacher that comes as a whole: an ONNX file, which is read but not run, or a program, which is not even read.

    Raises:
        CoreError: the codes of `read_onnx`, `plan_onnx` and `plan_program`.
    """
    if spec.is_program:
        return Network(graph=plan_program(file, spec, task=task))
    graph = plan_onnx(read_onnx(file, field=field), spec, task=task)
    return Network(classes=list(graph.classes), counted=graph.parameters, graph=graph)


def network_of(session: Session, caller: CallerScope, weights: WeightsSpec, *, field: str) -> Network:
    """The network behind a weights reference.

    Raises:
        CoreError: it does not exist, has failed, or its file is damaged; with the field.
    """
    if weights.job is not None:
        return _of_job(session, caller, weights.job, field)
    if weights.model is not None:
        return _of_model(session, caller, weights.model, field)
    if weights.file is not None:
        if not Path(weights.file).is_file():
            raise CoreError("weights.not_a_file", "weights are a file", field=field, value=weights.file)
        header = read_native_header(weights.file)
        if header is not None:
            return Network(arch=header.arch, classes=list(header.class_names))
    return Network()
