"""What a spec makes of a program (`.pt2`): what its outputs mean, as far as nobody has run it. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from acamkd_core.graph_plan import LOGITS, RANKS, GraphPlan, with_scores
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.graph_specs import Pt2Spec
from acamkd_core.spec.labels import program_label
from acamkd_core.spec.models import TeacherSpec


@dataclass(frozen=True, kw_only=True)
class ProgramPlan(GraphPlan):
    """A program with the meaning of its outputs. Nothing in the file is asked: it is a program, and only a run runs it.

    path: where it lies, links followed. sha256: the digest that it has to have; None: not known yet.
    """

    kind: ClassVar[Literal["pt2"]] = "pt2"
    path: Path
    sha256: str | None = None

    @property
    def label(self) -> str:
        return program_label(self.name)

    def resolved(self) -> dict[str, Any]:
        return Pt2Spec(features=self.features, raw=self.raw, sha256=self.sha256).model_dump()


def plan_program(path: Path, spec: TeacherSpec, *, task: str) -> ProgramPlan:
    """Which output is what, by the spec alone.

    Raises:
        CoreError: `pt2.which_raw`, `pt2.no_scores`, `pt2.no_features`; with the field.
    """
    told = spec.pt2 or Pt2Spec()
    facts: dict[str, Any] = {"name": path.name, "path": path, "sha256": told.sha256}
    if task == "detection":
        if told.raw is not None:
            raise CoreError(
                "pt2.no_scores", "a detector in a program teaches by its features: it has no map of class scores",
                hint="leave teacher.pt2.raw out and name feature maps in teacher.pt2.features",
                field="teacher.pt2.raw", value=told.raw,
            )  # fmt: skip
        if not told.features:
            raise CoreError(
                "pt2.no_features", f"no output of {path.name} is named, so nothing of it can be compared",
                hint="teacher.pt2.features: {0: p3, 1: p4, ...}, by position or by key", field="teacher.pt2.features",
            )  # fmt: skip
        return ProgramPlan(features=dict(told.features), **facts)
    raw = told.raw or next((output for output, level in told.features.items() if level == LOGITS), None)
    if raw is None:
        raise CoreError(
            "pt2.which_raw", f"which output of {path.name} holds the class scores?",
            hint="teacher.pt2.raw: 0 is the first (or only) output; a dict's are named by key", field="teacher.pt2.raw",
        )  # fmt: skip
    return ProgramPlan(
        features=with_scores(told.features, raw, ProgramPlan.kind), raw=raw, flat=RANKS[task] == 2, **facts
    )
