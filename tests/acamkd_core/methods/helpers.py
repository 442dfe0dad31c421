"""Small pairs of maps and methods for the tests of this folder."""

import torch
from pydantic import TypeAdapter

from acamkd_core.methods.base import LevelPair, StepContext
from acamkd_core.methods.registry import build_method
from acamkd_core.models.base import Level, ModelOutput
from acamkd_core.spec.methods import MethodTerm

TERM: TypeAdapter[MethodTerm] = TypeAdapter(MethodTerm)


def pair(student: int, teacher: int, name: str = "logits", teacher_name: str | None = None) -> LevelPair:
    return LevelPair(name, teacher_name or name, Level(student, 8), Level(teacher, 8))


def context(student, teacher, step: int = 0, generator=None) -> StepContext:
    """Maps NCHW, or dicts of them by level; a bare map is level `logits`."""
    student = student if isinstance(student, dict) else {"logits": student}
    teacher = teacher if isinstance(teacher, dict) else {"logits": teacher}
    outs = [ModelOutput(maps, next(iter(maps.values()))) for maps in (teacher, student)]
    return StepContext(outs[0], outs[1], None, None, None, step, 100, generator)


def method(name: str, pairs, num_classes: int = 5, **options):
    at = tuple(item.name for item in pairs)
    return build_method(TERM.validate_python({"method": name, "at": at, **options}), pairs, num_classes=num_classes)


def randomise(module: torch.nn.Module, scale: float = 1.0) -> None:
    """Weights large enough that every part of the formula shows in the result."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn_like(parameter))
