"""A teacher in an ONNX file at submission: what is known without running it is refused or shown."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tests import onnx_graphs
from tests.onnx_graphs import segmenter, write
from tests.server.api.conftest import World
from tests.server.api.test_jobs import JOBS, codes

SPEC: dict[str, Any] = {
    "dataset": {"format": "scenes", "size": [48, 64]},
    "student": "mobile_deeplabv3",
    "teacher": "teacher.onnx",
    "distill": "logit",
}
TWO_MAPS: dict[str, Any] = {"weights": "teacher.onnx", "onnx": {"features": {"stem": "c2"}}}


def dry(world: World, **changes: Any) -> Any:
    return world.client.post(f"{JOBS}?dry_run=true", json=SPEC | changes)


@pytest.fixture
def world(world: World) -> World:
    write(world.roots / "teacher.onnx", segmenter())
    return world


def test_a_file_that_fits_is_told_in_numbers(world: World) -> None:
    answer = dry(world)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert "teacher ONNX teacher.onnx 0.00 M -> student" in body["summary"][2]
    assert [finding["info"]["code"] for finding in body["findings"]] == ["onnx.preprocess"]
    assert body["spec"]["teacher"]["weights"]["file"] == str(world.roots / "teacher.onnx")
    said = TWO_MAPS | {"preprocess": {"range": 255}}
    assert dry(world, teacher=said, distill=[{"method": "acam", "at": "c2"}]).json()["findings"] == []
    job = world.client.post(JOBS, json=SPEC | {"name": "taught"})
    assert job.status_code == 201
    assert world.client.get(f"{JOBS}/taught").json()["teacher"] == "ONNX teacher.onnx"


@pytest.mark.parametrize("name", onnx_graphs.REFUSED)
def test_files_are_refused_before_queueing(world: World, name: str) -> None:
    change, code = onnx_graphs.REFUSED[name]
    model = segmenter()
    change(model)
    write(world.roots / "teacher.onnx", model)
    assert list(codes(dry(world)).values()) == [code]


@pytest.mark.parametrize(("changes", "problems"), [
    ({"teacher": "nowhere.onnx"}, {"teacher.weights": "path.missing"}),
    ({"teacher": "/etc/hostname.onnx"}, {"teacher.weights": "path.outside_roots"}),
    ({"augment": {"crop": [32, 32]}}, {"augment.crop": "onnx.fixed_size"}),
    ({"dataset": "scenes"}, {"augment.size": "onnx.fixed_size"}),
    ({"distill": [{"method": "pkd", "at": "c5", "teacher_at": "deep"}]}, {"distill.0.teacher_at": "distill.level"}),
    ({"distill": [{"method": "maskd", "at": "c2"}], "teacher": TWO_MAPS}, {"distill.0.at": "method.no_way_on"}),
    ({"teacher": TWO_MAPS | {"onnx": {"raw": "out"}}}, {"distill.0.at": "distill.far_levels"}),
    ({"teacher": TWO_MAPS | {"onnx": {"features": {"steam": "c2"}}}}, {"teacher.onnx.features": "onnx.no_tensor"}),
    ({"student": {"arch": "mobile_deeplabv3", "weights": "teacher.onnx"}}, {"student.weights": "spec.invalid"}),
    ({"teacher": "teacher.pt2"}, {"teacher.weights": "spec.invalid"}),
])  # fmt: skip
def test_jobs_are_refused_with_the_field(world: World, changes: dict[str, Any], problems: dict[str, str]) -> None:
    assert codes(dry(world, **changes)) == problems


def test_a_score_cannot_be_expected_of_a_detector_that_gives_features_only(world: World) -> None:
    told = {"weights": "teacher.onnx", "onnx": {"features": {"stem": "p3"}}, "preprocess": {"range": 255}}
    job = {
        "dataset": {"format": "scenes", "size": [48, 64]},
        "student": "retinanet-mobilenet_v2",
        "distill": [{"method": "pkd", "at": "p3"}],
    }
    plain = dry(world, **job, teacher=told).json()
    assert [one["info"]["code"] for one in plain["findings"]] == ["teacher.unscored"]
    expected = dry(world, **job, teacher={**told, "expect": {"map": 30}})
    assert codes(expected) == {"teacher.expect": "teacher.unscored"}


def test_not_a_file_of_that_kind(world: World) -> None:
    (world.roots / "teacher.onnx").write_text("no graph")
    answer = dry(world)
    assert codes(answer) == {"teacher.weights": "onnx.unreadable"}
    assert "torch.onnx.export" in answer.json()["problems"][0]["hint"]


def test_a_server_needs_no_runtime_for_that() -> None:
    code = (
        "import sys, pathlib, acamkd_core.onnx_file as f, server.jobs.checks; from tests import onnx_graphs as g; "
        "import tempfile; p = g.write(pathlib.Path(tempfile.mkdtemp()) / 'a.onnx', g.segmenter()); f.read_onnx(p); "
        "assert not {'torch', 'onnxruntime'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
