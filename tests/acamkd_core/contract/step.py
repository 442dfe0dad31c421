"""One training step of a method on a tiny pair of networks, with everything that the contract promises checked."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import TypeAdapter

from acamkd_core.methods.base import LevelPair, Method, StepContext
from acamkd_core.methods.registry import build_method
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.fit import misfit_of, other_head
from acamkd_core.spec.methods import MethodTerm
from tests.acamkd_core.contract.tiny import CLASSES, Tiny

TERM: TypeAdapter[MethodTerm] = TypeAdapter(MethodTerm)
# What a method cannot do without, as a user would have to give it.
NEEDED: dict[str, dict[str, Any]] = {"feature_mse_matched": {"ratio": ((0, 1.0),)}}


def term_of(name: str, levels: tuple[str, ...]) -> MethodTerm:
    """The method's options at these levels, all others as they are by default."""
    return TERM.validate_python({"method": name, "at": levels, **NEEDED.get(name, {})})


def refusal(name: str, made: Tiny, levels: tuple[str, ...]) -> CoreError | None:
    """Does a whole step; the error that a user would get when the method does not fit there."""
    try:
        step(name, made, levels)
    except CoreError as error:
        return error
    return None


def step(name: str, made: Tiny, levels: tuple[str, ...]) -> None:
    """Builds the method as the engine does, prepares it, and does one step.

    Raises:
        CoreError: the method does not fit; nothing else may be raised.
    """
    term = term_of(name, levels)
    if (misfit := misfit_of(term, made.task_name) or other_head(term, *made.archs)) is not None:
        raise CoreError(misfit.code, misfit.message, hint=misfit.hint, field=misfit.field)
    torch.manual_seed(0)
    pairs = [LevelPair(level, level, made.student.levels[level], made.teacher.levels[level]) for level in levels]
    method = build_method(term, pairs, num_classes=CLASSES).train()
    _names_and_state(method, name)
    with torch.no_grad():
        out = made.teacher(made.images)
    if method.pre_stage is not None:
        _pre_stage(method, made, out)
    made.student.zero_grad(set_to_none=True)
    context = StepContext(
        teacher=out, student=made.student(made.images), teacher_head=made.teacher.head, student_head=made.student.head,
        targets=made.targets, step=0, num_steps=10, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    terms = method(context)
    assert terms
    for key, value in terms.items():
        assert key.split("/")[0] == name
        assert value.shape == ()
        assert math.isfinite(float(value.detach())), key
    torch.stack(list(terms.values())).sum().backward()
    heard = [p for p in made.student.parameters() if p.grad is not None and float(p.grad.abs().sum()) > 0]
    assert heard, "the student hears nothing"
    assert all(p.grad is None for p in made.teacher.parameters())
    assert not any(value.requires_grad for value in out.features.values())
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad), "a parameter that nothing teaches"
    assert all(bool(torch.isfinite(p.grad).all()) for p in [*heard, *method.parameters()] if p.grad is not None)
    found = method.diagnose(context)
    assert all(math.isfinite(value) for value in found.scalars.values())
    for level, masks in method.masks(context).items():
        assert level in levels
        if masks.spatial is not None:
            assert masks.spatial.shape[-2:] == out.features[level].shape[-2:]
            assert 0 <= float(masks.spatial.min()) <= float(masks.spatial.max()) <= 1


def _names_and_state(method: Method, name: str) -> None:
    assert method.name == name
    assert set(dict(method.named_parameters())) <= set(method.state_dict()), "a parameter that no checkpoint holds"


def _pre_stage(method: Method, made: Tiny, out: Any) -> None:
    """A step of the stage as the trainer does it: the task's loss reaches every parameter of the stage, and no other."""
    assert method.pre_stage is not None
    own = method.pre_stage.parameters
    assert own
    assert not any(p.requires_grad for p in own)
    for parameter in own:
        parameter.requires_grad_(True)
    prepared = method.prepare(out)
    for entered in made.teacher.onward(prepared.replaced):
        terms = made.task.loss(made.teacher, entered, made.targets)
        torch.stack(list(terms.values())).sum().backward(retain_graph=True)
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in own)
    assert all(math.isfinite(float(value.detach())) for value in prepared.terms.values())
    assert all(p.grad is None for p in made.teacher.parameters())
    for parameter in own:
        parameter.requires_grad_(False)
        parameter.grad = None
