"""What a run does when something goes wrong: NaN, no memory, no disk; and the alarms, each one provoked."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from acamkd_core.engine import checkpoint as ckpt
from acamkd_core.engine.parts import Parts, Run
from acamkd_core.engine.trainer import NonFiniteLoss, train
from acamkd_core.methods.base import LevelPair
from acamkd_core.methods.registry import build_method
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.events import AlarmEvent, CheckpointEvent, MetricsEvent
from acamkd_core.spec.job import JobSpec
from acamkd_core.spec.methods import AcamTerm, CankdTerm, FeatureMSETerm
from tests.acamkd_core.engine.test_trainer import go, series, spec
from tests.acamkd_core.engine.toy import ToyBatch, toy_batches, toy_parts


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def fails(parts: Parts, folder: Path, job: JobSpec) -> tuple[NonFiniteLoss, list[Any]]:
    events: list[Any] = []
    with pytest.raises(NonFiniteLoss) as caught:
        train(
            parts, job, Run(folder=folder, cache=folder), emit=events.append,
            should_stop=lambda: False, mask_picture=lambda values: values,
        )  # fmt: skip
    return caught.value, events


def saved(folder: Path, events: list[Any]) -> ckpt.Checkpoint:
    return ckpt.load(folder / [e for e in events if isinstance(e, CheckpointEvent)][-1].path)


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_the_state_before_a_bad_step_is_kept_whole(tmp_path: Path, where: str, clip: float | None) -> None:
    """Batch norm statistics too: the forward pass writes NaN into them before anybody sees the loss."""
    job = spec(train={"grad_clip": clip})

    def fresh() -> Parts:
        return toy_parts(
            extra=CankdTerm(method="cankd", at=("body",))
        )  # a method with batch norm statistics of its own

    parts, step = fresh(), [0]

    def poisoned(start: int) -> Iterator[ToyBatch]:
        for number, batch in enumerate(toy_batches(start), start):
            step[0] = number
            yield ToyBatch(batch.images * (math.nan if number == 5 and where == "loss" else 1), batch.targets)

    parts.train = poisoned
    if where == "gradient":

        def spoil(gradient: Tensor) -> Tensor:
            return gradient * (math.inf if step[0] == 5 else 1)

        parts.student.head.weight.register_hook(spoil)  # type: ignore[union-attr, operator]
    error, events = fails(parts, tmp_path / "bad", job)
    assert (error.iteration, error.what) == (6, where)
    kept = saved(tmp_path / "bad", events)
    assert kept.position.iteration == 5
    # The same run stopped by hand after five steps is what must have been kept, bit for bit.
    first, early = go(fresh(), tmp_path / "good", job, stop_at=5)
    assert first.reason == "stopped"
    good = saved(tmp_path / "good", early)
    for name, tensor in good.student.items():
        assert torch.equal(tensor, kept.student[name]), name
    assert any("running_mean" in name for name in good.methods)
    for name, tensor in good.methods.items():
        assert torch.equal(tensor, kept.methods[name]), name
    last = [e for e in events if isinstance(e, MetricsEvent)][-1]
    assert last.iteration == 6
    assert ("loss/task" in last.non_finite) == (where == "loss")


@pytest.mark.parametrize("piece", [0, 1])
def test_a_step_that_ran_out_of_memory_leaves_no_trace(tmp_path: Path, piece: int) -> None:
    """After the retry the run is the one that had accumulated from the start, whichever pass failed."""

    def quiet(iterations: int) -> Parts:
        parts = toy_parts(iterations)
        parts.student.body[3] = torch.nn.Identity()  # type: ignore[union-attr, index, operator]
        return parts

    job = spec(schedule={"iterations": 6})
    parts = quiet(6)
    calls = itertools.count()
    loss = parts.task.loss

    def limited(model: Any, out: Any, targets: Any) -> dict[str, Tensor]:
        # After the forward pass, when batch norm has counted the images.
        if next(calls) == piece:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return loss(model, out, targets)

    parts.task.loss = limited  # type: ignore[method-assign]
    if piece:  # the second pass of an accumulated step fails; the retry halves again
        job = spec(schedule={"iterations": 6}, batch={"global_size": 8, "accumulate": 2})
    outcome, events = go(parts, tmp_path / "a", job)
    assert [e.info.code for e in events if isinstance(e, AlarmEvent)] == ["out_of_memory.retry"]
    goal = spec(schedule={"iterations": 6}, batch={"global_size": 8, "accumulate": outcome.position.accumulate})
    wanted, _ = go(quiet(6), tmp_path / "b", goal)
    for name, tensor in wanted.last_student.items():
        assert torch.equal(tensor, outcome.last_student[name]), name


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_never_costs_the_last_good_checkpoint(tmp_path: Path) -> None:
    """A real ENOSPC: the file that the second checkpoint is written aside to leads to a device that is always full."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "iteration-00000016.part").symlink_to("/dev/full")
    with pytest.raises(CoreError) as caught:
        go(toy_parts(), tmp_path)
    assert caught.value.code == "disk.full"
    assert caught.value.info.hint
    assert [path.name for path in folder.iterdir()] == ["iteration-00000008.ckpt"]
    whole, all_events = go(toy_parts(), tmp_path / "whole")
    second, late = go(toy_parts(), tmp_path / "b", resume=folder / "iteration-00000008.ckpt")
    assert all(series(all_events)[key] == value for key, value in series(late).items())
    for name, tensor in whole.last_student.items():
        assert torch.equal(tensor, second.last_student[name]), name


