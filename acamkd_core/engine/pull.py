"""How hard distillation pulls on the student beside the labels, by gradients: losses of different kinds have no common scale."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from acamkd_core import ranks
from acamkd_core.engine.parts import trainable
from acamkd_core.spec.training import TrainSpec


def is_supervised(term: str) -> bool:
    """Whether a term comes from the labels."""
    return term.partition("/")[0] in ("task", "aux")


def is_due(step: int, every: int) -> bool:
    """At most 15 times a run, where methods are diagnosed `every` steps, 60 times: a measurement costs two more backward
    passes. Close together at the start, when a weight that is far too large can still be noticed in time."""
    number, rest = divmod(step, every)
    return rest == 0 and (number < 4 or number % 5 == 0)


def is_possible(options: TrainSpec, *, compiled: bool) -> bool:
    """Passes that are compiled, computed again or shared among processes cannot be gone back through twice."""
    return not (compiled or options.grad_checkpoint or ranks.world() > 1)


def measure(student: nn.Module, terms: Mapping[str, Tensor]) -> dict[str, float]:
    """`kd/pull`: |g_KD| / |g_labels|, norms of the gradients on all of the student's weights; `kd/agreement`: their cosine.

    Empty where there are no labels, no teacher, or a gradient of exactly zero. Gradients of the step to come are left alone.
    """
    parts = [
        torch.stack([value.float() for name, value in terms.items() if is_supervised(name) == labels]).sum()
        if any(is_supervised(name) == labels for name in terms) else None
        for labels in (False, True)
    ]  # fmt: skip
    if any(part is None or not part.requires_grad for part in parts):
        return {}
    weights = trainable(student)
    taught, labelled = (
        torch.autograd.grad(part, weights, retain_graph=True, allow_unused=True) for part in parts if part is not None
    )
    zero = torch.zeros((), device=weights[0].device, dtype=torch.float64)
    squares, dot = [zero.clone(), zero.clone()], zero.clone()
    for a, b in zip(taught, labelled, strict=True):
        for number, gradient in enumerate((a, b)):
            if gradient is not None:
                squares[number] += gradient.double().square().sum()
        if a is not None and b is not None:
            dot += (a.double() * b.double()).sum()
    kd, own = (float(square.sqrt()) for square in squares)
    if not (kd > 0 and own > 0):
        return {}
    return {"kd/pull": kd / own, "kd/agreement": float(dot) / (kd * own)}
