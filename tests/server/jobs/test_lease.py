"""Claiming, the fence, releases, lost workers and what an end means for children: on both databases."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import Engine, select

from acamkd_core.spec.errors import ErrorInfo
from server.artifacts import repository as artifacts
from server.db.base import DEFAULT_PROJECT
from server.db.session import read_session, write_session
from server.db.tables import Attempt, Job, JobEvent
from server.jobs.repository import (
    Claim,
    Fenced,
    Lease,
    Report,
    end_involuntarily,
    finish,
    heartbeat,
    list_attempts,
    list_leases,
    lock,
    reap,
    release,
    request_cancel,
    request_pause,
    resume,
    set_pid,
    write_report,
)
from server.jobs.states import IllegalTransition
from tests.server.factories import claim_one, make_job, read_job

DIGEST = "a" * 64


def claimed(engine: Engine, **overrides: object) -> Claim:
    claim = claim_one(engine, **overrides)
    assert claim is not None
    return claim


def ask(engine: Engine, request: object, job_id: str) -> None:
    with write_session(engine) as session:
        job = lock(session, project_id=DEFAULT_PROJECT, ref=job_id)
        request(session, job=job)  # type: ignore[operator]


def lose(engine: Engine, claim: Claim) -> str:
    with write_session(engine) as session:
        return end_involuntarily(session, job_id=claim.job_id, attempt=claim.attempt)


def commit_checkpoint(engine: Engine, claim: Claim, iteration: int, digest: str = DIGEST, best: bool = False) -> None:
    with write_session(engine) as session:
        artifacts.add_checkpoint(
            session,
            job_id=claim.job_id,
            attempt=claim.attempt,
            sha256=digest,
            size=1,
            iteration=iteration,
            is_best=best,
        )


@pytest.mark.parametrize("jobs", [1, 3])
def test_of_five_claimers_as_many_win_as_there_are_jobs(engine: Engine, jobs: int) -> None:
    ids = {make_job(engine).id for _ in range(jobs)}
    barrier = threading.Barrier(5)
    won: list[Claim | None] = []

    def race(number: int) -> None:
        barrier.wait()
        won.append(claim_one(engine, worker_id=f"w{number}"))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    claims = [claim for claim in won if claim is not None]
    # a claimer that skips a locked row may leave empty-handed, but no job is taken twice and none is left for long
    while (late := claim_one(engine)) is not None:
        claims.append(late)
    assert sorted(claim.job_id for claim in claims) == sorted(ids)
    with read_session(engine) as session:
        assert len(list(session.scalars(select(Attempt)))) == jobs


def test_order_is_priority_then_age_among_what_fits(engine: Engine) -> None:
    old = make_job(engine)
    urgent_gpu = make_job(engine, priority=9, gpus=2)
    labelled = make_job(engine, priority=8, labels=["big-memory"])
    urgent = make_job(engine, priority=5)
    inspect = make_job(engine, kind="inspect")
    assert claimed(engine, kinds=["inspect"]).job_id == inspect.id
    assert claimed(engine).job_id == urgent.id
    assert claimed(engine).job_id == old.id
    assert claim_one(engine, gpus=1) is None
    assert claimed(engine, gpus=1, labels=["big-memory", "x"]).job_id == labelled.id
    assert claimed(engine, gpus=2, devices=["0", "1"]).job_id == urgent_gpu.id


def test_every_write_of_a_lost_attempt_is_refused(engine: Engine) -> None:
    make_job(engine)
    old = claimed(engine)
    assert lose(engine, old) == "queued"
    new = claimed(engine)
    assert (new.job_id, new.attempt) == (old.job_id, 2)
    before = read_job(engine, new.job_id)
    key = {"job_id": old.job_id, "attempt": old.attempt}
    writes = [
        lambda s: heartbeat(s, **key),
        lambda s: set_pid(s, **key, pid=1),
        lambda s: write_report(s, **key, report=Report(points=[("loss/total", 1, 0.5)])),
        lambda s: artifacts.add_checkpoint(s, **key, sha256=DIGEST, size=1, iteration=5, is_best=True),
        lambda s: artifacts.add(s, **key, kind="export", name="m", format="onnx", sha256=DIGEST, size=1),
        lambda s: artifacts.add_panel(s, **key, sha256=DIGEST, size=1, iteration=1, image=0, kind="error"),
        lambda s: release(s, **key),
        lambda s: end_involuntarily(s, **key),
        lambda s: finish(s, **key, state="succeeded", reason="done"),
    ]
    for write in writes:
        with pytest.raises(Fenced), write_session(engine) as session:
            write(session)
    after = read_job(engine, new.job_id)
    assert (after.state, after.attempt, after.event_seq) == ("running", 2, before.event_seq)
    with read_session(engine) as session:
        assert artifacts.list_for_job(session, job_id=old.job_id) == []


def test_releases_and_pauses_use_up_nothing(engine: Engine) -> None:
    job = make_job(engine, max_attempts=1)
    for pause in (False, True, False):
        claim = claimed(engine)
        if pause:
            ask(engine, request_pause, job.id)
            with write_session(engine) as session:
                assert heartbeat(session, job_id=job.id, attempt=claim.attempt).pause
        with write_session(engine) as session:
            state = release(session, job_id=job.id, attempt=claim.attempt)
        assert state == ("paused" if pause else "queued")
        if pause:
            assert claim_one(engine) is None
            ask(engine, resume, job.id)
    with read_session(engine) as session:
        attempts = list_attempts(session, job_id=job.id)
    assert [(one.exit, one.counted) for one in attempts] == [
        ("released", False),
        ("paused", False),
        ("released", False),
    ]


def test_only_ends_without_a_newer_checkpoint_count(engine: Engine) -> None:
    job = make_job(engine, max_attempts=2)
    for round_ in range(4):  # each of these gets further, so none counts
        claim = claimed(engine)
        assert claim.checkpoint_iteration == (round_ * 10 or None)
        commit_checkpoint(engine, claim, (round_ + 1) * 10)
        assert lose(engine, claim) == "queued"
    assert lose(engine, claimed(engine)) == "queued"
    assert lose(engine, claimed(engine)) == "failed"
    ended = read_job(engine, job.id)
    assert (ended.state, ended.reason) == ("failed", "worker_lost")
    assert ended.error is not None
    assert ended.error["code"] == "job.worker_lost"
    with read_session(engine) as session:
        assert [one.counted for one in list_attempts(session, job_id=job.id)] == [False] * 4 + [True] * 2


def test_progress_before_iteration_0_is_progress(engine: Engine) -> None:
    """A method's stage before distillation writes its checkpoints at iteration 0, each over the one before."""
    job = make_job(engine, max_attempts=2)
    for round_ in range(3):
        claim = claimed(engine)
        assert claim.checkpoint_iteration == (0 if round_ else None)
        commit_checkpoint(engine, claim, 0)
        assert lose(engine, claim) == "queued"
    assert lose(engine, claimed(engine)) == "queued"
    assert lose(engine, claimed(engine)) == "failed"
    with read_session(engine) as session:
        assert [one.counted for one in list_attempts(session, job_id=job.id)] == [False] * 3 + [True] * 2


