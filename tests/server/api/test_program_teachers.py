"""A teacher that is a program at submission: where it may lie, and that the server never loads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from server.db.session import write_session
from server.db.tables import Job
from server.settings import Settings
from tests.program_files import poisoned, save
from tests.server.api.conftest import World
from tests.server.api.test_jobs import JOBS, codes

PROGRAM: dict[str, Any] = {"weights": "teacher.pt2", "allow_code": True, "pt2": {"features": {"0": "c2"}, "raw": 1}}
SPEC: dict[str, Any] = {
    "dataset": {"format": "scenes", "size": [48, 64]},
    "student": "mobile_deeplabv3",
    "teacher": PROGRAM,
    "distill": "logit",
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("pt2") / "teacher.pt2")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Made by whoever loads the programs of these tests."""
    return tmp_path / "ran"


@pytest.fixture
def world(make_world: Callable[..., World], tmp_path: Path, program: Path, marker: Path) -> World:
    folder = tmp_path / "programs"
    folder.mkdir()
    made = make_world(code_roots=(str(folder),))
    for place in (folder, made.roots, made.context.settings.uploads_dir):
        place.mkdir(exist_ok=True, parents=True)
        poisoned(program, place / "teacher.pt2", marker)
    return made


def dry(world: World, **changes: Any) -> Any:
    return world.client.post(f"{JOBS}?dry_run=true", json=SPEC | {"teacher": PROGRAM | changes})


def test_a_program_is_taken_from_its_folder_and_not_loaded(world: World, tmp_path: Path, marker: Path) -> None:
    answer = dry(world)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert "teacher program teacher.pt2 -> student" in body["summary"][2]
    assert [finding["info"]["code"] for finding in body["findings"]] == ["teacher.runs_code", "pt2.preprocess"]
    assert body["spec"]["teacher"]["weights"]["file"] == str(tmp_path / "programs" / "teacher.pt2")
    assert world.client.post(JOBS, json=SPEC | {"name": "taught"}).status_code == 201
    detail = world.client.get(f"{JOBS}/taught").json()
    assert detail["teacher"] == "program teacher.pt2"
    assert detail["teacher_program"] == {"file": "teacher.pt2", "sha256": None, "ran_code": False}
    with write_session(world.context.engine) as session:  # as a worker's reports leave it
        job = session.query(Job).one()
        teacher = job.spec["teacher"] | {"pt2": job.spec["teacher"]["pt2"] | {"sha256": "a" * 64}}
        job.spec, job.facts = job.spec | {"teacher": teacher}, job.facts | {"pairs": []}
    detail = world.client.get(f"{JOBS}/taught").json()
    assert detail["teacher_program"] == {"file": "teacher.pt2", "sha256": "a" * 64, "ran_code": True}
    assert not marker.exists()


def test_refused_with_the_field(world: World, tmp_path: Path, marker: Path) -> None:
    (tmp_path / "programs" / "out.pt2").symlink_to(world.roots / "teacher.pt2")
    (world.roots / "other.safetensors").symlink_to(world.roots / "teacher.pt2")
    uploads = world.context.settings.uploads_dir
    for changes, problems in (
        ({"allow_code": False}, {"teacher.weights": "spec.invalid"}),
        ({"weights": str(world.roots / "teacher.pt2")}, {"teacher.weights": "path.outside_roots"}),
        ({"weights": str(uploads / "teacher.pt2")}, {"teacher.weights": "path.outside_roots"}),
        ({"weights": "../roots/teacher.pt2"}, {"teacher.weights": "path.outside_roots"}),
        ({"weights": "out.pt2"}, {"teacher.weights": "path.outside_roots"}),
        ({"weights": "nowhere.pt2"}, {"teacher.weights": "path.missing"}),
        ({"weights": "job:taught"}, {"teacher.allow_code": "spec.invalid"}),
        ({"weights": "model:taught"}, {"teacher.allow_code": "spec.invalid"}),
        ({"weights": "http://example.org/teacher.pt2"}, {"teacher.weights": "spec.invalid"}),
        ({"pt2": {"features": {"0": "c2"}}}, {"teacher.pt2.raw": "pt2.which_raw"}),
        (
            {"weights": "other.safetensors", "allow_code": False, "pt2": None, "arch": "deeplabv3-resnet18-13.6m"},
            {"teacher.weights": "pt2.not_named"},
        ),
    ):  # fmt: skip
        answer = dry(world, **changes)
        assert codes(answer) == problems, changes
        for problem in answer.json()["problems"]:
            assert problem["hint"], problem
            assert problem["value"] is not None or problem["code"] == "pt2.which_raw", problem
    student = {"arch": "mobile_deeplabv3", "weights": "teacher.pt2"}
    refused = world.client.post(f"{JOBS}?dry_run=true", json=SPEC | {"student": student})
    assert codes(refused) == {"student.weights": "spec.invalid"}
    assert not marker.exists()


def test_off_where_no_folder_is_set_up(make_world: Callable[..., World], program: Path, marker: Path) -> None:
    world = make_world()
    poisoned(program, world.roots / "teacher.pt2", marker)
    for weights in ("teacher.pt2", str(world.roots / "teacher.pt2"), "nowhere.pt2"):
        answer = dry(world, weights=weights)
        assert codes(answer) == {"teacher.weights": "pt2.off"}
        assert "ACAMKD_CODE_ROOTS" in answer.json()["problems"][0]["hint"]
    assert not marker.exists()


def test_uploads_and_programs_lie_apart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (tmp_path / "link").symlink_to(data)
    for root in (data, data / "uploads", data / "programs", tmp_path, tmp_path / "link", Path("/")):
        with pytest.raises(ValidationError, match="lie apart"):
            Settings(data_dir=data, code_roots=(str(root),))
    with pytest.raises(ValidationError, match="lie apart"):
        Settings(data_dir=data, storage_url=str(tmp_path / "blobs"), code_roots=(str(tmp_path / "blobs" / "x"),))
    apart = Settings(data_dir=data, storage_url="s3://bucket/x", code_roots=(str(tmp_path / "programs"),))
    assert apart.code_folders == (tmp_path / "programs",)
    assert Settings(data_dir=data).code_folders == ()
