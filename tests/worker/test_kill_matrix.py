"""The long half of the kill tests: eight seeded moments a kind of kill, the three moments in which files are half there,
90 seconds of SIGSTOP with the intervals of production, and the real engine with loader workers and augmentation."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter

from acamkd_core.datasets.scenes_canvas import CLASSES as SCENE_CLASSES
from acamkd_core.models.registry import build_model
from acamkd_core.spec.archs import Arch
from server.db.base import DEFAULT_PROJECT
from server.db.session import write_session
from server.jobs import repository as jobs
from tests.worker.bench import Bench, until
from tests.worker.kills import (
    HABITS,
    KILLS,
    Follower,
    a_server,
    assert_undisturbed,
    kill_both,
    kill_child,
    kill_helper,
    moment,
)
from worker.processes import processes_of

pytestmark = [pytest.mark.serial, pytest.mark.long]
ENGINE = [sys.executable, "-m", "acamkd_core.engine.run"]


@pytest.mark.parametrize("kind", list(KILLS))
@pytest.mark.timeout(900)
def test_eight_random_moments(tmp_path: Path, kind: str) -> None:
    """Eight jobs on one fleet, each disturbed once, at a moment drawn over the run's whole length."""
    moments = random.Random(f"kills-{kind}")
    bench = Bench(tmp_path)
    try:
        bench.worker()
        bench.wait(bench.submit(steps=10), "succeeded")
        for _ in range(8):
            job_id = bench.submit(**HABITS, helper=kind == "helper")
            bench.wake()
            bench.child_pid(job_id)
            time.sleep(moments.uniform(0.05, 3.2))
            KILLS[kind](bench, job_id)
            assert_undisturbed(bench, job_id)
            if kind == "stop":  # the one that was stopped has no part in the next round
                bench.workers[-2].terminate()
                bench.workers[-2].wait(60)
    finally:
        bench.close()


@pytest.mark.timeout(900)
def test_the_server_is_killed_at_eight_random_moments(tmp_path: Path) -> None:
    """kill -9 of the server: no run notices, and a reader who follows the stream misses nothing."""
    moments = random.Random("kills-server")
    bench = Bench(tmp_path)
    try:
        bench.worker()
        with a_server(bench) as server:
            for _ in range(8):
                job_id = bench.submit(**HABITS)
                bench.wake()
                reader = Follower(server.url, job_id)
                bench.child_pid(job_id)
                time.sleep(moments.uniform(0.05, 3.2))
                assert server.process is not None
                server.process.kill()
                server.process.wait(10)
                server.start()
                assert_undisturbed(bench, job_id)
                assert len(bench.attempts(job_id)) == 1
                reader.assert_complete(bench, job_id)
    finally:
        bench.close()


@pytest.mark.timeout(900)
def test_kills_while_a_file_is_half_there(tmp_path: Path) -> None:
    """Worker, child and both, each in the middle of a checkpoint write, of an export, and of an upload."""
    bench = Bench(tmp_path)
    try:
        bench.worker()
        for name in ("checkpoint", "export", "upload"):
            for kind in ("worker", "child", "both"):
                job_id = bench.submit(**HABITS | ({"weight": 48} if name == "upload" else {"slow": 0.4}))
                bench.wake()
                until(lambda job_id=job_id, name=name: moment(bench, job_id, name), 120, look=0.002)
                KILLS[kind](bench, job_id)
                assert_undisturbed(bench, job_id)
    finally:
        bench.close()


@pytest.mark.timeout(600)
def test_ninety_seconds_of_sigstop_with_the_intervals_of_production(tmp_path: Path) -> None:
    """A worker is missed in under a minute, another one ends its job, and the woken one spoils nothing."""
    bench = Bench(tmp_path, fast=False)
    try:
        first = bench.worker("first")
        job_id = bench.submit(**{**HABITS, "pace": 0.3})
        bench.wake()
        bench.wait_step(job_id, 25)
        bench.worker("second")
        until(lambda: len(bench.seen_workers()) == 2, 120)
        assert bench.job(job_id).state == "running"
        begun = time.monotonic()
        bench.stop_worker(first)
        until(lambda: len(bench.attempts(job_id)) == 2, 60)
        time.sleep(max(0.0, begun + 90 - time.monotonic()))
        os.kill(first.pid, signal.SIGCONT)
        assert_undisturbed(bench, job_id)
        assert [attempt.worker_name for attempt in bench.attempts(job_id)] == ["first", "second"]
        first.send_signal(signal.SIGTERM)
        assert first.wait(120) == 0, bench.log()
    finally:
        bench.close()


@pytest.mark.timeout(300)
def test_ninety_seconds_of_sigstop_alone(bench: Bench) -> None:
    """Nobody else is there: the woken worker renews its lease and goes on, or takes the job up again."""
    worker = bench.worker()
    job_id = bench.submit(**{**HABITS, "pace": 0.03})
    bench.wait_step(job_id, 25)
    os.kill(worker.pid, signal.SIGSTOP)
    time.sleep(90)
    os.kill(worker.pid, signal.SIGCONT)
    assert_undisturbed(bench, job_id)
    assert len(bench.attempts(job_id)) == 1  # its own reaper has watched nothing while it was stopped


