"""Teachers that are programs, through a real worker and the real engine: refused without folders, and told of in lineage."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from server.db.session import read_session
from server.db.tables import Artifact
from tests.program_files import poisoned, save
from tests.worker.bench import Bench

pytestmark = pytest.mark.serial

SECONDS = 600  # the real engine, beside whatever else the machine does
ENGINE = [sys.executable, "-m", "acamkd_core.engine.run"]
JOB: dict[str, Any] = {
    "dataset": {"format": "scenes", "train_images": 4, "val_images": 2, "test_images": 2, "size": [48, 64]},
    "student": {"arch": {"family": "deeplabv3", "width": 0.35, "aspp_channels": 16}},
    "distill": "logit",
    "schedule": {"iterations": 2},
    "batch": {"global_size": 4},
    "evaluation": {"panels": 0},
    "exports": ["safetensors"],
}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    fleet = Bench(tmp_path, child=ENGINE, broker=False, fast=False)  # leases that hold on a busy machine
    yield fleet
    fleet.close()


def taught(path: Path) -> dict[str, Any]:
    told = {"weights": str(path), "allow_code": True, "pt2": {"raw": 1}, "expect": {"miou": 10.0, "tolerance": 100.0}}
    return JOB | {"teacher": told}


def test_a_worker_runs_programs_from_its_own_folders_alone(bench: Bench, tmp_path: Path) -> None:
    """What the server let through is asked for again where it would run: settings of the two may differ."""
    folder, marker = tmp_path / "programs", tmp_path / "ran"
    folder.mkdir()
    program = save(folder / "teacher.pt2")
    planted = poisoned(program, tmp_path / "planted.pt2", marker)

    without = bench.worker("without", poll_seconds="1")
    refused = bench.wait(bench.submit_spec(taught(program)), "failed", seconds=SECONDS)
    assert refused.reason == "spec_or_data"
    assert refused.error is not None
    assert (refused.error["code"], refused.error["field"]) == ("pt2.off", "teacher.weights")
    assert "ACAMKD_CODE_ROOTS" in refused.error["hint"]
    without.terminate()
    without.wait(60)

    bench.worker("with", code_roots=str(folder), poll_seconds="1")
    outside = bench.submit_spec(taught(planted))
    done = bench.submit_spec(taught(program))
    refused = bench.wait(outside, "failed", seconds=SECONDS)
    assert refused.error is not None
    assert (refused.reason, refused.error["code"]) == ("spec_or_data", "path.outside_roots")
    assert not marker.exists()
    job = bench.wait(done, "succeeded", seconds=SECONDS)
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    assert job.spec["teacher"]["pt2"]["sha256"] == digest
    with read_session(bench.engine) as session:
        rows = session.scalars(select(Artifact).where(Artifact.job_id == done, Artifact.kind.in_(["export", "bundle"])))
        lineages = [row.details["teacher_program"] for row in rows]
    assert lineages == [{"file": "teacher.pt2", "sha256": digest, "ran_code": True}] * 2
