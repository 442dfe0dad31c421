"""Kills with real processes: whatever dies, and whenever, a job ends once, with the numbers of an undisturbed run.

The short half runs against SQLite (and one kill against PostgreSQL) with the stand-in child, whose digest chain tells
any lost, repeated or mixed step. The long half (`-m long`) is the matrix of eight seeded moments a kind of kill, and
the real engine on `scenes` with loader workers and augmentation.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from tests.worker.bench import FAST, Bench, stand_in_digest, stand_in_losses, until
from worker.processes import processes_of

pytestmark = pytest.mark.serial
ENGINE = [sys.executable, "-m", "acamkd_core.engine.run"]
STEPS = 120
# A run of about three seconds, half of it inside checkpoint writes and exports.
HABITS: dict[str, Any] = {"steps": STEPS, "every": 20, "pace": 0.012, "slow": 0.12}
EXPORTS = {("export", "student.safetensors"), ("export", "student.onnx"), ("bundle", "bundle.zip")}


def assert_undisturbed(bench: Bench, job_id: str) -> None:
    """One success, one result, one set of files, and the series of a run that nobody disturbed."""
    job = bench.wait(job_id, "succeeded", seconds=60)
    digest = stand_in_digest(STEPS)
    (model,) = bench.models(job_id)
    assert model.weights_digest == digest
    assert job.metrics["test/miou"] == int(digest[:4], 16) / 655.36
    series = bench.series(job_id)
    assert {key: value for key, value in series.items() if key[0] == "loss/total"} == dict(stand_in_losses(STEPS))
    assert {step for name, step in series if name == "val/miou"} == set(range(20, STEPS + 1, 20))
    assert {key for key in bench.artifacts(job_id) if key[0] in ("export", "bundle")} == EXPORTS
    assert [attempt.exit for attempt in bench.attempts(job_id)].count("succeeded") == 1
    assert processes_of(job_id) == []


def kill_worker(bench: Bench, job_id: str) -> None:
    bench.workers[-1].kill()
    bench.workers[-1].wait(5)
    bench.worker("next")


def kill_child(bench: Bench, job_id: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(bench.child_pid(job_id), signal.SIGKILL)


def kill_both(bench: Bench, job_id: str) -> None:
    pid = bench.child_pid(job_id)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)  # it cannot react to its lifeline: the next worker has to end it
    bench.workers[-1].kill()
    bench.workers[-1].wait(5)
    bench.worker()  # the same name: it finds the orphan in its folder
    with contextlib.suppress(TimeoutError):
        until(lambda: not psutil.pid_exists(pid), 15)
    assert not psutil.pid_exists(pid)


def kill_loader(bench: Bench, job_id: str) -> None:
    psutil.Process(bench.child_pid(job_id)).children(recursive=True)[-1].kill()


def flush_broker(bench: Bench, job_id: str) -> None:
    with redis.Redis.from_url(bench.broker_url) as client:
        client.flushall()
    assert bench.broker is not None
    bench.broker.stop()
    bench.broker.start()


KILLS = {"worker": kill_worker, "child": kill_child, "both": kill_both, "broker": flush_broker}


@pytest.mark.parametrize("kind", ["worker", "both"])
def test_a_kill_in_the_middle(bench: Bench, kind: str) -> None:
    bench.worker()
    job_id = bench.submit(**HABITS)
    bench.wait_step(job_id, 45)
    begun = time.monotonic()
    KILLS[kind](bench, job_id)
    until(lambda: len(bench.attempts(job_id)) == 2, 30)
    assert time.monotonic() - begun < float(FAST["REAP_AFTER_SECONDS"]) + 15
    assert_undisturbed(bench, job_id)
    first, second = bench.attempts(job_id)
    assert (first.exit, second.resumed_from) == ("lost", first.last_checkpoint)


def test_a_kill_during_the_export(bench: Bench) -> None:
    bench.worker()
    job_id = bench.submit(**{**HABITS, "slow": 0.5})
    until(lambda: ("export", "student.safetensors") in bench.artifacts(job_id), 60)
    kill_child(bench, job_id)
    assert_undisturbed(bench, job_id)
    first, second = bench.attempts(job_id)
    assert (first.exit, first.counted, second.resumed_from) == ("lost", False, STEPS)


def test_a_stopped_worker_wakes_up_too_late(bench: Bench) -> None:
    """SIGSTOP longer than the lease, with a second worker there; then SIGCONT: the old attempt must spoil nothing."""
    first = bench.worker("first")
    job_id = bench.submit(**{**HABITS, "steps": STEPS, "pace": 0.03})
    bench.wait_step(job_id, 25)
    bench.stop_worker(first)
    bench.worker("second")
    until(lambda: len(bench.attempts(job_id)) == 2, 30)
    bench.wait_step(job_id, 60)
    os.kill(first.pid, signal.SIGCONT)
    assert_undisturbed(bench, job_id)
    assert [attempt.worker_name for attempt in bench.attempts(job_id)] == ["first", "second"]
    first.send_signal(signal.SIGTERM)
    assert first.wait(20) == 0, bench.log()


@pytest.mark.long
@pytest.mark.parametrize("kind", list(KILLS))
@pytest.mark.timeout(600)
def test_eight_random_moments(tmp_path: Path, kind: str) -> None:
    """Eight jobs on one fleet, each disturbed once, at a moment drawn over the run's whole length."""
    moments = random.Random(f"kills-{kind}")
    bench = Bench(tmp_path)
    try:
        bench.worker()
        bench.wait(bench.submit(steps=10), "succeeded")
        for _ in range(8):
            job_id = bench.submit(**HABITS)
            bench.wake()
            bench.child_pid(job_id)
            time.sleep(moments.uniform(0.05, 3.2))
            KILLS[kind](bench, job_id)
            assert_undisturbed(bench, job_id)
            assert len(bench.attempts(job_id)) <= 2
    finally:
        bench.close()


@pytest.mark.long
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


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_two_workers_on_postgresql(tmp_path: Path, database_url: str) -> None:
    """Five deliveries to two workers start one training; the worker that has it dies; the other one ends it."""
    bench = Bench(tmp_path, database=database_url)
    try:
        workers = {name: bench.worker(name) for name in ("a", "b")}
        job_id = bench.submit(**HABITS)
        bench.wake(5)
        bench.wait_step(job_id, 45)
        (attempt,) = bench.attempts(job_id)
        workers[str(attempt.worker_name)].kill()
        assert_undisturbed(bench, job_id)
        bench.wake()
        time.sleep(1)
        names = [one.worker_name for one in bench.attempts(job_id)]
        assert sorted(map(str, names)) == ["a", "b"]
    finally:
        bench.close()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_engine_is_killed_and_its_numbers_are_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    """The real child on `scenes` with augmentation: first alone, then disturbed twice, with 0 and with 2 loaders.

    With loader processes one of those is killed, without them the child; then worker and child at once. Results do
    not depend on the number of loaders, so one undisturbed run is the measure of both.
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
            (kill_loader if loaders else kill_child)(bench, job_id)
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
    finally:
        bench.close()