@pytest.mark.timeout(900)
def test_the_engine_is_killed_and_its_numbers_are_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    """The real child on `scenes` with augmentation: first alone, then disturbed twice, with 0 and with 2 loaders.

    With loader processes one of those is killed, without them the child; then worker and child at once. Results do
    not depend on the number of loaders, so one undisturbed run is the measure of both. A cancelled run with loaders
    leaves no process behind.
    """
    bench = Bench(tmp_path, child=ENGINE)
    spec = {
        "dataset": {"format": "scenes", "train_images": 16, "val_images": 4, "test_images": 4, "size": [32, 48]},
        "augment": {"scale": [0.5, 1.5], "crop": [32, 32], "flip": 0.5, "colour": 0.3},
        "student": {"arch": {"family": "deeplabv3", "width": 0.25, "output_stride": 16, "aspp_channels": 16}},
        "schedule": {"iterations": 30},
        "evaluation": {"every": 10, "panels": 1},
        "checkpoint": {"every": 5},
        "exports": ["safetensors"],
    }
    try:
        bench.worker()
        runs = []
        for loaders in (0, 2):  # one after the other: a single worker would take the next job while this one waits
            job_id = bench.submit_spec({**spec, "name": f"l{loaders}", "batch": {"global_size": 4, "workers": loaders}})
            runs.append(job_id)
            bench.wait_step(job_id, 8, seconds=240)
            (kill_helper if loaders else kill_child)(bench, job_id)
            until(lambda job_id=job_id: len(bench.attempts(job_id)) == 2, 60)
            bench.wait_step(job_id, 18, seconds=240)
            kill_both(bench, job_id)
            bench.wait(job_id, "succeeded", seconds=240)
            assert processes_of(job_id) == []
        alone = bench.submit_spec({**spec, "name": "alone", "batch": {"global_size": 4}})
        bench.wait(alone, "succeeded", seconds=240)
        (model,) = bench.models(alone)
        for job_id in runs:
            assert bench.series(job_id) == bench.series(alone)
            assert [one.weights_digest for one in bench.models(job_id)] == [model.weights_digest]
            assert len(bench.attempts(job_id)) == 3

        long = {
            **spec,
            "name": "cancelled",
            "batch": {"global_size": 4, "workers": 2},
            "schedule": {"iterations": 5000},
        }
        cancelled = bench.submit_spec(long)
        bench.wait_step(cancelled, 8, seconds=240)
        assert len(processes_of(cancelled)) >= 3
        with write_session(bench.engine) as session:
            job = jobs.lock(session, project_id=DEFAULT_PROJECT, ref=cancelled)
            assert job is not None
            jobs.request_cancel(session, job=job)
        bench.wait(cancelled, "cancelled")
        assert processes_of(cancelled) == []
    finally:
        bench.close()


@pytest.mark.timeout(600)
def test_a_kill_within_a_methods_stage_before_distillation_costs_nothing(tmp_path: Path) -> None:
    """MasKD's tokens and MGD's random masks: killed while tokens are trained and once more later, the numbers stay."""
    arch = {"family": "deeplabv3", "width": 0.25, "output_stride": 16, "aspp_channels": 16}
    torch.manual_seed(0)
    teacher = build_model(TypeAdapter(Arch).validate_python(arch), num_classes=len(SCENE_CLASSES))
    torch.save(teacher.state_dict(), tmp_path / "teacher.pth")
    spec = {
        "dataset": {"format": "scenes", "train_images": 16, "val_images": 4, "test_images": 4, "size": [32, 48]},
        "teacher": {
            "arch": arch,
            "weights": {"file": str(tmp_path / "teacher.pth")},
            "expect": {"miou": 50, "tolerance": 50},
        },
        "student": {"arch": arch},
        "distill": [{"method": "maskd", "at": ["c5", "logits"], "token_iterations": 200}, {"method": "mgd"}],
        "schedule": {"iterations": 30},
        "evaluation": {"every": 10, "panels": 1},
        "checkpoint": {"every": 5},
        "batch": {"global_size": 4},
        "exports": ["safetensors"],
    }
    bench = Bench(tmp_path, child=ENGINE)
    try:
        bench.worker()
        alone = bench.submit_spec({**spec, "name": "alone"})
        bench.wait(alone, "succeeded", seconds=240)
        killed = bench.submit_spec({**spec, "name": "killed"})
        bench.wake()
        until(lambda: any(one.last_checkpoint == 0 for one in bench.attempts(killed)), 120)
        assert bench.job(killed).progress["stage"] == "prepare"
        kill_child(bench, killed)
        bench.wait_step(killed, 8, seconds=240)
        kill_both(bench, killed)
        bench.wait(killed, "succeeded", seconds=240)
        assert bench.series(killed) == bench.series(alone)
        assert [one.weights_digest for one in bench.models(killed)] == [
            one.weights_digest for one in bench.models(alone)
        ]
        first, second, third = bench.attempts(killed)
        assert (first.exit, first.counted, second.resumed_from) == ("lost", False, 0)
        assert third.resumed_from is not None
        assert third.resumed_from >= 5
    finally:
        bench.close()
