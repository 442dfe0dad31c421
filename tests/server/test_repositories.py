"""Artifacts, datasets, models, workers and keys: on both databases."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import Engine, select

from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.inspection import ClassSummary, Finding, InspectionReport, SplitSummary
from server.artifacts import repository as artifacts
from server.artifacts.sweeper import sweep
from server.auth import repository as auth
from server.datasets import repository as datasets
from server.db.base import DEFAULT_PROJECT, new_id, utcnow
from server.db.session import read_session, write_session
from server.db.tables import ApiKey, Job, Project, Worker
from server.jobs.describe import queue_info
from server.jobs.repository import Lease, end_involuntarily, finish, heartbeat, lock, reap, request_cancel
from server.models import repository as models
from server.storage import RETIRED_SECONDS, Storage
from server.workers import repository as workers
from tests.server.factories import claim_one, make_job

P = DEFAULT_PROJECT


def fence_of(engine: Engine, **overrides: Any) -> dict[str, Any]:
    make_job(engine, **overrides)
    claim = claim_one(engine)
    assert claim is not None
    return {"job_id": claim.job_id, "attempt": claim.attempt}


def inspection(severity: Literal["error", "warning"]) -> dict[str, Any]:
    """A report with one finding, as a run writes it."""
    return InspectionReport(
        name="camvid",
        digest="3f9c1e",
        task="semantic_segmentation",
        ignore_id=255,
        findings=[Finding(code="dataset.small", message="few images", severity=severity, count=3)],
        splits=[SplitSummary(role="train", images=3, labelled=3, pixels=30, ignored=0)],
        classes=[ClassSummary(index=0, id=0, name="road", color=(1, 2, 3), pixels={"train": 30}, images={"train": 3})],
        sizes=[],
        seconds=0.1,
    ).model_dump(mode="json")


def test_a_second_attempt_replaces_what_the_first_left(engine: Engine) -> None:
    fence = fence_of(engine)
    export = {"kind": "export", "name": "student.onnx", "format": "onnx", "size": 3}
    place = {"size": 1, "iteration": 10, "image": 2, "kind": "mask_spatial", "index": 1}
    with write_session(engine) as session:
        first = artifacts.add(session, **fence, **export, sha256="1" * 64).id
        artifacts.add_panel(session, **fence, **place, sha256="2" * 64, caption="old")
        end_involuntarily(session, **fence)
    claim = claim_one(engine)
    assert claim is not None
    fence["attempt"] = claim.attempt
    with write_session(engine) as session:
        again = artifacts.add(session, **fence, **export, sha256="3" * 64, verified=True)
        artifacts.add_panel(session, **fence, **place, sha256="2" * 64, caption="new", stats={"mean": 0.5})
        assert again.id == first
    with read_session(engine) as session:
        (only,) = artifacts.list_for_job(session, job_id=claim.job_id)
        ((panel,), _) = artifacts.list_panels(session, job_id=claim.job_id, iteration=10, image=2)
        assert (only.sha256, only.attempt, only.verified) == ("3" * 64, 2, True)
        assert (panel.caption, panel.stats, panel.attempt) == ("new", {"mean": 0.5}, 2)
        assert artifacts.get(session, project_id=P, artifact_id=panel.artifact_id).kind == "panel"  # type: ignore[union-attr]
        assert artifacts.get(session, project_id=new_id(), artifact_id=first) is None
        assert artifacts.retired(session, older_than_seconds=0) == ["1" * 64]


def test_a_replaced_checkpoint_leaves_the_disk_and_the_kept_ones_stay(engine: Engine, tmp_path: Path) -> None:
    store = Storage(str(tmp_path / "blobs"))
    fence = fence_of(engine)
    digests = []
    for iteration in range(1, 5):
        path = tmp_path / f"{iteration}.ckpt"
        path.write_bytes(os.urandom(1000))
        sha256, size = store.put_file(path)
        digests.append(sha256)
        with write_session(engine) as session:
            artifacts.add_checkpoint(
                session, **fence, sha256=sha256, size=size, iteration=iteration, is_best=iteration == 1
            )
    assert sweep(engine, store) == []
    for sha256 in digests:
        os.utime(tmp_path / "blobs" / sha256[:2] / sha256, (time.time() - RETIRED_SECONDS - 1,) * 2)
    assert sweep(engine, store) == [], "retired a moment ago"
    with write_session(engine) as session:
        for row in session.scalars(select(artifacts.RetiredBlob)):
            row.retired_at -= timedelta(seconds=RETIRED_SECONDS)
    assert sweep(engine, store) == [digests[1]]
    assert {blob.sha256 for blob in store.blobs()} == {digests[0], digests[2], digests[3]}
    with read_session(engine) as session:
        assert artifacts.retired(session, older_than_seconds=0) == []


@pytest.mark.parametrize("how", ["reported", "lost", "cancelled", "cancelled while queued"])
def test_a_dataset_follows_its_inspection_however_that_ends(engine: Engine, how: str) -> None:
    job = make_job(engine, kind="inspect", max_attempts=1)
    with write_session(engine) as session:
        made = datasets.create(session, project_id=P, name="camvid", format="auto", root="/d", inspect_job=job.id)
        assert made.state == "inspecting"
    if how == "cancelled while queued":
        with write_session(engine) as session:
            request_cancel(session, job=lock(session, project_id=P, ref=job.id))  # type: ignore[arg-type]
    else:
        claim_one(engine)
    fence = {"job_id": job.id, "attempt": 1}
    report = inspection("warning")
    with write_session(engine) as session:
        if how == "reported":
            finish(session, **fence, state="succeeded", reason="done")
            datasets.apply_inspection(session, inspect_job=job.id, report=report, contact_sheet=None)
        elif how == "lost":
            assert reap(session, lease=Lease(**fence, beat=heartbeat(session, **fence).beat)) == "failed"
        elif how == "cancelled":
            finish(session, **fence, state="cancelled", reason="user_cancel")
    with read_session(engine) as session:
        row = datasets.get(session, project_id=P, ref="camvid")
        assert row is not None
        assert row.state == ("ready" if how == "reported" else "failed")
        if how == "reported":
            assert (row.version, row.errors, row.warnings, row.images) == ("3f9c1e", 0, 1, {"train": 3})
            assert [item["name"] for item in row.classes] == ["road"]
        assert datasets.get(session, project_id=new_id(), ref=row.id) is None


def test_an_inspection_with_errors_fails_its_dataset_and_names_are_unique(engine: Engine) -> None:
    with write_session(engine) as session:
        datasets.create(session, project_id=P, name="d", format="auto", root="/d", inspect_job="j")
        datasets.apply_inspection(session, inspect_job="j", report=inspection("error"), contact_sheet=None)
        row = datasets.get(session, project_id=P, ref="d")
        assert row is not None
        assert (row.state, row.errors) == ("failed", 1)
        with pytest.raises(CoreError, match="already"):
            datasets.create(session, project_id=P, name="d", format="auto", root="/e")


def test_models_are_versioned_and_aliases_move(engine: Engine) -> None:
    fence = fence_of(engine)
    fields: dict[str, Any] = {"project_id": P, "name": "street", "arch": "DLv3", "task": "t", "classes": ["a"]}
    with write_session(engine) as session:
        row = artifacts.add(session, **fence, kind="export", name="s", format="safetensors", sha256="a" * 64, size=1)
        first = models.register(session, **fields, job_id=fence["job_id"], artifact_id=row.id)
        assert models.register(session, **fields, job_id=fence["job_id"], artifact_id=row.id).id == first.id
        second = models.register(session, **fields, job_id=new_id(), artifact_id=row.id)
        models.set_alias(session, model=first, alias="champion")
        ids = {"street@champion": first.id, "street@latest": second.id, "street": second.id, "street@1": first.id}
        for ref, expected in {**ids, first.id: first.id, "street@none": None, "street@3": None}.items():
            found = models.get(session, project_id=P, ref=ref)
            assert (found.id if found else None) == expected, ref
        models.set_alias(session, model=second, alias="champion")
        assert models.aliases(session, project_id=P) == {second.id: ["champion", "latest"]}
        assert models.delete_alias(session, project_id=P, name="street", alias="champion")
        assert not models.delete_alias(session, project_id=P, name="street", alias="champion")
        assert models.get(session, project_id=new_id(), ref="street") is None
        assert models.get(session, project_id=new_id(), ref=first.id) is None
        assert [row.version for row in models.list_models(session, project_id=P)[0]] == [2, 1]


def test_workers_come_and_go(engine: Engine) -> None:
    fields: dict[str, Any] = {"name": "w", "host": "h", "pid": 1, "slots": 2}
    with write_session(engine) as session:
        workers.register(session, worker_id="w1", **fields)
        assert workers.seen(session, worker_id="w1", cpu_percent=5.0)
        assert not workers.seen(session, worker_id="other")
        workers.stopped(session, worker_id="w1")
    fence = fence_of(engine)
    with read_session(engine) as session:
        assert [worker.state for worker in workers.list_workers(session)] == ["stopped"]
        assert [job.id for job in workers.running_jobs(session)["w1"]] == [fence["job_id"]]
    with write_session(engine) as session:
        session.get_one(Worker, "w1").seen_at = utcnow() - timedelta(days=2)
        session.flush()
        workers.register(session, worker_id="w2", **fields)
    with read_session(engine) as session:
        assert [worker.id for worker in workers.list_workers(session)] == ["w2"]


def test_a_job_that_no_slot_can_take_says_how_many_gpus_the_largest_has(engine: Engine) -> None:
    """Three slots with a GPU each are three jobs at once, and no place for one that asks for two."""
    job = make_job(engine, gpus=2)
    fields: dict[str, Any] = {"name": "w", "host": "h", "pid": 1}
    with write_session(engine) as session:
        workers.register(session, worker_id="w1", slots=3, devices=["0", "1", "2"], **fields)
        told = queue_info(session, session.get_one(Job, job.id))
        assert told is not None
        assert told.why == "it asks for 2 GPUs; the largest slot of a worker has 1"
        assert "ACAMKD_DEVICES=0,1" in (told.would_start or "")
        workers.register(session, worker_id="w2", slots=1, devices=["0,1"], **fields)
        told = queue_info(session, session.get_one(Job, job.id))
        assert told is not None
        assert told.why == "a slot is free"


def test_a_revoked_key_opens_nothing(engine: Engine) -> None:
    other = new_id()
    with write_session(engine) as session:
        session.add(Project(id=other, name="other"))
        session.flush()
        assert not auth.any_key(session)
        key = auth.create_key(session, name="ci", prefix="ak_1", key_hash="h1")
        assert auth.any_key(session)
        assert not auth.revoke_key(session, project_id=other, key_id=key.id)
        found = auth.find_key(session, key_hash="h1")
        assert found is not None
        auth.touch_key(session, key_id=key.id)
        first = session.get_one(ApiKey, key.id, populate_existing=True).last_used_at
        auth.touch_key(session, key_id=key.id)
        assert session.get_one(ApiKey, key.id, populate_existing=True).last_used_at == first, "once a minute is enough"
        assert auth.revoke_key(session, project_id=P, key_id=key.id)
        assert auth.find_key(session, key_hash="h1") is None
        assert not auth.any_key(session)
        assert [row.name for row in auth.list_keys(session, project_id=P)] == ["ci"]
        auth.record(session, project_id=P, actor="ci", action="key.revoke", target=key.id)
