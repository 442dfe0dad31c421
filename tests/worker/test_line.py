"""One job through a real worker process, a real Valkey and SQLite; the child is the stand-in."""

from __future__ import annotations

import json
import signal
import time

import psutil
import pytest
import redis

from acamkd_core.spec.api import JobSummary
from server.datasets import repository as datasets
from server.db.base import DEFAULT_PROJECT
from server.db.session import read_session, write_session
from server.jobs import repository as jobs
from tests.worker.bench import Bench, stand_in_digest, stand_in_losses, until
from worker.processes import processes_of

pytestmark = pytest.mark.serial


def test_a_job_ends_with_its_result_files_series_and_model(bench: Bench) -> None:
    bench.worker(log_json="true")
    teacher = bench.submit(steps=30)
    spec = {"dataset": "scenes", "student": "mobile_deeplabv3", "teacher": "job:job-0", "distill": "logit"}
    student = bench.submit_spec(
        spec | {"schedule": {"iterations": 20}}, parents=[teacher], inputs={"job:job-0": {"job": teacher}}
    )
    assert bench.job(student).state == "waiting"
    bench.wake()
    job = bench.wait(teacher, "succeeded")
    digest = stand_in_digest(30)
    assert job.reason == "done"
    assert job.metrics["test/miou"] == int(digest[:4], 16) / 655.36
    assert job.progress["iteration"] == 30
    series = bench.series(teacher)
    assert {key: value for key, value in series.items() if key[0] == "loss/total"} == dict(stand_in_losses(30))
    assert series["val/miou", 20] == int(stand_in_digest(20)[:4], 16) / 655.36
    assert series["val/iou/sky", 20] is None
    files = bench.artifacts(teacher)
    assert {("export", "student.safetensors"), ("export", "student.onnx"), ("bundle", "bundle.zip")} <= set(files)
    assert sum(kind == "panel" for kind, _ in files) == 3
    (model,) = bench.models(teacher)
    assert (model.name, model.version, model.weights_digest) == ("job-0", 1, digest)
    (attempt,) = bench.attempts(teacher)
    assert (attempt.exit, attempt.counted, attempt.worker_name) == ("succeeded", False, "w")
    lines = [json.loads(line) for line in (bench.folder / "w.log").read_text().splitlines()]
    told = [(line["event"], line["attempt"], line["level"]) for line in lines if line.get("id") == teacher]
    assert told == [("attempt begins", 1, "info"), ("attempt ends", 1, "info")]
    assert all({"timestamp", "level", "logger"} <= set(line) for line in lines)
    # the student waited, got the teacher's file, and its chain shows that the bytes were the teacher's
    child = bench.wait(student, "succeeded")
    assert child.metrics["test/miou"] != job.metrics["test/miou"]
    assert JobSummary.model_validate({"id": child.id, "name": child.name, "kind": child.kind, "state": child.state,
                                      "created_at": child.created_at, "progress": child.progress}).progress.iteration == 20  # fmt: skip


def test_an_inspection_fills_its_dataset(bench: Bench) -> None:
    job_id = bench.submit(kind="inspect")
    with write_session(bench.engine) as session:
        datasets.create(
            session, project_id=DEFAULT_PROJECT, name="streets", format="auto", root="/data", inspect_job=job_id
        )
    bench.worker()
    bench.wait(job_id, "succeeded")
    with read_session(bench.engine) as session:
        row = datasets.get(session, project_id=DEFAULT_PROJECT, ref="streets")
        assert row is not None
        assert (row.state, row.format) == ("ready", "mask_folder")  # registered as `auto`
        assert (row.images["train"], row.classes[0]["name"]) == (3, "road")
        assert row.contact_sheet is not None


def test_a_users_mistake_a_crash_and_a_hopeless_crash(bench: Bench) -> None:
    wrong = bench.submit(fail=True)
    crashing = bench.submit(steps=40, crash_at=25)
    hopeless = bench.submit_spec(
        {
            "dataset": "scenes",
            "student": "mobile_deeplabv3",
            "schedule": {"iterations": 9},
            "notes": json.dumps({"crash_at": 2}),
        },
        max_attempts=1,
    )
    bench.worker(slots="3")
    job = bench.wait(wrong, "failed")
    assert (job.reason, job.error["code"], job.error["field"]) == ("spec_or_data", "dataset.empty", "dataset")  # type: ignore[index]
    job = bench.wait(crashing, "succeeded")
    assert {key: value for key, value in bench.series(crashing).items() if key[0] == "loss/total"} == dict(
        stand_in_losses(40)
    )
    first, second = bench.attempts(crashing)
    assert (first.exit, first.reason, second.resumed_from) == ("lost", "bug", 20)
    job = bench.wait(hopeless, "failed")
    assert (job.reason, job.error["code"], job.error["value"]) == ("bug", "job.crashed", 9)  # type: ignore[index]


