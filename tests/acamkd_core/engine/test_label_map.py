"""Whole jobs with a teacher of other classes: mapped back, it scores and teaches exactly as the original."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from acamkd_core.engine.build import build, load_data
from acamkd_core.engine.parts import Run
from acamkd_core.engine.teacher import teach
from acamkd_core.methods.base import StepContext
from acamkd_core.models.state import read_state
from acamkd_core.native_file import write_native
from acamkd_core.spec.job import JobSpec, parse_job
from acamkd_core.spec.native import NativeHeader, read_native_header
from tests.acamkd_core.engine.world import BASE, World, go, kinds, points

CLASSIFIER = ("aspp_head.classifier.weight", "aspp_head.classifier.bias")
TERMS: list[Any] = ["logit", "acam", "cwd", {"method": "pkd", "at": "c5"}]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def header_of(world: World) -> NativeHeader:
    header = read_native_header(world.teacher)
    assert header is not None
    return header


def other_teacher(world: World, path: Path, rows: list[int], names: list[str], shift: list[float]) -> dict[str, Any]:
    """The world's teacher with these rows of its classifier under these names, `shift` added to their scores."""
    state: dict[str, Tensor] = read_state(world.teacher)
    weight, bias = (state[name] for name in CLASSIFIER)
    state |= {CLASSIFIER[0]: weight[rows].clone(), CLASSIFIER[1]: bias[rows] + torch.tensor(shift)}
    write_native(
        path, state, header_of(world).model_copy(update={"num_classes": len(rows), "class_names": tuple(names)})
    )
    return world.taught() | {"weights": str(path)}


def permuted(world: World, path: Path) -> dict[str, Any]:
    names = list(header_of(world).class_names)
    rows = list(reversed(range(len(names))))
    shouted = [names[row].upper().replace("_", " ") for row in rows]
    return other_teacher(world, path, rows, shouted, [0.0] * len(rows)) | {"label_map": "by_name"}


def split(world: World, path: Path) -> dict[str, Any]:
    """Class 2 as two classes of half its probability each, and class 0 at the end."""
    names = list(header_of(world).class_names)
    rows = [1, 2, *range(2, len(names)), 0]
    theirs = [f"{names[row]} {place}" for place, row in enumerate(rows)]
    shift = [-math.log(2.0) if row == 2 else 0.0 for row in rows]
    label_map = {name: names[row] for name, row in zip(theirs, rows, strict=True)}
    return other_teacher(world, path, rows, theirs, shift) | {"label_map": label_map}


@pytest.mark.parametrize("change", [permuted, split])
def test_mapped_back_it_scores_and_teaches_as_the_original(world: World, tmp_path: Path, change: Any) -> None:
    terms = [*TERMS, {"method": "maskd", "at": "logits", "token_iterations": 2}]
    result, events = go(tmp_path / "a", world.folder, teacher=change(world, tmp_path / "t.safetensors"), distill=terms)
    assert result.status == "succeeded", result.error
    _whole, expected = go(tmp_path / "b", world.folder, teacher=world.taught(), distill=terms)
    scored = [next(e for e in kinds(run, "evaluation") if e.role == "teacher") for run in (events, expected)]
    assert scored[0].metrics == scored[1].metrics
    assert scored[0].per_class == scored[1].per_class
    mine, theirs = points(events), points(expected)
    for name in {name for step, name in theirs if step == 1 and name.startswith("loss/")}:
        assert mine[1, name] == pytest.approx(theirs[1, name], rel=1e-4), name
    assert not kinds(events, "alarm") or "teacher.classes_unmatched" not in {
        e.info.code for e in kinds(events, "alarm")
    }
    assert any("11 of 11 classes" in event.message for event in kinds(events, "log"))


