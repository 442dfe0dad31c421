"""Which terms make no sense for a task: known before anything is built, so that a job is refused at submit."""

from __future__ import annotations

from acamkd_core.spec.errors import ErrorInfo
from acamkd_core.spec.methods import MethodTerm

NEEDS_BOXES = frozenset({"fgd"})
HAVE_BOXES = frozenset({"detection"})


def misfit_of(term: MethodTerm, task: str) -> ErrorInfo | None:
    """Why a term cannot work on a task, with its `field` inside the term; None when it can."""
    if term.method in NEEDS_BOXES and task not in HAVE_BOXES:
        return ErrorInfo(
            code="method.needs_boxes",
            message=f"{term.method} weighs positions by the boxes of objects, and {task.replace('_', ' ')} has no boxes",
            hint="maskd and acam find positions without boxes; mgd, pkd and cwd need none",
            field="method",
            value=term.method,
        )
    if term.method == "logit" and set(term.at) != {"logits"}:
        return ErrorInfo(
            code="distill.level",
            message="logit distillation compares logits only",
            hint="cwd, pkd, mgd and feature_mse compare features",
            field="at",
            value=", ".join(term.at),
        )
    return None