def test_cancel_leaves_no_process_behind(bench: Bench) -> None:
    """Even a child that ignores SIGTERM, with a grandchild in a session of its own."""
    bench.worker()
    job_id = bench.submit(steps=100_000, every=100_000, pace=0.01, stubborn=True, spawn=True)
    until(lambda: len(processes_of(job_id)) == 2, 120)
    with write_session(bench.engine) as session:
        job = jobs.lock(session, project_id=DEFAULT_PROJECT, ref=job_id)
        assert job is not None
        jobs.request_cancel(session, job=job)
    job = bench.wait(job_id, "cancelled")
    assert job.reason == "user_cancel"
    assert processes_of(job_id) == []


def test_pause_and_release_use_up_no_attempt(bench: Bench) -> None:
    first = bench.worker("first")
    job_id = bench.submit(steps=300, every=100_000, pace=0.02)
    bench.wait_step(job_id, 5)
    with write_session(bench.engine) as session:
        job = jobs.lock(session, project_id=DEFAULT_PROJECT, ref=job_id)
        assert job is not None
        jobs.request_pause(session, job=job)
    bench.wait(job_id, "paused")
    with write_session(bench.engine) as session:
        job = jobs.lock(session, project_id=DEFAULT_PROJECT, ref=job_id)
        assert job is not None
        jobs.resume(session, job=job)
    bench.wake()
    bench.wait(job_id, "running")
    time.sleep(1.0)
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 0, bench.log()
    assert bench.job(job_id).state == "queued"
    assert bench.job(job_id).reason == "released"
    bench.worker("second")
    bench.wait(job_id, "succeeded")
    exits = [(attempt.exit, attempt.counted) for attempt in bench.attempts(job_id)]
    assert exits == [("paused", False), ("released", False), ("succeeded", False)]
    assert {key: value for key, value in bench.series(job_id).items() if key[0] == "loss/total"} == dict(
        stand_in_losses(300)
    )


def listening(bench: Bench) -> int:
    """How many workers wait at the broker for a message."""
    with redis.Redis.from_url(bench.broker_url) as client:
        return sum(one["cmd"] == "brpop" for one in client.client_list())


def test_five_wake_ups_for_two_workers_start_one_training(bench: Bench) -> None:
    bench.worker("a", poll_seconds="600")
    bench.worker("b", poll_seconds="600")
    until(lambda: listening(bench) == 2, 120)
    time.sleep(1)  # both have looked once: only messages can start the job now
    job_id = bench.submit(steps=100, pace=0.01)
    bench.wake(5)
    bench.wait(job_id, "succeeded", seconds=90)  # polls are ten minutes apart
    bench.wake()
    time.sleep(1)
    assert [attempt.exit for attempt in bench.attempts(job_id)] == ["succeeded"]
    assert len(bench.models(job_id)) == 1


def test_a_dead_broker_costs_seconds(bench: Bench) -> None:
    assert bench.broker is not None
    bench.broker.stop()
    worker = bench.worker()
    job_id = bench.submit(steps=10)
    bench.wait(job_id, "succeeded")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0, bench.log()


def test_a_job_goes_to_a_worker_with_its_labels(bench: Bench) -> None:
    bench.worker("plain")
    until(lambda: bench.seen_workers() == {"plain"}, 120)
    job_id = bench.submit_spec(
        {
            "dataset": "scenes",
            "student": "mobile_deeplabv3",
            "schedule": {"iterations": 10},
            "resources": {"labels": ["big"]},
        },
        labels=["big"],
    )
    bench.wait(bench.submit(steps=10), "succeeded")  # younger, and it passes the one that waits
    assert bench.job(job_id).state == "queued"
    bench.worker("large", labels="fast,big")
    bench.wait(job_id, "succeeded")
    assert [attempt.worker_name for attempt in bench.attempts(job_id)] == ["large"]


def test_the_child_sees_no_secret(bench: Bench) -> None:
    bench.environment |= {"ACAMKD_STORAGE_SECRET": "s3cret", "MY_TOKEN": "s3cret"}
    bench.worker()
    job_id = bench.submit(steps=500, pace=0.05)
    seen = psutil.Process(bench.child_pid(job_id)).environ()
    assert seen["ACAMKD_JOB_ID"] == job_id
    assert seen["CUDA_VISIBLE_DEVICES"] == ""
    assert not [name for name, value in seen.items() if "s3cret" in value or bench.broker_url in value]
    assert {name for name in seen if name.startswith("ACAMKD_")} == {"ACAMKD_JOB_ID", "ACAMKD_ATTEMPT"}
