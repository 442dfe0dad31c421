"""Creating, finding and listing jobs; what attempts say; series as they are drawn. On both databases."""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from acamkd_core.spec.errors import CoreError
from server.db.base import DEFAULT_PROJECT, new_id
from server.db.session import read_session, write_session
from server.db.tables import MetricPoint, Project
from server.jobs.repository import (
    Report,
    dependencies,
    end_involuntarily,
    event_heads,
    events_after,
    get,
    list_jobs,
    logs_after,
    metric_names,
    queue_position,
    read_series,
    series_mean,
    state_counts,
    update_labels,
    write_report,
)
from tests.server.factories import claim_one, make_job, read_job


def running(engine: Engine) -> dict[str, Any]:
    """A running job's fence."""
    make_job(engine)
    claim = claim_one(engine)
    assert claim is not None
    return {"job_id": claim.job_id, "attempt": claim.attempt}


def say(engine: Engine, fence: dict[str, Any], **parts: Any) -> None:
    with write_session(engine) as session:
        write_report(session, **fence, report=Report(**parts))


def test_the_same_idempotency_key_makes_one_job_even_at_once(engine: Engine) -> None:
    barrier = threading.Barrier(4)
    made: list[str] = []

    def submit() -> None:
        barrier.wait()
        made.append(make_job(engine, idempotency_key="k1", body_hash="h1").id)

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert len(set(made)) == 1
    with pytest.raises(CoreError) as refused:
        make_job(engine, idempotency_key="k1", body_hash="other")
    assert refused.value.code == "job.idempotency_conflict"
    assert make_job(engine, idempotency_key="k2", body_hash="h1").id != made[0]


def test_names_are_unique_within_a_project(engine: Engine) -> None:
    first = make_job(engine, name="brave-otter")
    with pytest.raises(CoreError) as refused:
        make_job(engine, name="brave-otter")
    assert (refused.value.code, refused.value.info.field) == ("job.name_taken", "name")
    other = make_job(engine, name="calm-heron")
    with write_session(engine) as session:
        job = get(session, project_id=DEFAULT_PROJECT, ref=other.id)
        assert job is not None
        with pytest.raises(CoreError, match="brave-otter"):
            update_labels(session, job=job, name="brave-otter")
    assert read_job(engine, "brave-otter").id == first.id


def test_another_project_sees_nothing(engine: Engine) -> None:
    job = make_job(engine, name="mine")
    other = new_id()
    with write_session(engine) as session:
        session.add(Project(id=other, name="other"))
    with read_session(engine) as session:
        for ref in (job.id, "mine"):
            assert get(session, project_id=other, ref=ref) is None
        assert list_jobs(session, project_id=other) == ([], None, 0)
        assert event_heads(session, project_id=other, job_ids=[job.id]) == {}
        assert state_counts(session, project_id=other) == {}
    with pytest.raises(CoreError) as refused:
        make_job(engine, project_id=other, parents=[job.id])
    assert refused.value.code == "job.parent_missing"
    make_job(engine, project_id=other, name="mine")  # names do not collide across projects