def test_unknown_classes_are_no_part_of_what_is_compared(world: World, tmp_path: Path) -> None:
    """Without a counterpart for class 1: the term of a step is that of loops over the other ten; all of it is told."""
    names = list(header_of(world).class_names)
    rows = [row for row in range(len(names)) if row != 1]
    theirs = [names[row] for row in rows[:-1]] + ["something else"]
    told = other_teacher(world, tmp_path / "t.safetensors", rows, theirs, [0.0] * len(rows)) | {"label_map": "by_name"}
    known = [index for index in range(len(names)) if index not in (1, len(names) - 1)]

    spec = parse_job(BASE | {"teacher": told, "distill": ["logit"]})
    assert isinstance(spec, JobSpec)
    run = Run(folder=tmp_path, cache=world.folder)
    parts = build(load_data(spec, run), run, torch.device("cpu")).parts
    images = torch.rand(2, 3, 48, 64)
    with torch.no_grad():
        student, teacher = parts.student.eval()(images), teach(parts, images)
    context = StepContext(
        teacher=teacher, student=parts.as_compared(student), teacher_head=None, student_head=None, targets=None, step=0,
        num_steps=1,
    )  # fmt: skip
    found = float(parts.methods[0](context)["logit"])
    total, scores = 0.0, student.features["logits"]
    for n in range(2):
        for y in range(scores.shape[2]):
            for x in range(scores.shape[3]):
                s = F.log_softmax(scores[n, known, y, x].double(), dim=0)
                t = F.log_softmax(teacher.raw[n, known, y, x].double(), dim=0)
                total += float((t.exp() * (t - s)).sum())
    assert found == pytest.approx(total / (2 * scores.shape[2] * scores.shape[3]), rel=1e-5)

    result, events = go(tmp_path / "a", world.folder, teacher=told, distill=TERMS, evaluation={"every": 8, "panels": 1})
    assert result.status == "succeeded", result.error
    [alarm] = [e.info for e in kinds(events, "alarm") if e.info.code == "teacher.classes_unmatched"]
    assert alarm.message == f"the teacher does not know {names[1]}, {names[-1]}; the dataset has no something else"
    pairs = {pair["student_level"]: pair for pair in kinds(events, "resolved")[0].pairs}
    assert (pairs["logits"]["student"], pairs["logits"]["adapter"]) == ([9, 16], False)
    scored = next(e for e in kinds(events, "evaluation") if e.role == "teacher")
    assert scored.per_class[names[1]] in (0.0, None)


@pytest.mark.parametrize(("changes", "code"), [
    ({"label_map": None}, "teacher.other_classes"),
    ({"label_map": {"nobody": "road"}}, "teacher.label_map"),
    ({"classes": ["a", "b"]}, "teacher.nothing_matches"),
])  # fmt: skip
def test_refused_before_training(world: World, tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    teacher = permuted(world, tmp_path / "t.safetensors") | changes
    result, events = go(tmp_path / "a", world.folder, teacher=teacher, distill=["logit"])
    assert result.error is not None
    assert result.error.code == code
    if code == "teacher.other_classes":
        assert result.error.hint == "teacher.label_map: by_name fits all 11 classes"
    assert not kinds(events, "checkpoint")


def test_tokens_and_heads_need_the_teachers_own_labels(world: World, tmp_path: Path) -> None:
    names = list(header_of(world).class_names)[1:]
    rows = list(range(1, len(names) + 1))
    told = other_teacher(world, tmp_path / "t.safetensors", rows, names, [0.0] * len(rows)) | {"label_map": "by_name"}
    result, _ = go(tmp_path / "a", world.folder, teacher=told, distill=[{"method": "maskd", "at": "c5"}])
    assert result.error is not None
    assert (result.error.code, result.error.field) == ("method.other_classes", "distill.0.method")
    heir = BASE["student"] | {"inherit": ["head"]}
    result, _ = go(tmp_path / "b", world.folder, teacher=told, distill=["logit"], student=heir)
    assert result.error is not None
    assert result.error.code == "student.inherit_classes"
