"""What runs out: memory, disk, time, and the store that goes away for a while. Real limits of a real kernel."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from server.artifacts.repository import newest_checkpoint
from server.db.base import DEFAULT_PROJECT
from server.db.session import read_session, write_session
from server.db.tables import JobLog
from server.jobs import repository as jobs
from server.jobs.fixes import fixes_for
from tests.services import small_disk, small_memory
from tests.worker.bench import Bench, stand_in_digest, stand_in_losses, until

pytestmark = pytest.mark.serial


def told(bench: Bench, job_id: str) -> str:
    """The job's own log, as its user reads it."""
    with read_session(bench.engine) as session:
        return "\n".join(session.scalars(select(JobLog.text).where(JobLog.job_id == job_id).order_by(JobLog.n)))


def ask(bench: Bench, job_id: str, request: Callable[..., None]) -> None:
    """What a user's click does."""
    with write_session(bench.engine) as session:
        job = jobs.lock(session, project_id=DEFAULT_PROJECT, ref=job_id)
        assert job is not None
        request(session, job=job)


def checkpoints(bench: Bench, job_id: str) -> list[str]:
    return sorted(name for kind, name in bench.artifacts(job_id) if kind == "checkpoint")


def test_a_full_store_never_costs_the_last_good_checkpoint(tmp_path: Path) -> None:
    """Room for two checkpoints: the third is not kept and says so; after a kill the run goes on from the second."""
    with small_disk(tmp_path / "store", 4) as store:
        bench = Bench(tmp_path, broker=False)
        bench.environment["ACAMKD_STORAGE_URL"] = str(store / "blobs")
        try:
            bench.worker()
            job_id = bench.submit(steps=100, every=20, pace=0.05, weight=1.6, crash_at=75)
            until(lambda: "no space left" in told(bench, job_id), 60)
            job = bench.wait(job_id, "failed")  # the last export has no room either: no success without its files
            assert (job.error or {})["code"] == "storage.full"
            first, second = bench.attempts(job_id)
            assert (first.exit, first.last_checkpoint, second.resumed_from) == ("lost", 40, 40)
            losses = {key: value for key, value in bench.series(job_id).items() if key[0] == "loss/total"}
            assert losses == dict(stand_in_losses(100))
            assert checkpoints(bench, job_id) == ["iteration-00000020.ckpt", "iteration-00000040.ckpt"]
            assert "bundle.zip is not kept" in told(bench, job_id)
            assert bench.models(job_id) == []
        finally:
            bench.close()


def test_a_store_that_goes_away_and_comes_back_costs_nothing(bench: Bench) -> None:
    blobs = bench.folder / "data" / "blobs"
    bench.worker()
    job_id = bench.submit(steps=60, every=10, pace=0.05)
    bench.wait_step(job_id, 12)
    until(lambda: len(checkpoints(bench, job_id)) == 1, 30)
    shutil.move(blobs, bench.folder / "away")
    blobs.write_text("no folder")
    until(lambda: "waits:" in told(bench, job_id), 60)
    time.sleep(2)
    blobs.unlink()
    shutil.move(bench.folder / "away", blobs)
    job = bench.wait(job_id, "succeeded", seconds=120)
    assert job.metrics["test/miou"] == int(stand_in_digest(60)[:4], 16) / 655.36
    assert {kind for kind, _ in bench.artifacts(job_id)} == {"checkpoint", "panel", "export", "bundle"}
    assert sum(kind == "panel" for kind, _ in bench.artifacts(job_id)) == 6
    assert len(bench.attempts(job_id)) == 1


def damaged(bench: Bench, job_id: str) -> Path:
    """The blob of the newest checkpoint."""
    with read_session(bench.engine) as session:
        row = newest_checkpoint(session, job_id=job_id)
    assert row is not None
    return bench.folder / "data" / "blobs" / row.sha256[:2] / row.sha256


