"""How hard distillation pulls on the student: closed forms, and a run that is told when its weight is far too large."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from acamkd_core.engine import pull
from acamkd_core.spec.events import AlarmEvent
from acamkd_core.spec.training import TrainSpec
from tests.acamkd_core.engine.test_trainer import go, series, spec
from tests.acamkd_core.engine.toy import toy_parts


def test_norms_and_cosine_are_those_of_the_two_gradients() -> None:
    student = nn.Linear(3, 1, bias=False)
    x = torch.tensor([[1.0, 2.0, 2.0], [3.0, 0.0, 4.0]])
    task, taught = student(x[:1]).sum(), student(x[1:]).sum()
    own = nn.Parameter(torch.ones(()))
    terms = {"task": 2 * task, "aux/c4": 1 * task, "acam/spatial": 0.5 * taught, "acam/diversity": own * 7}
    found = pull.measure(student, terms)
    # Gradients 3 (1, 2, 2), of norm 9, and 0.5 (3, 0, 4), of norm 2.5; their product is 3 * 0.5 * 11.
    assert found["kd/pull"] == pytest.approx(2.5 / 9)
    assert found["kd/agreement"] == pytest.approx(16.5 / (9 * 2.5))
    assert student.weight.grad is None
    assert own.grad is None
    (2 * task).backward()  # the graph is still there for the step


def test_there_is_nothing_to_measure_without_both_or_without_a_gradient() -> None:
    student = nn.Linear(2, 1)
    out = student(torch.ones(1, 2)).sum()
    assert pull.measure(student, {"task": out}) == {}
    assert pull.measure(student, {"logit": out}) == {}
    assert pull.measure(student, {"task": out, "acam/diversity": torch.ones(())}) == {}
    assert pull.measure(student, {"task": out, "logit": out * 0}) == {}


def test_it_is_measured_often_at_the_start_and_fifteen_times_in_all() -> None:
    due = [step for step in range(1200) if pull.is_due(step, 20)]
    assert due[:6] == [0, 20, 40, 60, 100, 200]
    assert len(due) == 15
    assert pull.is_possible(TrainSpec(compile=True), compiled=False)  # there was no compiler
    assert not pull.is_possible(TrainSpec(compile=True), compiled=True)
    assert not pull.is_possible(TrainSpec(grad_checkpoint=True), compiled=False)


@pytest.mark.parametrize(("weight", "told"), [(1e3, True), (1e-3, False)])
def test_a_run_is_told_when_distillation_outweighs_the_labels(tmp_path: Path, weight: float, told: bool) -> None:
    term = {"method": "feature_mse", "at": "body", "weight": weight}
    parts = toy_parts(24)
    parts.methods = [parts.methods[0]]
    parts.methods[0].options = parts.methods[0].options.model_copy(update={"weight": weight})
    _, events = go(parts, tmp_path, spec(optimizer={"lr": 1e-6}, distill=[term], teacher="t.safetensors"))
    measured = {step: value for (step, name), value in series(events).items() if name == "kd/pull"}
    assert list(measured)[:3] == [1, 2, 3]
    assert all(value is not None and math.isfinite(value) and value > 0 for value in measured.values())
    alarms: list[Any] = [event for event in events if isinstance(event, AlarmEvent)]
    assert [alarm.info.code for alarm in alarms if alarm.info.code.startswith("kd.outweighs")] == (
        ["kd.outweighs_labels"] if told else []
    )
    if told:
        (alarm,) = (one for one in alarms if one.info.code == "kd.outweighs_labels")
        assert alarm.iteration == list(measured)[3]
        balanced = float(alarm.info.hint.split("near ")[1].split(" ")[0])
        assert balanced == pytest.approx(weight / float(measured[alarm.iteration] or 0), rel=0.05)


def test_measuring_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = spec()
    watched, _ = go(toy_parts(24), tmp_path / "a", job)
    monkeypatch.setattr(pull, "is_due", lambda step, every: False)
    left, events = go(toy_parts(24), tmp_path / "b", job)
    assert not any(name == "kd/pull" for _, name in series(events))
    for name, tensor in watched.last_student.items():
        assert torch.equal(tensor, left.last_student[name]), name
