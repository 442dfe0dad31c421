"""The loop on a toy task: exact resume, exact accumulation bookkeeping, honest failures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acamkd_core.engine import checkpoint as ckpt
from acamkd_core.engine.optim import build_optimizer, rate, set_rate
from acamkd_core.engine.parts import Parts, Run
from acamkd_core.engine.trainer import Outcome, train
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.events import AlarmEvent, CheckpointEvent, MetricsEvent, RewoundEvent
from acamkd_core.spec.job import JobSpec, parse_job
from acamkd_core.spec.training import ScheduleSpec
from tests.acamkd_core.engine.toy import toy_parts


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def spec(**changes: Any) -> JobSpec:
    data: dict[str, Any] = {
        "dataset": "scenes", "student": "mobile_deeplabv3", "optimizer": {"lr": 0.1}, "schedule": {"iterations": 24},
    }  # fmt: skip
    parsed = parse_job(data | changes)
    assert isinstance(parsed, JobSpec)
    return parsed


def go(
    parts: Parts, folder: Path, job: JobSpec | None = None, resume: Path | None = None, stop_at: int | None = None
) -> tuple[Outcome, list[Any]]:
    events: list[Any] = []
    done = [0]

    def emit(event: Any) -> None:
        events.append(event)
        if isinstance(event, MetricsEvent):
            done[0] = event.iteration

    run = Run(folder=folder, cache=folder, resume=resume, attempt=2 if resume else 1)
    outcome = train(
        parts, job or spec(), run, emit=emit, should_stop=lambda: stop_at is not None and done[0] >= stop_at,
        mask_picture=lambda values: np.zeros((*values.shape, 3), np.uint8),
    )  # fmt: skip
    return outcome, events


def series(events: list[Any]) -> dict[tuple[int, str], float | None]:
    return {
        (e.iteration, name): value
        for e in events
        if isinstance(e, MetricsEvent)
        for name, value in e.values.items()
        if not name.startswith("time/")
    }


@pytest.mark.parametrize("stop_at", [3, 8, 13, 23])
def test_resume_is_bit_exact(tmp_path: Path, stop_at: int) -> None:
    whole, all_events = go(toy_parts(), tmp_path / "whole")
    first, early = go(toy_parts(), tmp_path / "a", stop_at=stop_at)
    assert first.reason == "stopped"
    last = [e for e in early if isinstance(e, CheckpointEvent)][-1]
    # A fresh process has fresh modules: everything must come from the file.
    second, late = go(toy_parts(), tmp_path / "b", resume=tmp_path / "a" / last.path)
    assert isinstance(late[0], RewoundEvent)
    assert late[0].iteration == last.iteration
    assert series(early) | series(late) == series(all_events)
    for name, tensor in whole.last_student.items():
        assert torch.equal(tensor, second.last_student[name]), name
    for name, tensor in whole.best_student.items():
        assert torch.equal(tensor, second.best_student[name]), name
    assert whole.position.best_iteration == second.position.best_iteration


def test_it_learns_and_methods_train(tmp_path: Path) -> None:
    parts = toy_parts(iterations=60, every=60)
    before = {n: p.detach().clone() for n, p in parts.method_modules.named_parameters()}
    assert before, "feature_mse needs an adapter here: 4 to 8 channels"
    outcome, events = go(parts, tmp_path, spec(schedule={"iterations": 60}))
    assert outcome.position.best_score is not None
    assert outcome.position.best_score > 90
    assert any(not torch.equal(before[n], p) for n, p in parts.method_modules.named_parameters())
    assert not any("method" in name or "align" in name for name in outcome.last_student)
    shares = [v for (_, n), v in series(events).items() if n == "kd/share"]
    assert shares
    assert all(v is not None and 0 < v < 1 for v in shares)


def test_accumulation_equals_the_whole_batch_without_batch_norm(tmp_path: Path) -> None:
    def quiet(parts: Parts) -> Parts:
        parts.student.body[1] = torch.nn.Identity()  # type: ignore[attr-defined]
        parts.student.body[3] = torch.nn.Identity()  # type: ignore[attr-defined]
        return parts

    one, _ = go(quiet(toy_parts(8)), tmp_path / "1", spec(schedule={"iterations": 8}))
    four, _ = go(
        quiet(toy_parts(8)), tmp_path / "4", spec(schedule={"iterations": 8}, batch={"global_size": 8, "accumulate": 4})
    )
    for name, tensor in one.last_student.items():
        torch.testing.assert_close(tensor, four.last_student[name], rtol=1e-4, atol=1e-6)


def test_out_of_memory_is_retried_once_with_half_the_batch(tmp_path: Path) -> None:
    parts = toy_parts(8)
    forward = parts.student.forward

    def limited(images: torch.Tensor) -> Any:
        if images.shape[0] > 4 and parts.student.training:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return forward(images)

    parts.student.forward = limited  # type: ignore[method-assign]
    outcome, events = go(parts, tmp_path, spec(schedule={"iterations": 8}))
    assert outcome.position.accumulate == 2
    assert [e.info.code for e in events if isinstance(e, AlarmEvent)] == ["out_of_memory.retry"]

    def never(images: torch.Tensor) -> Any:
        if parts.student.training:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return forward(images)

    parts.student.forward = never  # type: ignore[method-assign]
    with pytest.raises(CoreError) as caught:
        go(parts, tmp_path / "b", spec(schedule={"iterations": 8}))
    assert caught.value.code == "out_of_memory"


def test_early_stop_counts_evaluations_without_gain(tmp_path: Path) -> None:
    parts = toy_parts(iterations=80, every=2)
    outcome, _ = go(parts, tmp_path, spec(schedule={"iterations": 80}, evaluation={"early_stop": 3}))
    assert outcome.reason == "early_stop"
    assert outcome.position.iteration == (outcome.position.best_iteration or 0) + 6


def test_torn_and_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    _, events = go(toy_parts(8), tmp_path)
    path = tmp_path / [e for e in events if isinstance(e, CheckpointEvent)][-1].path
    with pytest.raises(CoreError, match="another spec"):
        ckpt.load(path, spec(optimizer={"lr": 0.02}))
    assert ckpt.load(path, spec()).position.iteration == 8
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CoreError) as caught:
        ckpt.load(path, spec())
    assert caught.value.code == "checkpoint.unreadable"


def test_the_folder_keeps_best_and_recent_checkpoints_only(tmp_path: Path) -> None:
    outcome, events = go(toy_parts(iterations=40, every=4), tmp_path, spec(schedule={"iterations": 40}))
    kept = {int(p.stem.split("-")[1]) for p in (tmp_path / "checkpoints").glob("*.ckpt")}
    assert {40, 36, outcome.position.best_iteration} == kept
    assert len([e for e in events if isinstance(e, CheckpointEvent)]) == 10


def test_rates_follow_torch_schedulers() -> None:
    """Against torch's own schedulers, step by step."""
    parameter = torch.nn.Parameter(torch.zeros(1))

    def torchs(make: Any, steps: int) -> list[float]:
        optimizer = torch.optim.SGD([parameter], lr=0.5)
        scheduler = make(optimizer)
        seen = []
        for _ in range(steps):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return seen

    lr = torch.optim.lr_scheduler
    cases = [
        (ScheduleSpec(iterations=20, policy="poly", power=0.9), lambda o: lr.PolynomialLR(o, 20, 0.9), []),
        (ScheduleSpec(iterations=20, policy="cosine"), lambda o: lr.CosineAnnealingLR(o, 20), []),
        (
            ScheduleSpec(iterations=20, policy="multistep", milestones=(5, 12)),
            lambda o: lr.MultiStepLR(o, [5, 12]),
            [5, 12],
        ),
    ]
    for schedule, make, milestones in cases:
        ours = [rate(schedule, 0.5, i, 20, milestones) for i in range(20)]
        np.testing.assert_allclose(ours, torchs(make, 20), rtol=1e-9)
    warm = ScheduleSpec(iterations=20, policy="constant", warmup_iterations=10)
    assert rate(warm, 1.0, 0, 20, []) == pytest.approx(0.1)
    assert rate(warm, 1.0, 10, 20, []) == 1.0
    for step in range(10):
        assert rate(warm, 1.0, step, 20, []) == pytest.approx(0.1 + 0.09 * step)
    decaying = ScheduleSpec(iterations=20, policy="poly", power=0.9, warmup_iterations=4)
    # After the warm-up the decay is where it would be without one.
    assert rate(decaying, 1.0, 4, 20, []) == pytest.approx(0.8**0.9)


