"""Less memory, or less time, for the same numbers: activations that are computed again, and a compiled student."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from acamkd_core import ranks
from acamkd_core.engine.parts import Emit
from acamkd_core.engine.randomness import seed_torch
from acamkd_core.engine.step import Buffers
from acamkd_core.models.base import ModelOutput, TaskModel
from acamkd_core.spec.errors import ErrorInfo
from acamkd_core.spec.events import AlarmEvent, LogEvent


@contextmanager
def recomputed(student: nn.Module, wanted: bool) -> Iterator[int]:
    """While it lasts, every block of the backbone forgets its activations and computes them again in the backward pass.

    Yields the number of blocks. Gradients, batch norm statistics and dropout are what they are without.
    """
    if not wanted or not isinstance(student, TaskModel):
        yield 0
        return
    blocks = [block for stage in student.backbone.recomputable() for block in _blocks(stage)]
    for block in blocks:
        block.forward = _forgetful(block)
    try:
        yield len(blocks)
    finally:
        for block in blocks:
            del block.forward  # the class's own again


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The modules below that are neither mere containers nor single layers."""
    if type(module) in (nn.Sequential, nn.ModuleList):
        for child in module.children():
            yield from _blocks(child)
    elif any(True for _ in module.children()):
        yield module


def _forgetful(block: nn.Module) -> Callable[..., Any]:
    plain = block.forward

    def forward(*inputs: Any, **named: Any) -> Any:
        if not (block.training and torch.is_grad_enabled()):
            return plain(*inputs, **named)
        return checkpoint(
            plain,
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _statistics_left_alone(block)),
            **named,
        )

    return forward


@contextmanager
def _statistics_left_alone(block: nn.Module) -> Iterator[None]:
    """The second pass over the same images must not move batch norm's running statistics a second time."""
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    kept = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    try:
        yield
    finally:
        for buffer, value in kept:
            buffer.data.copy_(value)  # by `data`: the backward pass that comes now would take it for a change


def compiled(
    student: nn.Module, images: Tensor, autocast: Callable[[], Any], emit: Emit
) -> Callable[[Tensor], ModelOutput] | None:
    """The student's forward pass by `torch.compile`, tried out forwards and backwards; None, said aloud, where it fails.

    A machine without a C++ compiler (or Triton, on GPUs) can train, and so can a network that the compiler does not take.
    """
    run = torch.compile(student.forward)
    before = Buffers(student)
    before.keep()
    problem = ""
    try:
        seed_torch(0, "compile")
        with autocast():
            out = run(images)
            wanted = [one for one in (*out.features.values(), out.aux) if isinstance(one, Tensor) and one.requires_grad]
            torch.stack([one.float().mean() for one in wanted]).sum().backward()
    except Exception as error:
        # Whatever it was, the network itself runs without: training must not end for it.
        problem = f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]
    finally:
        before.restore()
        student.zero_grad(set_to_none=True)
    if ranks.any_of(bool(problem)):
        torch._dynamo.reset()
        info = ErrorInfo(
            code="compile.unavailable",
            message=f"the student is not compiled: {problem or 'another process could not'}",
            hint="on CPUs torch.compile needs a C++ compiler (g++), on GPUs Triton; the run goes on without",
            field="train.compile",
            value=True,
        )
        emit(AlarmEvent(iteration=0, severity="warning", info=info))
        return None
    emit(LogEvent(message="the student's forward pass is compiled"))
    return run
