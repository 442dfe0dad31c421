"""What can be refused from a spec alone: tasks without boxes, features as class scores, levels that lie too far apart."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from acamkd_core.spec.fit import far_levels, misfit_of, no_way_on
from acamkd_core.spec.job import JobSpec, parse_job
from acamkd_core.spec.methods import MethodTerm

TERM: TypeAdapter[MethodTerm] = TypeAdapter(MethodTerm)
STUDENT = {"c2": 4, "c3": 8, "c4": 16, "c5": 32, "logits": 32}
TEACHER = {"c2": 4, "c3": 8, "c4": 8, "c5": 8, "logits": 8}


def term(method: str, **options: Any) -> MethodTerm:
    return TERM.validate_python({"method": method, **options})


@pytest.mark.parametrize(("method", "task", "code"), [
    ("fgd", "semantic_segmentation", "method.needs_boxes"),
    ("fgd", "detection", None),
    ("maskd", "semantic_segmentation", None),
    ("logit", "semantic_segmentation", None),
    ("logit", "detection", None),
    *((method, "classification", None) for method in ("logit", "feature_mse", "pkd")),
    *((method, "classification", "method.needs_positions") for method in ("acam", "cwd", "mgd", "maskd")),
    ("fgd", "classification", "method.needs_boxes"),
])  # fmt: skip
def test_methods_and_tasks(method: str, task: str, code: str | None) -> None:
    found = misfit_of(term(method), task)
    assert (found.code if found else None) == code


def test_logit_compares_logits() -> None:
    found = misfit_of(term("logit", at=["logits", "c5"]), "semantic_segmentation")
    assert found is not None
    assert (found.field, found.value) == ("at", "logits, c5")


def test_strides_may_differ_by_four() -> None:
    assert far_levels(term("acam", at=["c2", "c5", "logits"]), STUDENT, TEACHER) is None
    far = far_levels(term("acam", at=["c3", "c5"], teacher_at=["c3", "c2"]), STUDENT, TEACHER)
    assert far is not None
    assert (far.code, far.field, far.value) == ("distill.far_levels", "teacher_at", "c2")
    assert far.hint == "nearest teacher levels: c3, c4, c5, logits"
    alone = far_levels(term("acam", at="c5"), {"c5": 32}, {"c5": 4})
    assert alone is not None
    assert (alone.field, alone.hint) == ("at", "nearest teacher levels: none within that factor")


def test_positions_are_needed_on_either_side() -> None:
    assert misfit_of(term("acam", at="c5"), "classification") is None
    found = misfit_of(term("cwd", at="c5", teacher_at="logits"), "classification")
    assert found is not None
    assert (found.field, found.value) == ("teacher_at", "logits")


def test_a_single_position_is_near_to_nothing_but_another() -> None:
    whole = {"c5": 32, "logits": 0}
    assert far_levels(term("pkd", at="logits"), whole, whole) is None
    for own, other in (("c5", "logits"), ("logits", "c5")):
        far = far_levels(term("pkd", at=own, teacher_at=other), whole, whole)
        assert far is not None
        assert "one position for the whole image" in far.message
        assert far.hint == f"nearest teacher levels: {own}"


@pytest.mark.parametrize(
    ("student", "method", "levels"),
    [
        ("resnet18", "acam", ("c5",)),
        ("resnet18", "mgd", ("c5",)),
        ("resnet18", "logit", ("logits",)),
        ("resnet18", "pkd", ("logits",)),
        ("deeplabv3-resnet18", "acam", ("logits",)),
        ("retinanet-r50-fpn", "pkd", ("p3", "p4", "p5", "p6", "p7")),
        ("faster_rcnn-resnet50", "pkd", ("p2", "p3", "p4", "p5", "p6")),
        # Regions are pooled from p2 to p5: these train masks through the rest of the teacher.
        ("faster_rcnn-resnet50", "maskd", ("p2", "p3", "p4", "p5")),
        ("faster_rcnn-resnet50", "freekd", ("p2", "p3", "p4", "p5")),
        ("retinanet-r50-fpn", "maskd", ("p3", "p4", "p5", "p6", "p7")),
    ],
)
def test_where_a_term_looks_that_does_not_say_it(student: str, method: str, levels: tuple[str, ...]) -> None:
    spec = parse_job({"dataset": "data", "student": student, "teacher": "t.safetensors", "distill": method})
    assert isinstance(spec, JobSpec)
    assert spec.student.arch is not None
    assert spec.distill[0].at == levels
    assert no_way_on(spec.distill[0], spec.student.arch.family) is None
    assert "at" not in spec.distill[0].model_fields_set


def test_unknown_levels_are_another_checks_matter() -> None:
    assert far_levels(term("acam", at=["nope", "c2"], teacher_at=["c2"]), STUDENT, TEACHER) is None