def test_a_resume_starts_from_the_newest_committed_checkpoint_and_old_ones_retire(engine: Engine) -> None:
    job = make_job(engine)
    claim = claimed(engine)
    for number, best in ((1, False), (2, True), (3, False), (4, False), (5, False)):
        commit_checkpoint(engine, claim, number * 100, digest=str(number) * 64, best=best)
    with read_session(engine) as session:
        rows = artifacts.list_for_job(session, job_id=job.id)
        assert [(row.iteration, row.is_best, row.is_last) for row in rows] == [
            (200, True, False),
            (400, False, False),
            (500, False, True),
        ]
        assert set(artifacts.retired(session, older_than_seconds=0)) == {"1" * 64, "3" * 64}
        assert artifacts.retired(session, older_than_seconds=60) == []
    lose(engine, claim)
    again = claimed(engine)
    assert (again.checkpoint, again.checkpoint_iteration) == ("5" * 64, 500)


def test_reaping_is_a_compare_and_set(engine: Engine) -> None:
    job = make_job(engine)
    claim = claimed(engine)
    with read_session(engine) as session:
        (lease,) = list_leases(session)
    with write_session(engine) as session:
        heartbeat(session, job_id=job.id, attempt=claim.attempt)
    with write_session(engine) as session:
        assert reap(session, lease=lease) is None, "it beat again since it was read"
    with read_session(engine) as session:
        (lease,) = list_leases(session)
    results: list[str | None] = []
    barrier = threading.Barrier(3)

    def reaper() -> None:
        barrier.wait()
        with write_session(engine) as session:
            results.append(reap(session, lease=lease))

    threads = [threading.Thread(target=reaper) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results, key=str) == [None, None, "queued"]
    with read_session(engine) as session:
        assert [one.exit for one in list_attempts(session, job_id=job.id)] == ["lost"]
    assert read_job(engine, job.id).reason == "worker_lost"


