"""The job spec: what a user submits. Strings for the common case, objects for the rest."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from acamkd_core.spec.archs import FAMILY_TASKS
from acamkd_core.spec.augment import AugmentSpec
from acamkd_core.spec.base import SpecModel, refusal, set_default
from acamkd_core.spec.datasets import DatasetSpec, VocDataset, dataset_from_shorthand
from acamkd_core.spec.early import lone_image, nothing_to_inherit, other_metric
from acamkd_core.spec.errors import ErrorInfo, SpecInvalid
from acamkd_core.spec.exports import ExportSpec
from acamkd_core.spec.fit import settle
from acamkd_core.spec.methods import MethodTerm, terms_from_shorthand
from acamkd_core.spec.models import StudentSpec, TeacherSpec, weights_from_string
from acamkd_core.spec.presets import PRESETS
from acamkd_core.spec.problems import closest, problems_of
from acamkd_core.spec.sizes import only_size, size_misfit
from acamkd_core.spec.tasks import TaskName
from acamkd_core.spec.training import BatchSpec, OptimizerSpec, ResourceSpec, ScheduleSpec, TrainSpec


class OhemSpec(SpecModel):
    """Online hard example mining (Shrivastava et al. 2016), over pixels: easy ones are left out of the loss."""

    threshold: float = Field(
        default=0.7, gt=0, le=1, description="Pixels whose true class is given less than this probability are kept."
    )
    min_kept: int = Field(
        default=100_000,
        ge=1,
        description="Pixels kept at least, times the images of a forward pass: where fewer are hard, the hardest.",
    )


class TaskLossSpec(SpecModel):
    """The supervised loss."""

    name: Literal["cross_entropy"] = Field(
        default="cross_entropy", description="Cross-entropy of pixels, or of images."
    )
    class_weights: tuple[Annotated[float, Field(ge=0)], ...] | None = Field(
        default=None, description="One factor a class, 0 or more; automatic: all 1."
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Classification: share of the target that is spread over all classes."
    )
    ohem: OhemSpec | None = Field(
        default=None,
        description="Segmentation: learn from hard pixels only, in the main head; `{}` takes the usual values.",
    )
    aux_weight: float = Field(default=0.4, ge=0, description="Factor on the auxiliary head's loss, where there is one.")
    weight: float = Field(default=1.0, ge=0, description="Factor on the whole supervised loss.")

    @field_validator("class_weights")
    @classmethod
    def _some_weight(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and not any(value):
            raise ValueError("all class weights are 0: nothing would be learnt")
        return value


class EvaluationSpec(SpecModel):
    """When and how the student is scored."""

    every: int | None = Field(
        default=None, ge=1, description="Iterations between evaluations; automatic: a tenth of the run."
    )
    batch_size: int = Field(default=8, ge=1, description="Images per forward pass.")
    panels: int = Field(
        default=4, ge=0, le=16, description="Validation images shown as panels, the same at every evaluation."
    )
    early_stop: int | None = Field(
        default=None, ge=1, description="Evaluations without a better score before stopping."
    )
    scales: tuple[Annotated[float, Field(ge=0.1, le=4)], ...] = Field(
        default=(1.0,),
        min_length=1,
        max_length=16,
        description="Segmentation: sizes of the images, as factors, whose class probabilities are averaged for a second score "
        "at the end, on test (on val without one), beside the usual one of a single pass. Papers take 0.5 to 1.75.",
    )
    flip: bool = Field(default=False, description="That second score also averages over mirrored images.")

    @property
    def averages(self) -> bool:
        """Whether there is a second score at the end."""
        return self.flip or self.scales != (1.0,)


class CheckpointSpec(SpecModel):
    """What is kept. Best and last are always complete: a new one is whole before an old one goes."""

    select: Literal["best", "last"] = Field(
        default="best", description="Which checkpoint is exported and scored on test."
    )
    every: int | None = Field(
        default=None, ge=1, description="Iterations between checkpoints; automatic: at every evaluation."
    )


class Reference(SpecModel):
    """A published number that this job should be held against."""

    miou: float | None = Field(default=None, ge=0, le=100, description="Published mIoU in points.")
    map: float | None = Field(default=None, ge=0, le=100, description="Published COCO mAP in points.")
    top1: float | None = Field(default=None, ge=0, le=100, description="Published top-1 accuracy in points.")
    source: str = Field(description="Where it is printed.")
    status: Literal["not_reproduced", "reproduced"] = Field(
        default="not_reproduced", description="Whether we have seen it."
    )


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")]


class JobSpec(SpecModel):
    """Distil `teacher` into `student` on `dataset`. Without a teacher the student is trained alone (a teacher-to-be)."""

    version: Literal[1] = Field(default=1, description="Version of this format.")
    kind: Literal["distill"] = Field(default="distill", description="Kind of job.")
    name: Name | None = Field(default=None, description="Lower-case name, unique in the project; automatic: two words.")
    tags: tuple[str, ...] = Field(default=(), description="Free labels, for filters.")
    notes: str = Field(default="", max_length=10_000, description="Free text.")
    task: TaskName = Field(
        default="semantic_segmentation", description="Task; follows from the student's family, else from the dataset."
    )
    dataset: DatasetSpec = Field(description="Images and labels: a folder, `scenes`, `dataset:name`, or an object.")
    augment: AugmentSpec = Field(default_factory=AugmentSpec, description="Random changes of training samples.")
    teacher: TeacherSpec | None = Field(
        default=None, description="Frozen network: `job:name`, `model:name@alias`, a file, or an object."
    )
    student: StudentSpec = Field(description="Network that learns: a preset's name, or an object.")
    distill: tuple[MethodTerm, ...] = Field(default=(), description="Distillation terms, added up.")
    task_loss: TaskLossSpec = Field(default_factory=TaskLossSpec, description="Supervised loss.")
    optimizer: OptimizerSpec = Field(
        default_factory=OptimizerSpec, description="What takes the steps: SGD or AdamW, rate, decay."
    )
    schedule: ScheduleSpec = Field(default_factory=ScheduleSpec, description="Length and learning-rate decay.")
    batch: BatchSpec = Field(default_factory=BatchSpec, description="Images per step.")
    train: TrainSpec = Field(default_factory=TrainSpec, description="Precision, clipping, memory and speed.")
    evaluation: EvaluationSpec = Field(
        default_factory=EvaluationSpec, description="When and how the student is scored."
    )
    checkpoint: CheckpointSpec = Field(default_factory=CheckpointSpec, description="Which states are kept.")
    exports: tuple[ExportSpec, ...] = Field(
        default=({"format": "safetensors"}, {"format": "onnx"}),
        validate_default=True,
        description="Formats to export to.",
    )
    resources: ResourceSpec = Field(default_factory=ResourceSpec, description="Devices and limits.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of weights, order and augmentation.")
    reference: Reference | None = Field(default=None, description="Published result to compare with.")

    @field_validator("dataset", mode="before")
    @classmethod
    def _dataset(cls, value: object) -> object:
        return dataset_from_shorthand(value)

    @field_validator("teacher", mode="before")
    @classmethod
    def _teacher(cls, value: object) -> object:
        return {"weights": weights_from_string(value)} if isinstance(value, str) else value

    @field_validator("student", mode="before")
    @classmethod
    def _student(cls, value: object) -> object:
        if isinstance(value, str):
            return (
                {"arch": value}
                if value in PRESETS or ("/" not in value and ":" not in value)
                else {"weights": weights_from_string(value)}
            )
        return value

    @field_validator("distill", mode="before")
    @classmethod
    def _distill(cls, value: object) -> object:
        return terms_from_shorthand(value)

    @field_validator("exports", mode="before")
    @classmethod
    def _exports(cls, value: object) -> object:
        if isinstance(value, (list, tuple)):
            return [{"format": item} if isinstance(item, str) else item for item in value]
        return value

    @field_validator("exports")
    @classmethod
    def _each_once(cls, value: tuple[ExportSpec, ...]) -> tuple[ExportSpec, ...]:
        names = [item.format for item in value]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"{twice} is asked for twice: each format is one file of the download")
        return value

    @model_validator(mode="after")
    def _teacher_and_terms(self) -> JobSpec:
        if self.distill and self.teacher is None:
            raise refusal(
                "distill needs a teacher",
                field="teacher",
                hint="name one, or leave `distill` out to train the student alone",
            )
        if self.teacher is not None and self.teacher.weights is None:
            raise refusal("the teacher needs weights: an untrained teacher teaches noise", field="teacher.weights")
        if self.student.inherit and self.teacher is None:
            raise refusal("there is no teacher to inherit from", field="student.inherit")
        if self.student.inherit and self.teacher is not None and (self.teacher.is_onnx or self.teacher.is_program):
            raise refusal(
                "a teacher that is run as a whole (.onnx, .pt2) has no parts to inherit",
                field="student.inherit",
                hint="leave it out, or take the teacher's weights as .safetensors",
            )
        images = self.batch.global_size // (self.batch.accumulate * self.resources.world)
        for number, term in enumerate(self.distill):
            if term.placebo == "other_image" and images < 2:
                raise refusal(
                    "a forward pass of one image has no other image",
                    field=f"distill.{number}.placebo",
                    hint="at least 2 images a process (batch.global_size / batch.accumulate / processes)",
                )
        return self

    @model_validator(mode="after")
    def _fair_shares(self) -> JobSpec:
        """Every process gets the same number of images in every pass: means over processes are then means over images."""
        world, batch = self.resources.world, self.batch
        if batch.global_size % (world * batch.accumulate):
            passes = f" in {batch.accumulate} passes each" if batch.accumulate > 1 else ""
            fits = [str(n) for n in range(1, batch.global_size + 1) if batch.global_size % (n * batch.accumulate) == 0]
            raise refusal(
                f"{batch.global_size} images cannot be shared equally by {world} processes{passes}",
                hint=f"this batch fits {', '.join(fits[:12])} processes, or make it a multiple of {world * batch.accumulate}",
                field="batch.global_size",
            )
        if self.train.sync_bn and world > 1 and self.resources.gpus == 0:
            raise refusal(
                "sync_bn needs a GPU for each process: PyTorch has no synchronised batch norm on CPUs",
                hint="set resources.gpus, or keep the statistics: student.freeze.norm: eval",
                field="train.sync_bn",
            )
        return self

    @model_validator(mode="after")
    def _one_task(self) -> JobSpec:
        """Task, networks and labels agree; a task that was not given follows from them."""
        networks = {"student": self.student, "teacher": self.teacher}
        found = {
            f"{role} ({model.arch.family})": FAMILY_TASKS[model.arch.family]
            for role, model in networks.items()
            if model is not None and model.arch is not None
        }
        if (labels := labels_of(self.dataset)) is not None:
            found[f"dataset ({self.dataset.format})"] = labels
        if found and "task" not in self.model_fields_set:
            set_default(self, "task", next(iter(found.values())))
        for who, task in found.items():
            if task != self.task:
                raise refusal(
                    f"the job's task is {self.task}, but the {who} is for {task}",
                    field="task" if "task" in self.model_fields_set else who.partition(" ")[0],
                    hint="all networks and the labels have to be for one task",
                )
        if self.train.cache_teacher is not None and (off := self.augment.randomness(self.task)):
            raise refusal(
                f"the teacher's outputs cannot be kept: augmentation changes samples; it would need {', '.join(off)}",
                field="train.cache_teacher",
                hint="set augment so, or leave train.cache_teacher out",
            )
        predictions = ("crosskd", "logit") if self.task == "detection" else ()
        if self.train.cache_teacher is not None and any(term.method in predictions for term in self.distill):
            raise refusal(
                "crosskd and a detector's logit read the teacher's predictions, and the cache keeps its levels only",
                field="train.cache_teacher",
                hint="leave train.cache_teacher out",
            )
        settle(self.distill, self.task, self.student.arch, self.teacher.arch if self.teacher is not None else None)
        return self

    @property
    def teacher_size(self) -> tuple[int, int] | None:
        """`teacher.size`; None where the teacher sees what the student sees, or where there is none."""
        return self.teacher.size if self.teacher is not None else None

    @model_validator(mode="after")
    def _size_of_the_teacher(self) -> JobSpec:
        """What a teacher that sees another size than the student cannot do."""
        if self.teacher_size is None:
            return self
        if self.augment.resize is not None:
            raise refusal(
                "teacher.size needs samples of one size, and with augment.resize every image keeps its own shape",
                field="teacher.size",
                hint="set augment.size instead of augment.resize, or leave teacher.size out",
            )
        for number, term in enumerate(self.distill):
            if term.method == "logit" and self.task == "detection":
                raise refusal(
                    "a detector's logit compares candidate by candidate, and at another size the teacher has other candidates",
                    field=f"distill.{number}.method",
                    hint="crosskd, fgd, pkd, cwd and acam compare maps of different sizes; or leave teacher.size out",
                )
        return self

    @model_validator(mode="after")
    def _size_of_the_networks(self) -> JobSpec:
        """A network that takes one image size only decides on it."""
        networks = {"student": self.student.arch, "teacher": self.teacher.arch if self.teacher is not None else None}
        if (misfit := size_misfit(networks, self.augment, self.teacher_size)) is not None:
            raise refusal(misfit.message, hint=misfit.hint, field=misfit.field)
        if self.augment.size is None and (size := only_size(networks, self.teacher_size)) is not None:
            set_default(self.augment, "size", size)
        return self

    @model_validator(mode="after")
    def _options_of_the_task(self) -> JobSpec:
        """Options that another task has would do nothing here."""
        words = self.task.replace("_", " ")
        if (name := self.augment.foreign(self.task)) is not None:
            ours = (
                "size, area, ratio, flip, colour and short_side"
                if self.task == "classification"
                else f"size, {'resize, ' if self.task == 'detection' else ''}scale, crop, flip and colour"
            )
            raise refusal(f"augment.{name} does nothing in {words}", field=f"augment.{name}", hint=f"it has {ours}")
        if self.task == "detection" and self.task_loss.class_weights is not None:
            raise refusal(
                "detection losses have no class weights", field="task_loss.class_weights", hint="leave it out"
            )
        if self.task_loss.label_smoothing and self.task != "classification":
            raise refusal(f"{words} has no label smoothing", field="task_loss.label_smoothing", hint="leave it out")
        if self.task != "semantic_segmentation":
            if self.task_loss.ohem is not None:
                raise refusal(f"{words} has no pixels to choose from", field="task_loss.ohem", hint="leave it out")
            if self.evaluation.averages:
                name = "flip" if self.evaluation.flip else "scales"
                raise refusal(f"{words} is scored in one pass", field=f"evaluation.{name}", hint="leave it out")
        return self

    @model_validator(mode="after")
    def _seen_early(self) -> JobSpec:
        """What would otherwise end the run at its first step, or after the teacher has been scored."""
        teacher = self.teacher
        # Where only files know it, the task is a guess: then the server or the run compares.
        known = "task" in self.model_fields_set or self.student.arch is not None or labels_of(self.dataset) is not None
        images = self.batch.global_size // (self.batch.accumulate * self.resources.world)
        misfits = (
            other_metric(teacher.expect, self.task) if known and teacher is not None and teacher.expect else None,
            lone_image(self.student, images) if not self.train.sync_bn else None,
            nothing_to_inherit(self.student.inherit, self.student.arch, teacher.arch if teacher is not None else None),
        )
        if (misfit := next((one for one in misfits if one is not None), None)) is not None:
            raise refusal(misfit.message, hint=misfit.hint, field=misfit.field)
        return self


# What the labels of a format are for; other formats (auto, registered, scenes, voc) can be either.
_LABELS: dict[str, TaskName] = {
    "mask_folder": "semantic_segmentation",
    "cityscapes": "semantic_segmentation",
    "coco": "detection",
    "yolo": "detection",
    "image_folder": "classification",
}


def labels_of(dataset: DatasetSpec) -> TaskName | None:
    """The task that a dataset's labels are for, where its spec says so."""
    if isinstance(dataset, VocDataset) and dataset.labels is not None:
        return "detection" if dataset.labels == "boxes" else "semantic_segmentation"
    return _LABELS.get(dataset.format)


