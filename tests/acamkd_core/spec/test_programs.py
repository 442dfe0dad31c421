"""Teachers that are programs, in a spec: nothing runs code that was not told to, and the settings keep uploads out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from acamkd_core.program_file import allowed_program, digest_of
from acamkd_core.program_plan import ProgramPlan, plan_program
from acamkd_core.spec.errors import CoreError, ErrorInfo, SpecInvalid
from acamkd_core.spec.fit import headless_placebo, no_way_on
from acamkd_core.spec.job import JobSpec, parse_job
from acamkd_core.spec.labels import network_label
from acamkd_core.spec.models import TeacherSpec
from acamkd_core.spec.programs import program_of

JOB: dict[str, Any] = {"dataset": "scenes", "student": "mobile_deeplabv3"}
PROGRAM: dict[str, Any] = {"weights": "/p/t.pt2", "allow_code": True, "pt2": {"raw": 0}}


def problem(**changes: Any) -> ErrorInfo:
    with pytest.raises(SpecInvalid) as caught:
        parse_job(JOB | changes)
    [found] = caught.value.problems
    return found


@pytest.mark.parametrize(("teacher", "field", "value"), [
    ("t.pt2", "teacher.weights", "t.pt2"),
    ({"weights": "t.PT2", "pt2": {"raw": 0}}, "teacher.weights", "t.PT2"),
    ({"weights": {"file": "t.pt2"}, "allow_code": False}, "teacher.weights", "t.pt2"),
    (PROGRAM | {"weights": "https://example.org/t.pt2"}, "teacher.weights", "https://example.org/t.pt2"),
    (PROGRAM | {"weights": "job:taught"}, "teacher.allow_code", "job:taught"),
    (PROGRAM | {"weights": "model:camvid@best"}, "teacher.allow_code", "model:camvid@best"),
    ({"weights": "model:camvid", "pt2": {"raw": 0}}, "teacher.pt2", "model:camvid"),
    (PROGRAM | {"weights": "t.safetensors"}, "teacher.allow_code", "t.safetensors"),
    (PROGRAM | {"weights": "t.onnx"}, "teacher.allow_code", "t.onnx"),
    (PROGRAM | {"weights": "t.pt"}, "teacher.allow_code", "t.pt"),
    (PROGRAM | {"allow_code": "yes"}, "teacher.allow_code", "yes"),
    (PROGRAM | {"allow_code": 1}, "teacher.allow_code", 1),
    (PROGRAM | {"pt2": {"raw": 0, "sha256": "abc"}}, "teacher.pt2.sha256", "abc"),
])  # fmt: skip
def test_code_is_refused_with_the_offending_value(teacher: Any, field: str, value: Any) -> None:
    found = problem(teacher=teacher)
    assert (found.field, found.value) == (field, value)
    assert found.code == "spec.invalid"
    if field == "teacher.weights":
        assert found.hint is not None
        assert "docs/teachers.md" in found.hint


@pytest.mark.parametrize(("changes", "field"), [
    ({"teacher": PROGRAM | {"arch": "deeplabv3-resnet18-13.6m"}}, "teacher.arch"),
    ({"teacher": PROGRAM | {"backbone_weights": "b.pth"}}, "teacher.backbone_weights"),
    ({"teacher": {"arch": "deeplabv3-resnet18-13.6m", "weights": "w.pth", "backbone_weights": "b.pt2"}},
     "teacher.backbone_weights"),
    ({"teacher": PROGRAM | {"onnx": {"raw": "x"}}}, "teacher.onnx"),
    ({"teacher": PROGRAM | {"pt2": {"features": {0: "c5", 1: "c5"}}}}, "teacher.pt2.features"),
    ({"teacher": PROGRAM, "student": {"arch": "mobile_deeplabv3", "inherit": ["head"]}}, "student.inherit"),
    ({"student": {"arch": "mobile_deeplabv3", "weights": "s.pt2"}}, "student.weights"),
])  # fmt: skip
def test_specs_that_make_no_sense(changes: dict[str, Any], field: str) -> None:
    assert problem(**changes).field == field


def test_outputs_are_named_by_position_or_key() -> None:
    job = parse_job(JOB | {"teacher": PROGRAM | {"pt2": {"features": {0: "c4", "maps.c5": "c5"}, "raw": 2}}})
    assert isinstance(job, JobSpec)
    assert job.teacher is not None
    assert job.teacher.pt2 is not None
    assert (job.teacher.pt2.features, job.teacher.pt2.raw) == ({"0": "c4", "maps.c5": "c5"}, "2")
    assert network_label(job.teacher) == "program t.pt2"
    again = parse_job(job.model_dump(mode="json"))
    assert again == job


def plan(task: str, **told: Any) -> ProgramPlan:
    return plan_program(Path("/p/t.pt2"), TeacherSpec.model_validate(PROGRAM | {"pt2": told}), task=task)


def test_what_outputs_mean() -> None:
    found = plan("semantic_segmentation", features={"0": "c4"}, raw="1")
    assert (found.features, found.raw, found.flat, found.strides()) == ({"0": "c4", "1": "logits"}, "1", False, {})
    assert plan("semantic_segmentation", features={"0": "c4", "s": "logits"}).raw == "s"
    assert plan("classification", raw="0").flat
    assert plan("detection", features={"0": "p3"}).features == {"0": "p3"}
    for task, told, code in (
        ("semantic_segmentation", {"features": {"0": "c4"}}, "pt2.which_raw"),
        ("classification", {}, "pt2.which_raw"),
        ("semantic_segmentation", {"features": {"0": "logits"}, "raw": "1"}, "pt2.which_raw"),
        ("detection", {"raw": "0"}, "pt2.no_scores"),
        ("detection", {}, "pt2.no_features"),
    ):
        with pytest.raises(CoreError) as caught:
            plan(task, **told)
        assert caught.value.code == code


def test_methods_that_need_parts_of_the_teacher() -> None:
    terms = [{"method": "maskd", "at": "c5"}, {"method": "cwd", "placebo": "random_head"}]
    job = parse_job(JOB | {"teacher": PROGRAM, "distill": terms})
    assert isinstance(job, JobSpec)
    through, drawn = job.distill
    assert no_way_on(through, "pt2") is not None
    assert headless_placebo(drawn, "pt2") is not None


def test_only_from_the_folders_for_programs(tmp_path: Path) -> None:
    inside, outside = tmp_path / "programs", tmp_path / "elsewhere"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "t.pt2").write_bytes(b"1")
    (inside / "out.pt2").symlink_to(outside / "t.pt2")
    (inside / "in.pt2").symlink_to(inside / "t.pt2")
    (inside / "w.bin").write_bytes(b"1")
    (inside / "w.pt2").symlink_to(inside / "w.bin")
    (tmp_path / "programs-2").mkdir()
    (tmp_path / "programs-2" / "t.pt2").write_bytes(b"1")

    def code(file: object, roots: list[Path] | None) -> str:
        try:
            return allowed_program(str(file), roots).name
        except CoreError as error:
            told = error.info.field == "teacher.weights" and error.info.value is not None
            return error.code if told else "says not what is wrong"

    assert code(inside / "t.pt2", [inside]) == code("t.pt2", [outside, inside]) == "t.pt2"
    assert code(inside / "in.pt2", [inside]) == "t.pt2"
    assert code(inside / "t.pt2", []) == "pt2.off"
    for file in (
        outside / "t.pt2", inside / "out.pt2", inside / ".." / "elsewhere" / "t.pt2", "../elsewhere/t.pt2", "/etc/hostname",
        tmp_path / "programs-2" / "t.pt2",
    ):  # fmt: skip
        assert code(file, [inside]) == "path.outside_roots"
    assert code(inside / "nowhere.pt2", [inside]) == code(inside, [tmp_path]) == "path.missing"
    assert code(inside / "w.pt2", [inside]) == "pt2.other_file"
    assert code("a\0.pt2", [inside]) == "path.invalid"
    assert code(outside / "t.pt2", None) == "t.pt2"  # one's own machine


def test_a_digest_that_is_named_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "t.pt2").write_bytes(b"1")
    digest = digest_of(tmp_path / "t.pt2", None)
    assert digest_of(tmp_path / "t.pt2", digest) == digest
    (tmp_path / "t.pt2").write_bytes(b"2")
    with pytest.raises(CoreError) as caught:
        digest_of(tmp_path / "t.pt2", digest)
    assert (caught.value.code, caught.value.info.value) == ("pt2.other_digest", digest)


def test_lineage_of_specs_of_any_version() -> None:
    assert program_of({}, ran=True) is None
    assert program_of({"teacher": None}, ran=True) is None
    assert program_of({"teacher": {"weights": {"file": "t.onnx"}}}, ran=True) is None
    spec = {"teacher": {"weights": {"file": "/secret/t.pt2"}, "allow_code": True, "pt2": {"sha256": "a" * 64}}}
    found = program_of(spec, ran=True)
    assert found is not None
    assert found.model_dump() == {"file": "t.pt2", "sha256": "a" * 64, "ran_code": True}
