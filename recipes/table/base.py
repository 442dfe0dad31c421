"""A group of rows shares dataset, networks and settings; a row says what is its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from acamkd_core.spec.recipes import Expected, Recipe, RecipeFile
from acamkd_core.spec.tasks import TASKS, TaskName

Job = dict[str, Any]

ACAM_KD = "ACAM-KD (arXiv 2503.06307)"
MASKD = "MasKD (arXiv 2205.14589)"
FGD = "FGD (arXiv 2111.11837)"
MOBILENET_V2 = "MobileNetV2 (arXiv 1801.04381)"
# What keeps every ACAM-KD row from being the printed formula.
NOT_THE_LETTER = (
    "The printed ACAM-KD loss empties its masks; the default options keep them (docs/acam-kd.md). "
    "The letter: mask_norm: sum, mask_gradient: all, diversity: printed, centre: false.",
)
FP32 = "fp32, as the code line; --set train.precision=bf16 is faster and was not compared."

# The order of a job's fields in a file: as the job spec has them.
FIELDS = (
    "version", "task", "dataset", "augment", "teacher", "student", "distill", "task_loss", "optimizer", "schedule",
    "batch", "train", "evaluation", "checkpoint", "exports", "resources", "seed", "reference",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One row of a table.

    job: fields of the job that differ from the group's, merged into it.
    """

    name: str
    method: str
    source: str
    expected: float | None = None
    job: Mapping[str, Any] = field(default_factory=dict)
    deviations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Rows with the same dataset, student and settings.

    teacher: as papers call it; rows whose method is `alone` have none.
    files: what belongs at the paths of the job, by dotted field.
    stated, chosen: settings of the papers, and where they are silent; `stated_distilled`: of rows with a teacher.
    """

    title: str
    dataset: str
    task: TaskName
    student: str
    job: Job
    rows: tuple[Row, ...]
    files: Mapping[str, str]
    teacher: str | None = None
    stated: tuple[str, ...] = ()
    stated_distilled: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()

    def job_of(self, row: Row) -> Job:
        """The whole job of a row, its fields in the order of the spec."""
        merged = merge(self.job, row.job)
        if row.method == "alone":
            merged = {name: value for name, value in merged.items() if name not in ("teacher", "distill")}
            merged["student"] = {name: value for name, value in merged["student"].items() if name != "inherit"}
        if row.expected is not None:
            merged["reference"] = {
                TASKS[self.task].metric: row.expected, "source": row.source, "status": "not_reproduced",
            }  # fmt: skip
        job = {"version": 1, "task": self.task, "exports": ["safetensors", "onnx"], "seed": 0} | merged
        # A field that no job has stays in, so that parsing refuses it by name.
        return {name: job[name] for name in (*FIELDS, *(name for name in job if name not in FIELDS)) if name in job}

    def recipe(self, row: Row) -> Recipe:
        """What is known of a row."""
        job = self.job_of(row)
        files = {name: (_at(job, name), what) for name, what in self.files.items()}
        return Recipe(
            name=row.name,
            group=self.title,
            dataset=self.dataset,
            task=self.task,
            teacher=None if row.method == "alone" else self.teacher,
            student=self.student,
            method=row.method,
            expected=None if row.expected is None else Expected(metric=TASKS[self.task].metric, value=row.expected),
            source=row.source,
            files=tuple(
                RecipeFile(field=name, value=value, what=what) for name, (value, what) in files.items() if value
            ),
            stated=self.stated if row.method == "alone" else (*self.stated, *self.stated_distilled),
            chosen=self.chosen,
            deviations=(*self.deviations, *row.deviations, *(NOT_THE_LETTER if row.method == "acam" else ())),
        )


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Job:
    """`changes` over `base`, mappings within mappings; lists and plain values are replaced, None takes a field away."""
    merged = dict(base)
    for name, value in changes.items():
        old = merged.get(name)
        merged[name] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return {name: value for name, value in merged.items() if value is not None}


def _at(job: Job, path: str) -> str | None:
    node: Any = job
    for key in path.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return None if node is None else str(node)