class InspectSpec(SpecModel):
    """Look at a dataset before anything trains on it: counts, mistakes, a contact sheet."""

    version: Literal[1] = Field(default=1, description="Version of this format.")
    kind: Literal["inspect"] = Field(description="Kind of job.")
    name: Name | None = Field(default=None, description="Lower-case name; automatic: two words.")
    dataset: DatasetSpec = Field(description="The dataset to inspect.")
    task: TaskName | None = Field(
        default=None, description="Which labels to look at where a folder has masks and boxes; automatic: masks first."
    )
    preview_images: int = Field(default=12, ge=0, le=64, description="Images on the contact sheet.")
    again: bool = Field(
        default=False,
        description="Decode every file, even where the report of an inspection of these very files is kept.",
    )

    @field_validator("dataset", mode="before")
    @classmethod
    def _dataset(cls, value: object) -> object:
        return dataset_from_shorthand(value)


AnyJobSpec = Annotated[JobSpec | InspectSpec, Field(discriminator="kind")]
_KINDS: dict[str, type[JobSpec] | type[InspectSpec]] = {"distill": JobSpec, "inspect": InspectSpec}


def parse_job(data: dict[str, Any]) -> JobSpec | InspectSpec:
    """A submitted object as a spec.

    Raises:
        SpecInvalid: with one `ErrorInfo` a mistake (field path, message, offending value).
    """
    if not isinstance(data, dict):
        raise SpecInvalid(
            [ErrorInfo(code="spec.not_an_object", message="a job is a mapping of fields", value=str(data)[:200])]
        )
    kind = data.get("kind", "distill")
    if not isinstance(kind, str) or kind not in _KINDS:
        value = kind if isinstance(kind, str) else None
        raise SpecInvalid(
            [
                ErrorInfo(
                    code="spec.invalid", message=f"unknown kind {kind!r}", hint=closest(kind, _KINDS), field="kind", value=value,
                )
            ]
        )  # fmt: skip
    try:
        return _KINDS[kind].model_validate(data)
    except ValidationError as error:
        raise SpecInvalid(problems_of(error, _KINDS[kind])) from None