def test_milestones_are_in_the_unit_of_the_length_and_methods_have_their_factor(tmp_path: Path) -> None:
    """4 batches an epoch: milestones at epochs 2 and 5 are steps 8 and 20."""
    schedule = {"epochs": 6, "policy": "multistep", "milestones": [2, 5], "gamma": 0.5}
    job = spec(schedule=schedule, optimizer={"lr": 0.1, "method_lr_factor": 3.0})
    _, events = go(toy_parts(), tmp_path, job)
    rates = [value for (_, name), value in sorted(series(events).items()) if name == "lr"]
    assert rates == pytest.approx([0.1] * 8 + [0.05] * 12 + [0.025] * 4)
    optimizer = build_optimizer(job.optimizer, toy_parts().student, toy_parts().method_modules)
    set_rate(optimizer, 0.05)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.15])


def test_the_moving_average_is_the_recursion_and_what_is_evaluated(tmp_path: Path) -> None:
    parts = toy_parts(6, 6)
    wanted = {name: tensor.clone() for name, tensor in parts.student.state_dict().items()}
    events: list[Any] = []

    def emit(event: Any) -> None:
        events.append(event)
        if isinstance(event, MetricsEvent) and "lr" in event.values:  # right after a step
            for name, tensor in parts.student.state_dict().items():
                wanted[name] = 0.8 * wanted[name] + 0.2 * tensor if tensor.is_floating_point() else tensor.clone()

    run = Run(folder=tmp_path, cache=tmp_path)
    job = spec(schedule={"iterations": 6}, train={"ema": 0.8})
    outcome = train(parts, job, run, emit=emit, should_stop=lambda: False, mask_picture=lambda v: v)
    for name, tensor in wanted.items():
        torch.testing.assert_close(outcome.last_student[name], tensor, rtol=1e-5, atol=1e-7)
        assert torch.equal(outcome.best_student[name], outcome.last_student[name])
    trained = parts.student.state_dict()
    assert any(not torch.allclose(trained[name], tensor) for name, tensor in wanted.items())


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    """Plain SGD at rate 1 moves the weights by the gradient: its length must be the limit."""
    job = spec(
        schedule={"iterations": 1, "policy": "constant"}, train={"grad_clip": 0.01},
        optimizer={"lr": 1.0, "momentum": 0.0, "weight_decay": 0.0},
    )  # fmt: skip
    parts = toy_parts(1, 1)
    modules = torch.nn.ModuleList([parts.student, parts.method_modules])
    before = [p.detach().clone() for p in modules.parameters()]
    go(parts, tmp_path, job)
    moved = torch.sqrt(sum(((p.detach() - b) ** 2).sum() for p, b in zip(modules.parameters(), before, strict=True)))
    assert float(moved) == pytest.approx(0.01, rel=1e-3)