def alarms(events: list[Any]) -> list[AlarmEvent]:
    return [event for event in events if isinstance(event, AlarmEvent)]


def with_method(parts: Parts, term: AcamTerm | FeatureMSETerm) -> Parts:
    levels = [net.levels["body"] for net in (parts.student, parts.teacher)]  # type: ignore[union-attr, index, operator]
    parts.methods = [build_method(term, [LevelPair("body", "body", *levels)], num_classes=3)]  # type: ignore[arg-type]
    return parts


def test_a_term_that_is_always_zero_is_named_once_also_over_a_resume(tmp_path: Path) -> None:
    def idle() -> Parts:
        return with_method(toy_parts(60, 30), FeatureMSETerm(method="feature_mse", at=("body",), weight=0.0))

    job = spec(schedule={"iterations": 60})
    _, early = go(idle(), tmp_path, job, stop_at=40)
    [alarm] = alarms(early)
    assert (alarm.info.code, alarm.info.value, alarm.iteration) == ("term.zero", "feature_mse", 20)
    assert alarm.info.hint
    last = [e for e in early if isinstance(e, CheckpointEvent)][-1]
    _, late = go(idle(), tmp_path / "b", job, resume=tmp_path / last.path)
    assert alarms(late) == []


def test_collapsed_masks_are_told_while_the_run_goes_on(tmp_path: Path) -> None:
    term = AcamTerm(method="acam", at=("body",), masks=3, centre=False, mask_norm="sum")
    parts = with_method(toy_parts(), term)
    with torch.no_grad():
        units = parts.methods[0].levels[0].units  # type: ignore[union-attr, index, operator]
        units.value.weight.zero_()
        units.value.bias.fill_(1.0)
        units.spatial_units.fill_(5.0)  # sigmoid(8 channels x 5): every position of every mask is 1
    outcome, events = go(parts, tmp_path)
    assert outcome.reason == "done"
    [alarm] = alarms(events)
    assert alarm.info.code == "masks.collapsed"
    assert "spatial masks at 'body'" in alarm.info.message


def test_masks_that_stop_teaching_are_told(tmp_path: Path) -> None:
    term = AcamTerm(method="acam", at=("body",), masks=3, centre=False, mask_norm="sum", channel=False)
    parts = with_method(toy_parts(60, 60), term)
    batches = parts.train

    def fading(start: int) -> Iterator[ToyBatch]:
        for number, batch in enumerate(batches(start), start):
            if number == 30:  # masks of sigmoid(-4) = 0.018 under the printed norm: a hundredth of the loss
                with torch.no_grad():
                    units = parts.methods[0].levels[0].units  # type: ignore[union-attr, index, operator]
                    units.value.weight.zero_()
                    units.value.bias.fill_(-1.0)
                    units.spatial_units.fill_(0.5)
            yield batch  # type: ignore[misc]

    parts.train = fading
    _, events = go(parts, tmp_path, spec(schedule={"iterations": 60}))
    assert sorted(alarm.info.code for alarm in alarms(events)) == ["kd.vanished", "masks.collapsed"]
    assert all(alarm.iteration >= 30 for alarm in alarms(events))


def test_a_starved_device_is_told(tmp_path: Path) -> None:
    parts = toy_parts(60, 60)
    batches = parts.train

    def slow(start: int) -> Iterator[ToyBatch]:
        for batch in batches(start):
            time.sleep(0.05)  # ten times what a step takes
            yield batch  # type: ignore[misc]

    parts.train = slow
    _, events = go(parts, tmp_path, spec(schedule={"iterations": 60}))
    [alarm] = alarms(events)
    assert alarm.info.code == "data.starved"
    assert alarm.info.field == "batch.workers"
    assert alarm.info.value > 0.5