def test_a_damaged_checkpoint_is_named_and_an_absent_store_is_waited_for(bench: Bench) -> None:
    bench.worker()
    job_id = bench.submit(steps=400, every=10, pace=0.02)
    bench.wait_step(job_id, 15)
    until(lambda: len(checkpoints(bench, job_id)) > 0, 60)
    ask(bench, job_id, jobs.request_pause)
    bench.wait(job_id, "paused")
    blobs, away = bench.folder / "data" / "blobs", bench.folder / "away"
    shutil.move(blobs, away)
    blobs.write_text("no folder")
    ask(bench, job_id, jobs.resume)
    bench.wait(job_id, "running")
    time.sleep(2)
    assert bench.job(job_id).state == "running", "it waits for the store"
    ask(bench, job_id, jobs.request_pause)
    bench.wait(job_id, "paused")
    assert not any(attempt.counted for attempt in bench.attempts(job_id))
    blobs.unlink()
    shutil.move(away, blobs)
    blob = damaged(bench, job_id)
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    ask(bench, job_id, jobs.resume)
    job = bench.wait(job_id, "failed")
    assert (job.error or {})["code"] == "storage.corrupt"


def test_a_workers_full_disk_is_named_and_another_worker_takes_the_job(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 1) as small:
        bench = Bench(tmp_path, broker=False)
        try:
            bench.environment["ACAMKD_STORAGE_URL"] = str(tmp_path / "store")
            full = bench.worker("full", data_dir=str(small))
            until(lambda: bench.seen_workers() == {"full"}, 120)
            (small / "filler").write_bytes(b"x" * (shutil.disk_usage(small).free))
            job_id = bench.submit(steps=10)
            job = bench.wait(job_id, "failed")
            assert (job.reason, (job.error or {})["code"]) == ("worker_lost", "worker.disk_full")
            assert [attempt.counted for attempt in bench.attempts(job_id)] == [True] * 3
            full.terminate()
            full.wait(60)
            bench.worker("roomy")
            bench.wait(bench.submit(steps=10), "succeeded")
        finally:
            bench.close()


def test_the_time_limit_ends_a_run_and_a_retry_goes_on(bench: Bench) -> None:
    bench.worker()
    spec = {
        "dataset": "scenes",
        "student": "mobile_deeplabv3",
        "schedule": {"iterations": 100},
        "checkpoint": {"every": 10},
        "notes": '{"pace": 0.05}',
    }
    job_id = bench.submit_spec(spec, max_hours=2 / 3600)
    job = bench.wait(job_id, "failed")
    assert (job.reason, (job.error or {})["field"]) == ("time_limit", "resources.max_hours")
    (attempt,) = bench.attempts(job_id)
    assert not attempt.counted
    assert attempt.last_checkpoint
    (fix,) = fixes_for(job, has_checkpoint=True)
    assert fix["from_checkpoint"]
    assert fix["set"] == {"resources.max_hours": pytest.approx(4 / 3600)}
    with read_session(bench.engine) as session:
        checkpoint = newest_checkpoint(session, job_id=job_id)
        assert checkpoint is not None
    again = bench.submit_spec({**spec, "name": "again"}, start_checkpoint=checkpoint.id, retry_of=job_id)
    done = bench.wait(again, "succeeded")
    assert done.metrics["test/miou"] == int(stand_in_digest(100)[:4], 16) / 655.36
    (attempt,) = bench.attempts(again)
    assert attempt.resumed_from == checkpoint.iteration


def test_out_of_memory_is_named_when_the_kernel_says_so(bench: Bench) -> None:
    """Worker and child in one small control group: the kernel ends the child, the worker lives and knows why."""
    with small_memory(400) as group:
        worker = bench.worker()
        (group / "cgroup.procs").write_text(str(worker.pid))
        try:
            job_id = bench.submit_spec(
                {"dataset": "scenes", "student": "mobile_deeplabv3", "notes": '{"hog": 600}'}, max_attempts=1
            )
            job = bench.wait(job_id, "failed")
            assert (job.reason, (job.error or {})["code"]) == ("out_of_memory", "job.out_of_memory")
            assert worker.poll() is None
            label = fixes_for(job, has_checkpoint=False)[0]["label"]
            assert label == "retry with batch 4 x 2"
            fine = bench.submit(steps=10)
            bench.wait(fine, "succeeded")
        finally:
            bench.close()
