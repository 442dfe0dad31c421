"""The contract of every distillation method: outputs of both networks in, named weighted terms out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from acamkd_core.models.base import Level, ModelOutput


@dataclass(frozen=True)
class LevelPair:
    """One place where both networks are compared. `name` is the student's level."""

    name: str
    teacher_name: str
    student: Level
    teacher: Level


@dataclass
class StepContext:
    """What a method sees of one forward pass. The teacher's tensors carry no gradient.

    Nothing here may be changed in place. `targets` is the task's own (segmentation: NHW int64 ids, or None for
    unlabelled images only). `generator` is the method's own random source for the step: seeded by (seed, step).
    `random_head`: output and head of the teacher with an untrained head, where a placebo asks for it (`engine.placebo`).
    `teacher_zoom`: height and width that the teacher sees over those of the student's input.
    """

    teacher: ModelOutput
    student: ModelOutput
    teacher_head: nn.Module | None
    student_head: nn.Module | None
    targets: Any
    step: int
    num_steps: int
    generator: Any = None
    random_head: tuple[ModelOutput, nn.Module] | None = None
    teacher_zoom: tuple[float, float] = (1.0, 1.0)

    def boxes(self) -> list[Tensor] | None:
        """Ground-truth boxes of each image, K x 4 (x1 y1 x2 y2 in pixels of the input); None where the task has none."""
        if isinstance(self.targets, Sequence) and all(hasattr(target, "boxes") for target in self.targets):
            return [target.boxes for target in self.targets]
        return None

    def teacher_boxes(self) -> list[Tensor] | None:
        """`boxes` in pixels of the teacher's input, for what its head says."""
        height, width = self.teacher_zoom
        boxes = self.boxes()
        return None if boxes is None else [one * one.new_tensor([width, height, width, height]) for one in boxes]

    def random(self) -> torch.Generator:
        """The step's generator if it is on the CPU, where every device draws the same; else one seeded by the step."""
        if isinstance(self.generator, torch.Generator) and self.generator.device.type == "cpu":
            return self.generator
        return torch.Generator().manual_seed(self.step)


@dataclass
class MaskSet:
    """Masks of one step, for pictures and statistics.

    spatial: N M H W in (0, 1) or None. channel: N M C in (0, 1) or None.
    """

    spatial: Tensor | None
    channel: Tensor | None


@dataclass
class Diagnostics:
    """What a method reports beside its terms, filled by the last forward pass when `ctx.step` asks for logging.

    scalars: e.g. `kd/mse_ratio`, `mask/spatial/effective_rank`. alarms: code to sentence.
    """

    scalars: dict[str, float] = field(default_factory=dict)
    alarms: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PreStage:
    """What a method learns from the frozen teacher alone, before distillation begins.

    `parameters` are leaves with `requires_grad` off: the trainer switches it on while the stage lasts, and updates them
    by SGD with momentum 0.9, the rate falling from `lr` to 0 by the poly rule (power 0.9).
    """

    parameters: list[nn.Parameter]
    iterations: int
    lr: float
    weight_decay: float


@dataclass
class Prepared:
    """One step of a pre-stage: `replaced` holds teacher levels with other values on them, `terms` weighted losses.

    The trainer lets the teacher go on from the replaced levels and adds the task's loss of what comes out.
    """

    replaced: dict[str, Tensor]
    terms: dict[str, Tensor]


class Method(nn.Module):
    """One entry of `distill`. Built as `Method(options, pairs, num_classes=...)`; parameters train with the student.

    Subclasses set `name`, and never run a network; of its parts a head only, which the context gives. Learnable parts never reach an export; they are in checkpoints.
    A method that has to learn something from the teacher first overrides `pre_stage` and `prepare`.
    """

    name: str
    reads_raw = False
    """Whether `StepContext.teacher.raw` is read, beside the levels of the pairs."""

    def __init__(self, options: Any, pairs: list[LevelPair], *, num_classes: int) -> None:
        super().__init__()
        self.options = options
        self.pairs = pairs
        self.num_classes = num_classes

    def forward(self, ctx: StepContext) -> dict[str, Tensor]:
        """Named, already weighted scalar terms, e.g. {"acam/spatial": ..., "acam/channel": ..., "acam/diversity": ...}."""
        raise NotImplementedError

    @property
    def pre_stage(self) -> PreStage | None:
        """The stage before distillation, with the parameters as they are now; None when there is nothing to learn first."""
        return None

    def prepare(self, teacher: ModelOutput) -> Prepared:
        """One step of the pre-stage from the teacher's output, which carries no gradient."""
        raise NotImplementedError

    def diagnose(self, ctx: StepContext) -> Diagnostics:
        """Statistics at this step, without gradients. Called by the trainer every few iterations."""
        return Diagnostics()

    def masks(self, ctx: StepContext) -> dict[str, MaskSet]:
        """Masks per level for these outputs, without gradients; empty for methods without masks."""
        return {}
