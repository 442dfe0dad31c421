"""Placebos: a distillation term that sees a teacher who cannot know anything of use. A gain that stays is not the teacher's.

`other_image`: the teacher's maps and predictions belong to another image of the batch. `random_head`: they come from the same
backbone and neck with a head that was never trained. All else, the random draws too, is as without the placebo.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from acamkd_core.methods.base import Method, StepContext
from acamkd_core.models.base import ModelOutput, TaskModel


def context_of(method: Method, context: StepContext) -> StepContext:
    """What this method sees of the step."""
    placebo = method.options.placebo
    if placebo == "other_image":
        return dataclasses.replace(context, teacher=of_other_images(context.teacher, context.step))
    if placebo == "random_head" and context.random_head is not None:
        output, head = context.random_head
        return dataclasses.replace(context, teacher=output, teacher_head=head)
    return context


def without_training(teacher: TaskModel | None, images: Tensor) -> tuple[ModelOutput, nn.Module] | None:
    """Output and head of the teacher with an untrained head, where there is one."""
    if teacher is None:
        return None
    with torch.no_grad():
        return teacher(images), teacher.head


def of_other_images(output: ModelOutput, step: int) -> ModelOutput:
    """The output with every image's part exchanged for that of another one of the batch, at another distance each step.

    A batch of one keeps its own (a job with such batches is refused; the run page's pictures are made of one image).
    """
    count = len(next(iter(output.features.values())))
    if count < 2:
        return output
    moved: ModelOutput = _rolled(output, 1 + step % (count - 1))
    return moved


def _rolled(value: Any, shift: int) -> Any:
    if isinstance(value, Tensor):
        return value.roll(shift, dims=0)
    if isinstance(value, dict):
        return {name: _rolled(one, shift) for name, one in value.items()}
    if isinstance(value, list):
        return [_rolled(one, shift) for one in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _rolled(getattr(value, field.name), shift) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value


def keep_head(fresh: TaskModel, teacher: TaskModel) -> None:
    """Gives a freshly drawn network all of the teacher's weights but those of the head."""
    head = teacher.head_tensors()
    kept = {name: value for name, value in teacher.state_dict().items() if not name.startswith(head)}
    fresh.load_state_dict({**fresh.state_dict(), **kept})