def test_a_cancel_without_live_lease_is_completed_by_the_reaper(engine: Engine) -> None:
    job = make_job(engine)
    claim = claimed(engine)
    ask(engine, request_cancel, job.id)
    assert read_job(engine, job.id).state == "running"
    with write_session(engine) as session:
        beat = heartbeat(session, job_id=job.id, attempt=claim.attempt)
    assert beat.cancel
    with write_session(engine) as session:
        assert reap(session, lease=Lease(job.id, claim.attempt, beat.beat)) == "cancelled"
    ended = read_job(engine, job.id)
    assert (ended.reason, ended.ended_at is not None) == ("user_cancel", True)
    ask(engine, request_cancel, job.id)  # twice is fine
    with pytest.raises(IllegalTransition):
        ask(engine, resume, job.id)


def test_children_wait_for_all_parents_and_then_queue(engine: Engine) -> None:
    teacher, ratio = make_job(engine, name="teacher"), make_job(engine, name="ratio")
    child = make_job(engine, parents=[teacher.id, ratio.id], inputs={"job:teacher": {"job": teacher.id}})
    assert (child.state, child.reason) == ("waiting", "waits_for_teacher")
    first = claimed(engine)
    with write_session(engine) as session:
        artifacts.add(
            session,
            job_id=first.job_id,
            attempt=1,
            kind="export",
            name="student.safetensors",
            format="safetensors",
            sha256=DIGEST,
            size=7,
        )
        finish(session, job_id=first.job_id, attempt=1, state="succeeded", reason="done", metrics={"test/miou": 41.5})
    assert read_job(engine, child.id).state == "waiting"
    second = claimed(engine)
    with write_session(engine) as session:
        finish(session, job_id=second.job_id, attempt=1, state="succeeded", reason="early_stop")
    assert read_job(engine, child.id).state == "queued"
    got = claimed(engine)
    assert got.job_id == child.id
    assert got.inputs == {"job:teacher": {"sha256": DIGEST, "name": "student.safetensors", "bytes": 7}}
    assert make_job(engine, parents=[teacher.id]).state == "queued", "its parent has succeeded already"


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_a_parent_without_success_fails_all_its_descendants_at_once(engine: Engine, how: str) -> None:
    parent = make_job(engine, name="teacher")
    child = make_job(engine, parents=[parent.id])
    grandchild = make_job(engine, parents=[child.id])
    bystander = make_job(engine)
    if how == "failed":
        claim = claimed(engine)
        error = ErrorInfo(code="train.non_finite", message="the loss is not finite")
        with write_session(engine) as session:
            finish(session, job_id=claim.job_id, attempt=1, state="failed", reason="non_finite_loss", error=error)
    else:
        ask(engine, request_cancel, parent.id)
    for one in (child, grandchild):
        ended = read_job(engine, one.id)
        assert (ended.state, ended.reason) == ("failed", "dependency_failed")
        assert ended.error is not None
        assert ended.ended_at is not None
    assert read_job(engine, child.id).error["value"] == "teacher"
    assert read_job(engine, bystander.id).state == "queued"
    with read_session(engine) as session:
        kinds = select(JobEvent.data).where(JobEvent.job_id == grandchild.id).order_by(JobEvent.seq)
        assert [data["state"] for data in session.scalars(kinds)] == ["waiting", "failed"]


def test_two_parents_that_end_at_the_same_moment_release_their_child(engine: Engine) -> None:
    for _ in range(5):
        parents = [make_job(engine), make_job(engine)]
        child = make_job(engine, parents=[parent.id for parent in parents])
        claims = [claimed(engine), claimed(engine)]
        barrier = threading.Barrier(2)

        def end(claim: Claim, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            with write_session(engine) as session:
                finish(session, job_id=claim.job_id, attempt=1, state="succeeded", reason="done")

        threads = [threading.Thread(target=end, args=(claim,)) for claim in claims]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert read_job(engine, child.id).state == "queued"
        assert claimed(engine).job_id == child.id


def test_nothing_follows_an_end(engine: Engine) -> None:
    job = make_job(engine)
    claim = claimed(engine)
    with write_session(engine) as session:
        finish(session, job_id=job.id, attempt=claim.attempt, state="succeeded", reason="done")
    for again in ("succeeded", "failed"):
        with pytest.raises(Fenced), write_session(engine) as session:
            finish(session, job_id=job.id, attempt=claim.attempt, state=again, reason="done")
    assert claim_one(engine) is None
    with read_session(engine) as session:
        row = session.get_one(Job, job.id)
        events = list(session.scalars(select(JobEvent).where(JobEvent.job_id == job.id).order_by(JobEvent.seq)))
    assert [event.seq for event in events] == list(range(1, row.event_seq + 1))
    assert [event.kind for event in events] == ["state", "state", "attempt", "state", "result"]
