"""Units of work: no lost update, no write in a reader, nothing left of a unit that failed."""

from __future__ import annotations

import contextlib
import multiprocessing
import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from server.db.base import DEFAULT_PROJECT, dump_json, new_id
from server.db.session import make_engine, read_session, write_session
from server.db.tables import AuditEntry, Job, JobLog, Project

PROCESSES, WRITES = 4, 500


def _count_up(url: str) -> None:
    engine = make_engine(url)
    for _ in range(WRITES):
        with write_session(engine) as session:
            row = session.get_one(Project, DEFAULT_PROJECT, with_for_update=True)
            row.name = str(int(row.name) + 1)
    engine.dispose()


@pytest.mark.serial
def test_read_modify_writes_of_four_processes_add_up(database_url: str) -> None:
    engine = make_engine(database_url)
    with write_session(engine) as session:
        session.get_one(Project, DEFAULT_PROJECT).name = "0"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_count_up, args=(database_url,)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    with read_session(engine) as session:
        assert session.get_one(Project, DEFAULT_PROJECT).name == str(PROCESSES * WRITES)
    engine.dispose()


def test_a_reader_cannot_write(engine: Engine) -> None:
    with pytest.raises(DBAPIError, match=r"read-?only"), read_session(engine) as session:
        session.execute(text("UPDATE projects SET name = 'x'"))
    with write_session(engine) as session:  # the same pooled connection writes again
        session.get_one(Project, DEFAULT_PROJECT).name = "y"


def test_a_unit_that_raises_leaves_nothing(engine: Engine) -> None:
    with contextlib.suppress(ZeroDivisionError), write_session(engine) as session:
        session.add(Project(id=new_id(), name="half"))
        session.flush()
        raise ZeroDivisionError
    with read_session(engine) as session:
        assert [row.name for row in session.scalars(select(Project))] == ["default"]


def test_foreign_keys_hold(engine: Engine) -> None:
    with pytest.raises(IntegrityError), write_session(engine) as session:
        session.add(JobLog(job_id=new_id(), n=1, attempt=1, time=datetime.now(UTC), level="info", text="x"))


def test_times_come_back_in_utc(engine: Engine) -> None:
    local = datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    entry = AuditEntry(id=new_id(), project_id=DEFAULT_PROJECT, actor="a", action="b", target="c", created_at=local)
    with write_session(engine) as session:
        session.add(entry)
    with read_session(engine) as session:
        read = session.get_one(AuditEntry, entry.id).created_at
    assert read.isoformat() == "2026-03-01T07:00:00.123456+00:00"
    with pytest.raises(StatementError, match="zone"), write_session(engine) as session:
        session.get_one(AuditEntry, entry.id).created_at = datetime(2026, 3, 1)  # noqa: DTZ001


def test_json_that_postgresql_would_refuse_is_stored_clean(engine: Engine) -> None:
    details = {"z": 1, "a": [float("nan"), float("inf"), 1.5, "nul\x00!"]}
    entry = AuditEntry(id=new_id(), project_id=DEFAULT_PROJECT, actor="a", action="b", target="c", details=details)
    with write_session(engine) as session:
        session.add(entry)
    with read_session(engine) as session:
        read = session.get_one(AuditEntry, entry.id).details
    assert read == {"z": 1, "a": [None, None, 1.5, "nul!"]}
    assert list(read) == ["z", "a"], "specs are shown in the order they were written"


def test_dump_json_keeps_a_written_backslash() -> None:
    assert dump_json({"path": "C:\\u0000"}) == '{"path": "C:\\\\u0000"}'


def test_ids_are_uuid7_and_sorted() -> None:
    ids = [new_id() for _ in range(10_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    parsed = uuid.UUID(ids[0])
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    made = datetime.fromtimestamp((parsed.int >> 80) / 1000, tz=UTC)
    assert abs((datetime.now(UTC) - made).total_seconds()) < 60


def test_job_states_are_checked_by_the_database_too(engine: Engine) -> None:
    with pytest.raises(IntegrityError), write_session(engine) as session:
        session.add(
            Job(id=new_id(), project_id=DEFAULT_PROJECT, name="a", kind="distill", state="lost", submitted="", spec={})
        )
