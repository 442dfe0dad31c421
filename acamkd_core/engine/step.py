"""One optimizer step's gradients: teacher, student, supervised and distillation terms, micro-batch by micro-batch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from acamkd_core import ranks
from acamkd_core.engine import checkpoint as ckpt
from acamkd_core.engine import pull
from acamkd_core.engine.parts import Batch, Parts
from acamkd_core.engine.precision import TYPES
from acamkd_core.engine.randomness import generator, seed_torch
from acamkd_core.engine.teacher import Teacher
from acamkd_core.engine.watch import Watch
from acamkd_core.spec.job import JobSpec


class NonFiniteLoss(Exception):
    """A loss, or the gradient of a finite one, was NaN or infinite; the last finite state is kept."""

    def __init__(self, iteration: int, terms: dict[str, float], what: str = "loss") -> None:
        super().__init__(f"non-finite {what} at iteration {iteration}")
        self.iteration = iteration
        self.terms = terms
        self.what = what


class Buffers:
    """Buffers (batch norm statistics) as they were before a step: a forward pass writes into them at once.

    A step that ends in NaN would leave NaN there, and one that runs out of memory half way would count its images twice.
    """

    def __init__(self, *modules: nn.Module) -> None:
        self._live = [buffer for module in modules for buffer in module.buffers()]
        self._kept = [buffer.clone() for buffer in self._live]

    def keep(self) -> None:
        """Remembers the present values."""
        if self._live:
            torch._foreach_copy_(self._kept, self._live)

    def restore(self) -> None:
        """Puts the remembered values back."""
        if self._live:
            torch._foreach_copy_(self._live, self._kept)


def clip_or_refuse(
    optimizer: torch.optim.Optimizer, scaler: Any, limit: float | None, step: int, terms: dict[str, float]
) -> None:
    """Clips the gradient's norm to `limit` (None: leaves it), and refuses one that is not finite.

    Under fp16 the scaler skips such steps by itself, and lowers its scale.

    Raises:
        NonFiniteLoss: one step with such a gradient would make every weight NaN, and the checkpoint after it useless.
    """
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if limit is not None:
        scaler.unscale_(optimizer)
    norm = nn.utils.get_total_norm(gradients)
    if not scaler.is_enabled() and not math.isfinite(float(norm)):
        raise NonFiniteLoss(step + 1, terms, "gradient")
    if limit is not None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)


def forward_backward(
    learner: nn.Module,
    teacher: Teacher,
    parts: Parts,
    spec: JobSpec,
    scaler: Any,
    batch: Batch,
    position: ckpt.Position,
    watch: Watch | None,
    *,
    pull_too: bool = False,
) -> tuple[dict[str, float], dict[str, float]]:
    """Gradients of one optimizer step: with several processes each on its share of the batch, the gradients averaged.

    Returns the mean of every term over micro-batches and processes, and diagnostics (of this process's images; with
    `pull_too` those of `engine.pull` are among them).

    Raises:
        NonFiniteLoss: when the sum of the terms is not finite, in all processes when it is not in one.
    """
    device, step, images = parts.device, position.iteration, batch.images
    sums: dict[str, float] = {}
    scalars: dict[str, float] = {}
    pieces = list(split(images, batch.targets, position.accumulate))
    known = getattr(batch, "indices", None)
    samples = iter(known or ())
    for number, (part_images, part_targets) in enumerate(pieces):
        numbers = list(itertools.islice(samples, len(part_images))) if known is not None else None
        # Dropout masks are a function of (seed, step, piece, rank), so a resume needs no saved generator state.
        seed_torch(spec.seed, "step", step, number, *ranks.own_seed())
        share = part_images.shape[0] / images.shape[0]
        part_images = part_images.to(device, non_blocking=True)
        if spec.train.channels_last:
            part_images = part_images.contiguous(memory_format=torch.channels_last)
        with ranks.apart(learner) if number + 1 < len(pieces) else nullcontext():
            with torch.autocast(device.type, dtype=TYPES[spec.train.precision], enabled=spec.train.precision != "fp32"):
                teacher_out = teacher(part_images, numbers)
                noise = generator(spec.seed, "method", step, number, *ranks.own_seed())
                terms, context = learner(part_images, part_targets, teacher_out, step, noise)
                total = torch.stack([value.float() for value in terms.values()]).sum()
            *values, whole = ranks.means([float(value.detach()) for value in (*terms.values(), total)])
            current = dict(zip(terms, values, strict=True))
            if not math.isfinite(whole):
                raise NonFiniteLoss(step + 1, current)
            if pull_too and number == 0:
                scalars |= pull.measure(parts.student, terms)
            scaler.scale(total * share).backward()
        for name, number_value in current.items():
            sums[name] = sums.get(name, 0.0) + number_value * share
        if watch is not None and context is not None and number == 0:
            scalars |= watch.diagnose(parts.methods, context)
    return sums, scalars


def split(images: Tensor, targets: Any, pieces: int) -> Iterator[tuple[Tensor, Any]]:
    """Micro-batches. Targets are a tensor or a sequence with one entry an image."""
    edges = [images.shape[0] * number // pieces for number in range(pieces + 1)]
    for start, end in itertools.pairwise(edges):
        yield images[start:end], targets[start:end]
