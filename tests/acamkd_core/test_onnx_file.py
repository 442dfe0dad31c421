"""Reading ONNX files without running them, and what a spec makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from acamkd_core.graph_plan import check_count, check_sizes, stride_of
from acamkd_core.onnx_file import METADATA_KEY, read_onnx
from acamkd_core.onnx_plan import plan_onnx
from acamkd_core.spec.augment import AugmentSpec, ResizeSpec
from acamkd_core.spec.errors import CoreError, SpecInvalid
from acamkd_core.spec.job import JobSpec, parse_job
from acamkd_core.spec.models import TeacherSpec
from tests import onnx_graphs
from tests.onnx_graphs import segmenter, write


def plan(path: Path, task: str = "semantic_segmentation", **told: Any) -> Any:
    return plan_onnx(read_onnx(path), TeacherSpec.model_validate({"weights": str(path), "onnx": told}), task=task)


def test_facts(tmp_path: Path) -> None:
    file = read_onnx(write(tmp_path / "a.onnx", segmenter()))
    assert (file.input, file.image.shape) == ("image", (None, 3, 48, 64))
    assert {name: one.shape for name, one in file.outputs.items()} == {"out": (None, 11, 48, 64)}
    assert file.inner == {"conv", "stem", "scores"}
    assert file.parameters == 8 * 3 * 16 + 11 * 8 + 4  # the factors are floating point too
    assert file.before_resize == {"out": ("scores", False)}


def test_scores_are_taken_where_they_are_made_and_named_tensors_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", segmenter())
    found = plan(path, features={"stem": "c2"})
    assert (found.raw, found.features, found.size) == ("scores", {"stem": "c2", "scores": "logits"}, (48, 64))
    assert found.channels == 11
    assert plan(path, raw="out").raw == "out"
    assert plan(path, raw="out").strides() == {"logits": 1}
    assert plan(path, features={"stem": "logits"}).raw == "stem"
    assert plan(write(tmp_path / "b.onnx", segmenter(size=None))).size is None
    half = segmenter(size=None)
    half.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 48
    with pytest.raises(CoreError) as one_side:
        plan(write(tmp_path / "c.onnx", half))
    assert (one_side.value.code, one_side.value.info.field) == ("onnx.one_side", "teacher.onnx.size")
    assert plan(tmp_path / "c.onnx", size=[48, 64]).size == (48, 64)
    # What is filled in means the same when it is read again.
    again = TeacherSpec.model_validate({"weights": str(path), "onnx": found.resolved()})
    assert plan_onnx(read_onnx(path), again, task="semantic_segmentation") == found


def test_the_grid_of_the_last_resize_is_the_networks(tmp_path: Path) -> None:
    model = segmenter()
    model.graph.node[-1].attribute.append(helper.make_attribute("coordinate_transformation_mode", "align_corners"))
    assert plan(write(tmp_path / "a.onnx", model)).align_corners
    assert plan(tmp_path / "a.onnx", raw="scores").align_corners
    model.graph.node[-1].attribute[-1].s = b"asymmetric"  # a grid that the task does not resize on
    found = plan(write(tmp_path / "b.onnx", model))
    assert (found.raw, found.align_corners) == ("out", False)


@pytest.mark.parametrize("name", onnx_graphs.REFUSED)
def test_refused_without_running(tmp_path: Path, name: str) -> None:
    change, code = onnx_graphs.REFUSED[name]
    model = segmenter()
    change(model)
    with pytest.raises(CoreError) as caught:
        plan(write(tmp_path / "a.onnx", model))
    assert caught.value.code == code
    assert caught.value.info.field


def test_words_of_refusals_say_what_would_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", segmenter())
    with pytest.raises(CoreError) as unknown:
        plan(path, features={"stam": "c2"})
    assert (unknown.value.info.field, unknown.value.info.value) == ("teacher.onnx.features", "stam")
    assert "did you mean 'stem'? its outputs are out (?x11x48x64)" in str(unknown.value.info.hint)
    model = segmenter()
    onnx_graphs.class_ids(model)
    ids = write(tmp_path / "ids.onnx", model)
    with pytest.raises(CoreError, match="raw: out"):
        plan(ids)
    found = plan(path)
    check_sizes(found, AugmentSpec(), (48, 64))
    check_sizes(found, AugmentSpec(crop=(48, 64)), None)
    with pytest.raises(CoreError, match=r"set augment.size to \[48, 64\]"):
        check_sizes(found, AugmentSpec(), (64, 48))
    with pytest.raises(CoreError, match="of many sizes"):
        check_sizes(found, AugmentSpec(resize=ResizeSpec(short=48, max=64)), (48, 64))
    with pytest.raises(CoreError) as other:
        check_count(found, found.channels, 19, of="the dataset has")
    assert (other.value.code, other.value.info.value) == ("teacher.other_classes", 11)
    with pytest.raises(CoreError) as size:
        plan(path, size=[32, 64])
    assert size.value.code == "onnx.other_size"
    with pytest.raises(CoreError) as clash:
        plan(path, features={"stem": "logits"}, raw="scores")
    assert clash.value.code == "onnx.which_raw"


def test_detectors_teach_by_features(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", segmenter())
    assert plan(path, "detection", features={"stem": "p3"}).features == {"stem": "p3"}
    with pytest.raises(CoreError, match="class scores are floating-point N x classes") as other:
        plan(path, "classification")
    assert other.value.code == "onnx.no_scores"
    for told, code in (({}, "onnx.no_features"), ({"raw": "scores"}, "onnx.no_scores")):
        with pytest.raises(CoreError) as caught:
            plan(path, "detection", **told)
        assert caught.value.code == code


@pytest.mark.parametrize("content", [b"", b"no graph at all", b"\x08\x08", bytes(range(256)) * 9])
def test_files_that_are_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(CoreError) as caught:
        read_onnx(tmp_path / "a.onnx")
    assert (caught.value.code, caught.value.info.field) == ("onnx.unreadable", "teacher.weights")
    with pytest.raises(CoreError) as missing:
        read_onnx(tmp_path / "b.onnx")
    assert missing.value.code == "onnx.missing_file"
    model = segmenter()
    onnx.helper.set_model_props(model, {METADATA_KEY: '{"format_version": 9}'})
    with pytest.raises(CoreError, match="metadata"):
        read_onnx(write(tmp_path / "c.onnx", model))


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", segmenter())
    first = read_onnx(path)
    assert read_onnx(path) is first
    assert read_onnx(write(path, segmenter(classes=5))).outputs["out"].shape == (None, 5, 48, 64)


@pytest.mark.parametrize(("image", "found", "stride"), [
    ((48, 64), (3, 4), 16), ((180, 240), (12, 15), 16), ((180, 240), (6, 8), 32), ((48, 64), (48, 64), 1),
    ((100, 100), (33, 33), 3), ((512, 1024), (64, 128), 8), ((64, 64), (1, 1), 64),
])  # fmt: skip
def test_strides(image: tuple[int, int], found: tuple[int, int], stride: int) -> None:
    assert stride_of(image, found) == stride


ONNX = {"weights": "t.onnx"}


@pytest.mark.parametrize(("changes", "field"), [
    ({"teacher": "t.pt2"}, "teacher.weights"),
    ({"teacher": ONNX | {"arch": "deeplabv3-resnet18-13.6m"}}, "teacher.arch"),
    ({"teacher": ONNX | {"backbone_weights": "b.pth"}}, "teacher.backbone_weights"),
    ({"teacher": {"weights": "t.safetensors", "onnx": {}}}, "teacher.onnx"),
    ({"teacher": ONNX | {"onnx": {"features": {"a": "c5", "b": "c5"}}}}, "teacher.onnx.features"),
    ({"teacher": ONNX | {"onnx": {"features": {"a": "c 5"}}}}, "teacher.onnx.features"),
    ({"student": {"arch": "mobile_deeplabv3", "weights": "s.onnx"}}, "student.weights"),
    ({"student": {"arch": "mobile_deeplabv3", "inherit": ["head"]}, "teacher": "t.ONNX"}, "student.inherit"),
])  # fmt: skip
def test_specs_that_make_no_sense(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        parse_job({"dataset": "scenes", "student": "mobile_deeplabv3"} | changes)
    assert [problem.field for problem in caught.value.problems] == [field]


def test_the_short_form() -> None:
    job = parse_job({"dataset": "scenes", "student": "mobile_deeplabv3", "teacher": "./t.onnx"})
    assert isinstance(job, JobSpec)
    assert job.teacher is not None
    assert job.teacher.is_onnx


def test_half_precision_images_are_fine(tmp_path: Path) -> None:
    model = segmenter()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    assert read_onnx(write(tmp_path / "a.onnx", model)).image.kind == "FLOAT16"
