"""Kills with real processes: whatever dies, and whenever, a job ends once, with the numbers of an undisturbed run.

This is the short half, on SQLite and one kill on PostgreSQL, with the stand-in child, whose digest chain tells any lost,
repeated or mixed step. The long half is test_kill_matrix.py.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.worker.bench import Bench, until
from tests.worker.kills import HABITS, KILLS, STEPS, assert_undisturbed, kill_child

pytestmark = pytest.mark.serial


@pytest.mark.parametrize("kind", ["worker", "both", "helper"])
def test_a_kill_in_the_middle(bench: Bench, kind: str) -> None:
    bench.worker()
    job_id = bench.submit(**HABITS, helper=kind == "helper")
    bench.wait_step(job_id, 45)
    KILLS[kind](bench, job_id)
    until(lambda: len(bench.attempts(job_id)) == 2, 120)
    assert_undisturbed(bench, job_id)
    first, second = bench.attempts(job_id)
    assert (first.exit, second.resumed_from) == ("lost", first.last_checkpoint)


def test_a_kill_during_the_export(bench: Bench) -> None:
    bench.worker()
    job_id = bench.submit(**{**HABITS, "slow": 0.5})
    until(lambda: ("export", "student.safetensors") in bench.artifacts(job_id), 120)
    kill_child(bench, job_id)
    assert_undisturbed(bench, job_id)
    first, second = bench.attempts(job_id)
    assert (first.exit, first.counted, second.resumed_from) == ("lost", False, STEPS)


def test_a_stopped_worker_wakes_up_too_late(bench: Bench) -> None:
    """SIGSTOP longer than the lease, with a second worker there; then SIGCONT: the old attempt must spoil nothing."""
    first = bench.worker("first")
    job_id = bench.submit(**{**HABITS, "pace": 0.03})
    bench.wait_step(job_id, 25)
    bench.stop_worker(first)
    bench.worker("second")
    until(lambda: len(bench.attempts(job_id)) == 2, 120)
    bench.wait_step(job_id, 60)
    os.kill(first.pid, signal.SIGCONT)
    assert_undisturbed(bench, job_id)
    assert [attempt.worker_name for attempt in bench.attempts(job_id)] == ["first", "second"]
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 0, bench.log()


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
