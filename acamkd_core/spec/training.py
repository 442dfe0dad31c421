"""How a job trains: optimizer, length, batch, numerics, and what it needs of a machine."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import Field, model_validator

from acamkd_core.spec.base import SpecModel, refusal


class OptimizerSpec(SpecModel):
    """The optimizer. Nothing is scaled silently: the learning rate is the one written here."""

    name: Literal["sgd", "adamw"] = Field(default="sgd", description="Optimizer.")
    lr: float = Field(default=0.02, gt=0, description="Peak learning rate.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum (sgd) or beta 1 (adamw).")
    weight_decay: float = Field(default=5e-4, ge=0, description="Weight decay.")
    method_lr_factor: float = Field(
        default=1.0, gt=0, description="Learning-rate factor for a method's own parameters."
    )


class ScheduleSpec(SpecModel):
    """How long, and how the learning rate moves. One of `iterations` and `epochs`; neither: 30 epochs."""

    iterations: int | None = Field(default=None, ge=1, description="Number of optimizer steps.")
    epochs: int | None = Field(default=None, ge=1, description="Number of passes over the training split.")
    policy: Literal["poly", "cosine", "multistep", "constant"] = Field(default="poly", description="Decay.")
    power: float = Field(default=0.9, gt=0, description="Exponent of the poly decay.")
    milestones: tuple[int, ...] = Field(default=(), description="Steps of multistep, in the unit given above.")
    gamma: float = Field(default=0.1, gt=0, le=1, description="Factor at each milestone.")
    warmup_iterations: int = Field(default=0, ge=0, description="Linear warm-up from a tenth of the rate.")

    @model_validator(mode="after")
    def _one_length(self) -> ScheduleSpec:
        if self.iterations is not None and self.epochs is not None:
            raise ValueError("give iterations or epochs, not both")
        if self.policy == "multistep" and not self.milestones:
            raise refusal("multistep needs milestones", field="milestones", hint="e.g. [16, 22] of 24 epochs")
        if any(b <= a for a, b in itertools.pairwise((0, *self.milestones))):
            raise refusal("milestones must rise, from 1 on", field="milestones")
        if self.iterations is not None and self.warmup_iterations >= self.iterations:
            raise refusal(
                f"a warm-up of {self.warmup_iterations} iterations leaves nothing of {self.iterations}",
                field="warmup_iterations",
            )
        return self


class BatchSpec(SpecModel):
    """The global batch: images per optimizer step over all devices and accumulation steps."""

    global_size: int = Field(default=8, ge=1, description="Images per optimizer step.")
    accumulate: int = Field(default=1, ge=1, description="Forward passes per optimizer step; must divide the size.")
    workers: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Loader processes, over all training processes; results do not depend on it.",
    )

    @model_validator(mode="after")
    def _divides(self) -> BatchSpec:
        if self.global_size % self.accumulate:
            whole = [str(n) for n in range(1, self.global_size + 1) if self.global_size % n == 0]
            raise refusal(
                f"accumulate ({self.accumulate}) does not divide global_size ({self.global_size})",
                hint=f"{self.global_size} can be split into {', '.join(whole[:12])}",
                field="accumulate",
            )
        return self


class TrainSpec(SpecModel):
    """Numerics of the loop."""

    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32", description="Autocast type; fp16 uses loss scaling (CUDA only)."
    )
    grad_clip: float | None = Field(default=None, gt=0, description="Largest gradient norm.")
    channels_last: bool = Field(
        default=True,
        description="NHWC memory format: 1.5 to 2 times faster for MobileNetV2 on CPUs, also faster under mixed precision.",
    )
    sync_bn: bool = Field(default=False, description="Batch norm over the images of all processes (several GPUs only).")
    ema: float | None = Field(
        default=None, gt=0, lt=1, description="Decay of an exponential moving average that is evaluated instead."
    )
    teacher_precision: Literal["auto", "fp32", "bf16", "fp16"] | None = Field(
        default=None,
        description="Type of the teacher's passes in training; automatic: `precision`. `auto` takes the fastest of the device. "
        "A type below fp32 is checked on the first batch, and where levels differ by more than 2 % fp32 is taken, with an alarm.",
    )
    cache_teacher: float | None = Field(
        default=None,
        gt=0,
        le=4096,
        description="GiB of memory in which the teacher's outputs are kept by sample, over all processes. Needs samples that "
        "are the same in every epoch: `augment` without flip, colour, random scale and crop.",
    )
    grad_checkpoint: bool = Field(
        default=False,
        description="Compute the backbone's activations again in the backward pass: less memory, its forward pass a second time, "
        "the same numbers.",
    )
    compile: bool = Field(
        default=False,
        description="torch.compile for the student's passes; where there is no compiler the run goes on without, and says so.",
    )
    oom_retry: bool = Field(default=True, description="On out of memory, once: half the batch, double accumulation.")

    @model_validator(mode="after")
    def _one_way(self) -> TrainSpec:
        if self.compile and self.grad_checkpoint:
            raise refusal(
                "compile and grad_checkpoint do not go together: the compiler decides itself what is computed again",
                hint="take one of them",
                field="compile",
            )
        return self


class ResourceSpec(SpecModel):
    """What the run needs and may use."""

    gpus: int = Field(default=0, ge=0, le=64, description="GPUs; 0 takes one when the slot has one, else the CPU.")
    processes: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Processes that train one student, each on an equal share of every batch; automatic: one a GPU.",
    )
    max_hours: float | None = Field(default=None, gt=0, description="Time limit of all attempts together.")
    priority: int = Field(default=0, ge=-100, le=100, description="Higher runs first.")
    labels: tuple[Annotated[str, Field(min_length=1, max_length=40)], ...] = Field(
        default=(), description="Labels that a worker must have (`ACAMKD_LABELS`) to run it."
    )
    max_attempts: int = Field(
        default=3, ge=1, le=20, description="Involuntary ends without a newer checkpoint before giving up."
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads; automatic: the slot's share.")

    @model_validator(mode="after")
    def _one_process_a_gpu(self) -> ResourceSpec:
        if self.gpus > 0 and self.processes not in (None, self.gpus):
            raise refusal(
                f"{self.processes} processes for {self.gpus} GPUs: each process has one GPU",
                hint="leave resources.processes out",
                field="processes",
            )
        return self

    @property
    def world(self) -> int:
        """Number of training processes."""
        return self.processes or max(1, self.gpus)