def test_pages_cover_every_job_once_newest_first(engine: Engine) -> None:
    ids = [make_job(engine, tags=["night", "a b"] if n % 2 else ["night-shift"]).id for n in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        with read_session(engine) as session:
            rows, cursor, total = list_jobs(session, project_id=DEFAULT_PROJECT, cursor=cursor, limit=3)
        assert total == 7
        seen += [row.id for row in rows]
        if cursor is None:
            break
    assert seen == ids[::-1]
    with read_session(engine) as session:
        for tag, count in (("night", 3), ("a b", 3), ("night-shift", 4), ("nigh", 0), ("%", 0)):
            assert list_jobs(session, project_id=DEFAULT_PROJECT, tag=tag)[2] == count, tag
        assert list_jobs(session, project_id=DEFAULT_PROJECT, states=["running", "failed"])[2] == 0
        assert list_jobs(session, project_id=DEFAULT_PROJECT, search=read_job(engine, ids[2]).name[-12:])[2] == 1
        assert list_jobs(session, project_id=DEFAULT_PROJECT, search="_%")[2] == 0, "no wildcards from outside"


def test_position_and_parents(engine: Engine) -> None:
    first, urgent, last = make_job(engine), make_job(engine, priority=3), make_job(engine)
    child = make_job(engine, parents=[first.id, last.id])
    with read_session(engine) as session:
        assert [queue_position(session, job=job) for job in (urgent, first, last, child)] == [1, 2, 3, None]
        assert [job.id for job in dependencies(session, job_id=child.id)] == [first.id, last.id]


def test_points_written_again_after_a_rewind_replace_the_old_ones(engine: Engine) -> None:
    fence = running(engine)
    say(engine, fence, points=[("loss/total", step, float(step)) for step in range(1, 11)])
    with write_session(engine) as session:
        end_involuntarily(session, **fence)
    claim = claim_one(engine)
    assert claim is not None
    again = {"job_id": claim.job_id, "attempt": claim.attempt}
    say(engine, again, points=[("loss/total", step, step + 0.5) for step in range(6, 13)] + [("loss/total", 12, 99.0)])
    with read_session(engine) as session:
        (series,) = read_series(session, job_id=claim.job_id)
        attempts = select(MetricPoint.attempt).where(MetricPoint.job_id == claim.job_id).order_by(MetricPoint.step)
        assert list(session.scalars(attempts)) == [1] * 5 + [2] * 7
    assert series.x == list(range(1, 13))
    assert series.y == [1, 2, 3, 4, 5, 6.5, 7.5, 8.5, 9.5, 10.5, 11.5, 99.0]


def test_thinned_series_keep_extremes_and_gaps(engine: Engine) -> None:
    fence = running(engine)
    count, points = 20_000, 100
    values: list[float | None] = [math.sin(step / 50) for step in range(count)]
    values[7_777], values[12_345], values[15_001] = 40.0, -60.0, math.nan
    say(engine, fence, points=[("loss/acam", step, value) for step, value in enumerate(values)])
    say(engine, fence, points=[("val/miou", 10_000, 31.5), ("lr", 1, 0.1), ("loss/task", 1, math.inf)])
    with read_session(engine) as session:
        series = {one.name: one for one in read_series(session, job_id=fence["job_id"], points=points)}
        patterns = read_series(session, job_id=fence["job_id"], names=["loss/*", "lr"], points=points)
        assert metric_names(session, job_id=fence["job_id"]) == ["loss/acam", "loss/task", "lr", "val/miou"]
        mean = series_mean(session, job_id=fence["job_id"], name="loss/acam")
    assert [one.name for one in patterns] == ["loss/acam", "loss/task", "lr"]
    assert (series["val/miou"].y, series["val/miou"].low) == ([31.5], None)
    assert series["loss/task"].y == [None]
    acam = series["loss/acam"]
    assert acam.low is not None
    assert acam.high is not None
    assert (len(acam.x), acam.points_total, acam.x[-1]) == (points, count, count - 1)
    assert max(value for value in acam.high if value is not None) == 40.0
    assert min(value for value in acam.low if value is not None) == -60.0
    assert [index for index, value in enumerate(acam.y) if value is None] == [15_001 * points // count]
    # the buckets again, by hand
    width = count // points
    for index in (0, 38, 61, 99):
        bucket = [value for value in values[index * width : (index + 1) * width] if value is not None]
        assert acam.y[index] == pytest.approx(sum(bucket) / len(bucket), abs=1e-12)
        assert (acam.low[index], acam.high[index]) == (min(bucket), max(bucket))
    finite = [value for value in values if value is not None and math.isfinite(value)]
    assert mean == pytest.approx(sum(finite) / len(finite), abs=1e-12)


def test_other_horizontal_axes(engine: Engine) -> None:
    fence = running(engine)
    seconds = [("time/device_seconds", step, 2.0 * step) for step in (10, 20)]
    say(engine, fence, points=[*seconds, ("loss/total", 5, 1.0), ("loss/total", 15, 2.0), ("loss/total", 20, 3.0)])
    with read_session(engine) as session:
        key = {"job_id": fence["job_id"], "names": ["loss/total"]}
        assert read_series(session, **key, x="images", images_per_iteration=8)[0].x == [40, 120, 160]
        assert read_series(session, **key, x="device_seconds")[0].x == [10, 30, 40]


def test_events_have_no_gap_for_a_reader_who_follows(engine: Engine) -> None:
    fence = running(engine)
    job_id = fence["job_id"]
    seen = read_job(engine, job_id).event_seq
    for step in range(1, 4):
        alarm = {"iteration": 2, "info": {"code": "mask.collapsed"}}  # the same alarm, raised again
        events = [("evaluation", {"iteration": step}), ("alarm", alarm)]
        say(
            engine,
            fence,
            events=events,
            progress={"iteration": step},
            points=[("a", step, 1.0)],
            facts={"p": {step: 1}},
        )
    with read_session(engine) as session:
        assert event_heads(session, project_id=DEFAULT_PROJECT) == {job_id: seen + 12}
        events = events_after(session, job_id=job_id, seq=seen)
    kinds = [(event.seq - seen, event.kind) for event in events]
    # of progress and metrics only the newest is kept: 3 and 4, 7 and 8 have been replaced by 11 and 12
    assert kinds == [
        (n, k)
        for n, k in zip(range(1, 13), ["evaluation", "alarm", "progress", "metrics"] * 3, strict=True)
        if n > 8 or k in ("evaluation", "alarm")
    ]
    assert events[-1].data == {"iteration": 3, "names": ["a"]}
    job = read_job(engine, job_id)
    assert (job.alarms, job.progress["iteration"], job.facts) == (1, 3, {"p": {"1": 1, "2": 1, "3": 1}})


def test_logs_take_whatever_a_child_prints(engine: Engine) -> None:
    fence = running(engine)
    now = datetime.now(UTC)
    lines = ["plain", "nul \x00 inside", "lone \ud800 surrogate", "x" * 20_000]
    say(engine, fence, logs=[(now, "info", line) for line in lines])
    say(engine, fence, logs=[(now, "error", "last")])
    with read_session(engine) as session:
        rows = logs_after(session, job_id=fence["job_id"])
        assert [row.n for row in rows] == [1, 2, 3, 4, 5]
        assert [row.text for row in rows[:3]] == ["plain", "nul  inside", "lone ? surrogate"]
        assert len(rows[3].text) == 8_000
        assert [row.n for row in logs_after(session, job_id=fence["job_id"], after=3)] == [4, 5]
        assert [row.text for row in logs_after(session, job_id=fence["job_id"], tail=1)] == ["last"]


def test_a_batch_is_all_or_nothing(engine: Engine) -> None:
    fence = running(engine)
    bad = Report(points=[("a", 1, 1.0)], logs=[(datetime(2026, 1, 1), "info", "no zone")])  # noqa: DTZ001
    with pytest.raises(Exception, match="zone"), write_session(engine) as session:
        write_report(session, **fence, report=bad)
    with read_session(engine) as session:
        assert session.scalar(select(func.count()).select_from(MetricPoint)) == 0
