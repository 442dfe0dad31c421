"""A method's stage before distillation: it learns from the teacher alone, ends, and resumes bit for bit wherever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from acamkd_core.engine import checkpoint as ckpt
from acamkd_core.engine.parts import Parts
from acamkd_core.engine.step import NonFiniteLoss
from acamkd_core.spec.events import CheckpointEvent, LogEvent, MetricsEvent, RewoundEvent, StageEvent
from acamkd_core.spec.methods import CankdTerm, DiffkdTerm, FreekdTerm, MaskdTerm, MethodTerm, MgdTerm
from tests.acamkd_core.engine.test_trainer import go, series, spec
from tests.acamkd_core.engine.toy import toy_batches, toy_parts

STEPS = 20


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def parts(iterations: int = 24, steps: int = STEPS) -> Parts:
    return toy_parts(iterations, extra=MaskdTerm(method="maskd", at=("body",), tokens=3, token_iterations=steps))


def tokens(made: Parts) -> torch.Tensor:
    return next(p for name, p in made.method_modules.named_parameters() if "tokens" in name).detach().clone()


def stop_in_preparation(made: Parts, folder: Path, after: int) -> list[Any]:
    """Runs until `after` steps of the stage are done, by watching the batches that it takes."""
    taken = [0]

    def counted(start: int) -> Any:
        for batch in toy_batches(start):
            taken[0] += 1
            yield batch

    made.train = counted
    events: list[Any] = []
    from acamkd_core.engine.parts import Run
    from acamkd_core.engine.trainer import train

    outcome = train(
        made, spec(), Run(folder=folder, cache=folder), emit=events.append,
        should_stop=lambda: taken[0] >= after, mask_picture=lambda values: values,
    )  # fmt: skip
    assert outcome.reason == "stopped"
    return events


def test_it_trains_the_tokens_alone_and_ends_before_the_student_learns(tmp_path: Path) -> None:
    made = parts()
    before = tokens(made)
    student = {name: tensor.clone() for name, tensor in made.student.state_dict().items()}
    events = stop_in_preparation(made, tmp_path, after=STEPS)
    saved = ckpt.load(tmp_path / [e for e in events if isinstance(e, CheckpointEvent)][-1].path)
    assert (saved.position.iteration, saved.position.prepared) == (0, STEPS)
    assert not torch.equal(before, tokens(made))
    for name, tensor in student.items():
        assert torch.equal(tensor, made.student.state_dict()[name]), name
    assert made.teacher is not None
    assert all(p.grad is None for p in made.teacher.parameters())
    assert [e.stage for e in events if isinstance(e, StageEvent)] == ["prepare", "train"]
    told = [e.message for e in events if isinstance(e, LogEvent) and "preparing" in e.message]
    assert len(told) == 10
    assert "maskd/task" in told[0]
    assert "maskd/diversity" in told[0]
    # Afterwards tokens are constants: neither the loss nor weight decay moves them.
    after = tokens(made)
    _, late = go(made, tmp_path / "b", resume=tmp_path / [e for e in events if isinstance(e, CheckpointEvent)][-1].path)
    assert torch.equal(after, tokens(made))
    assert [e.stage for e in late if isinstance(e, StageEvent)] == ["train"]
    assert any(e.values.get("loss/maskd", 0) for e in late if isinstance(e, MetricsEvent))


def test_tokens_lower_the_loss_of_the_masked_teacher(tmp_path: Path) -> None:
    made = parts(steps=100)
    with torch.no_grad():  # a teacher that is right: class = the brightest channel
        made.teacher.body[0].weight.zero_()  # type: ignore[union-attr, index, operator]
        for channel in range(3):
            made.teacher.body[0].weight[channel, channel, 1, 1] = 4.0  # type: ignore[union-attr, index, operator]
        made.teacher.head.weight.copy_(2 * torch.eye(3, 8))  # type: ignore[union-attr, operator]
    events = stop_in_preparation(made, tmp_path, after=100)
    losses = [
        float(e.message.split("maskd/task ")[1].split(",")[0])
        for e in events
        if isinstance(e, LogEvent) and "preparing" in e.message
    ]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("stop_at", [0, 5, 8, 19])
def test_resume_within_the_stage_is_bit_exact(tmp_path: Path, stop_at: int) -> None:
    whole_parts = parts()
    whole, all_events = go(whole_parts, tmp_path / "whole")
    early = stop_in_preparation(parts(), tmp_path / "a", after=stop_at)
    last = [e for e in early if isinstance(e, CheckpointEvent)][-1]
    assert ckpt.load(tmp_path / "a" / last.path).position.prepared == stop_at
    second_parts = parts()
    second, late = go(second_parts, tmp_path / "b", resume=tmp_path / "a" / last.path)
    assert isinstance(late[0], RewoundEvent)
    assert torch.equal(tokens(whole_parts), tokens(second_parts))
    assert series(early) | series(late) == series(all_events)
    for name, tensor in whole.last_student.items():
        assert torch.equal(tensor, second.last_student[name]), name


@pytest.mark.parametrize(
    "extra",
    [
        None,
        MgdTerm(method="mgd", at=("body",), weight=0.1, placebo="other_image"),
        CankdTerm(method="cankd", at=("body",)),
        DiffkdTerm(method="diffkd", at=("body",)),
        FreekdTerm(method="freekd", at=("body",), token_iterations=5),
    ],
    ids=lambda extra: extra.method if extra is not None else "maskd",
)
def test_resume_after_the_stage_with_random_masks_and_own_batch_norms_is_bit_exact(
    tmp_path: Path, extra: MethodTerm | None
) -> None:
    def fresh() -> Parts:
        return parts() if extra is None else toy_parts(extra=extra)

    whole, all_events = go(fresh(), tmp_path / "whole")
    _, early = go(fresh(), tmp_path / "a", stop_at=13)
    last = [e for e in early if isinstance(e, CheckpointEvent)][-1]
    second, late = go(fresh(), tmp_path / "b", resume=tmp_path / "a" / last.path)
    assert series(early) | series(late) == series(all_events)
    for name, tensor in whole.last_student.items():
        assert torch.equal(tensor, second.last_student[name]), name
    states = [ckpt.load(tmp_path / folder / path).methods for folder, path in last_of(all_events, late)]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def last_of(whole: list[Any], late: list[Any]) -> list[tuple[str, str]]:
    """Folder and path of the last checkpoint of both runs."""
    return [
        (folder, [e for e in events if isinstance(e, CheckpointEvent)][-1].path)
        for folder, events in (("whole", whole), ("b", late))
    ]


def test_a_stage_of_no_steps_leaves_nothing_to_do(tmp_path: Path) -> None:
    made = parts(steps=0)
    before = tokens(made)
    _, events = go(made, tmp_path)
    assert torch.equal(before, tokens(made))
    assert [e.stage for e in events if isinstance(e, StageEvent)] == ["train"]


def test_a_non_finite_loss_of_the_stage_names_its_term(tmp_path: Path) -> None:
    made = parts()
    with torch.no_grad():
        made.teacher.head.bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(NonFiniteLoss) as caught:
        go(made, tmp_path)
    assert caught.value.iteration == 0
    assert "maskd/task" in caught.value.terms


def test_the_stage_keeps_full_precision_under_bf16(tmp_path: Path) -> None:
    half, whole = parts(), parts()
    go(half, tmp_path / "half", spec(train={"precision": "bf16"}))
    go(whole, tmp_path / "whole", spec())
    assert torch.equal(tokens(half), tokens(whole))
