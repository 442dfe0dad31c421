"""Teachers in ONNX files: the same numbers as the network in torch, whole jobs, exact resume, refusals before training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from acamkd_core.datasets.registry import open_dataset
from acamkd_core.models.onnx_runtime import providers
from acamkd_core.spec.job import parse_job
from acamkd_core.spec.native import read_native_header
from tests import onnx_graphs
from tests.acamkd_core.engine.onnx_files import edited, export, export_detector, foreign
from tests.acamkd_core.engine.test_detection_run import BASE as DETECTION
from tests.acamkd_core.engine.world import BASE, TERMS, World, go, kinds, points, stopped_at_five, taught_alike

EXPECT = {"miou": 10.0, "tolerance": 100.0}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def own(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world's teacher, exported as a job exports it."""
    return export(world.teacher, tmp_path_factory.mktemp("onnx") / "model.onnx", (48, 64))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that says nothing of itself."""
    return onnx_graphs.write(tmp_path_factory.mktemp("onnx") / "teacher.onnx", onnx_graphs.segmenter())


def teacher(path: Path, **more: Any) -> dict[str, Any]:
    return {"weights": str(path), "expect": EXPECT} | more


def test_a_file_of_ours_teaches_exactly_as_the_network_in_torch(world: World, own: Path, tmp_path: Path) -> None:
    told: dict[str, Any] = {"distill": TERMS, "evaluation": {"every": 4, "panels": 1}}
    result, events = go(tmp_path / "onnx", world.folder, teacher=teacher(own), **told)
    assert result.status == "succeeded", result.error
    reference, expected = go(tmp_path / "torch", world.folder, teacher=world.taught(), **told)
    assert reference.status == "succeeded", reference.error

    resolved = taught_alike(events, expected)
    header = read_native_header(world.teacher)
    assert header is not None
    assert resolved.spec["teacher"]["preprocess"] == header.preprocess.model_dump(mode="json")
    assert resolved.spec["teacher"]["onnx"]["size"] == [48, 64]
    profile = {event.role: event for event in kinds(events, "profile")}["teacher"]
    assert (profile.arch, profile.macs) == ("ONNX model.onnx", None)
    # Batch norms are folded into the convolutions before them: one number a channel is left of two.
    assert 0.9 * 306_171 < profile.parameters < 306_171
    assert "cpu by onnxruntime, 1 thread" in profile.latency_conditions
    assert {panel.kind for panel in kinds(events, "panel")} >= {"teacher", "mask_spatial"}


def test_a_strangers_file_with_everything_told_is_the_same_teacher(world: World, own: Path, tmp_path: Path) -> None:
    plain = edited(own, tmp_path / "plain.onnx", foreign)
    header = read_native_header(world.teacher)
    assert header is not None
    told = teacher(
        plain, onnx={"features": {"level.c5": "deep"}, "raw": "level.logits"},
        preprocess=header.preprocess.model_dump(mode="json"),
    )  # fmt: skip
    terms = ["logit", {"method": "pkd", "at": "c5", "teacher_at": "deep"}]
    result, events = go(tmp_path / "a", world.folder, teacher=told, distill=terms)
    assert result.status == "succeeded", result.error
    terms = ["logit", {"method": "pkd", "at": "c5"}]
    _, expected = go(tmp_path / "b", world.folder, teacher=teacher(own), distill=terms)
    assert points(events) == points(expected)


def test_maskd_trains_its_tokens_on_the_class_scores(world: World, own: Path, tmp_path: Path) -> None:
    at = {"method": "maskd", "token_iterations": 2}
    result, events = go(tmp_path / "a", world.folder, teacher=teacher(own), distill=[at | {"at": "logits"}])
    assert result.status == "succeeded", result.error
    assert "loss/maskd" in {name for _, name in points(events)}
    refused, _ = go(tmp_path / "b", world.folder, teacher=teacher(own), distill=[at | {"at": "c5"}])
    assert refused.error is not None
    assert refused.error.code == "method.no_way_on"


def test_a_stopped_run_goes_on_bit_for_bit(world: World, strangers: Path, tmp_path: Path) -> None:
    common: dict[str, Any] = {
        "teacher": teacher(strangers, onnx={"features": {"stem": "c2"}}),
        "distill": [{"method": "logit", "teacher_at": "logits"}, {"method": "acam", "at": "c2"}],
    }
    whole, all_events = go(tmp_path / "whole", world.folder, **common)
    assert whole.status == "succeeded", whole.error

    checkpoint, early = stopped_at_five(tmp_path / "a", world.folder, **common)
    second, late = go(tmp_path / "b", world.folder, resume=checkpoint, **common)
    assert second.status == "succeeded", second.error
    assert points(early) | points(late) == points(all_events)
    assert second.weights_digest == whole.weights_digest


def test_a_graph_with_free_sizes_sees_crops(world: World, tmp_path: Path) -> None:
    path = onnx_graphs.write(tmp_path / "free.onnx", onnx_graphs.segmenter(size=None))
    augment = BASE["augment"] | {"crop": [32, 32]}
    result, events = go(tmp_path / "a", world.folder, teacher=teacher(path), distill=["logit"], augment=augment)
    assert result.status == "succeeded", result.error
    assert kinds(events, "resolved")[0].pairs[0]["teacher"] == [11, 4]


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "onnx.no_tensor": ("", {"onnx": {"features": {"nowhere": "c5"}}}),
    "teacher.other_classes": ("", {"onnx": {"raw": "stem"}}),
    "onnx.fixed_batch": ("batch_inside", {}),
    "weights.not_finite": ("not_finite", {}),
}


@pytest.mark.parametrize("code", REFUSED)
def test_refused_before_training(world: World, tmp_path: Path, code: str) -> None:
    change, more = REFUSED[code]
    model = onnx_graphs.segmenter()
    if change:
        getattr(onnx_graphs, change)(model)
    path = onnx_graphs.write(tmp_path / "teacher.onnx", model)
    result, events = go(tmp_path / "a", world.folder, teacher=teacher(path, **more), distill=["logit"])
    assert result.error is not None
    assert (result.error.code, result.reason) == (code, "spec_or_data")
    assert not kinds(events, "checkpoint")


@pytest.mark.parametrize(("changes", "code", "field"), [
    ({"teacher": {"weights": "nowhere.onnx"}}, "weights.not_found", "teacher.weights.file"),
    ({"augment": {"size": [64, 64]}}, "onnx.fixed_size", "augment.size"),
    ({"augment": {"crop": [32, 32]}}, "onnx.fixed_size", "augment.crop"),
    ({"dataset": DETECTION["dataset"], "student": DETECTION["student"], "distill": [{"method": "pkd", "at": "p3"}], "expect": {"map": 1}},
     "onnx.other_task", "teacher.weights"),
    ({"distill": [{"method": "pkd", "at": "c5", "teacher_at": "c6"}]}, "level.unknown", "distill.0.teacher_at"),
])  # fmt: skip
def test_files_of_ours_are_refused_too(
    world: World, own: Path, tmp_path: Path, changes: dict[str, Any], code: str, field: str
) -> None:
    told = {name: value for name, value in changes.items() if name == "expect"}
    spec = {"teacher": teacher(own) | told, "distill": ["logit"]} | changes
    result, _ = go(tmp_path, world.folder, **{name: value for name, value in spec.items() if name != "expect"})
    assert result.error is not None
    assert (result.error.code, result.error.field) == (code, field)


def test_other_classes_by_name(world: World, own: Path, tmp_path: Path) -> None:
    def renamed(model: onnx.ModelProto) -> None:
        text = json.loads(model.metadata_props[0].value)
        text["classes"].reverse()
        model.metadata_props[0].value = json.dumps(text)

    path = edited(own, tmp_path / "reversed.onnx", renamed)
    result, _ = go(tmp_path, world.folder, teacher=teacher(path), distill=["logit"])
    assert result.error is not None
    assert result.error.code == "teacher.other_classes"


@pytest.fixture(scope="module")
def detector(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RetinaNet with random weights, exported."""
    spec = parse_job(DETECTION).dataset
    classes = open_dataset(spec, cache=world.folder, task="detection").classes
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return export_detector(DETECTION["student"]["arch"], classes, path, (64, 96))


@pytest.mark.parametrize("change", [None, foreign])
def test_detectors_teach_by_their_pyramid(
    world: World, detector: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], Any] | None
) -> None:
    """A file of ours is scored by its boxes; a stranger's cannot be, which is said aloud."""
    told: dict[str, Any] = {"weights": str(detector), "expect": {"map": 0.0, "tolerance": 100.0}}
    if change is not None:
        features = {f"level.p{n}": f"p{n}" for n in (3, 4)}
        told = {"weights": str(edited(detector, tmp_path / "plain.onnx", change)), "onnx": {"features": features}}
    job = DETECTION | {"exports": [], "schedule": {"iterations": 2}}
    terms = [{"method": "fgd", "at": ["p3", "p4"]}, {"method": "cwd", "at": ["p3"]}]
    result, events = go(tmp_path / "a", world.folder, **(job | {"teacher": told, "distill": terms}))
    assert result.status == "succeeded", result.error
    teachers = [event for event in kinds(events, "evaluation") if event.role == "teacher"]
    alarms = [event.info.code for event in kinds(events, "alarm")]
    assert len(teachers) == (change is None)
    assert ("teacher.unscored" in alarms) == (change is not None)
    panels = {panel.kind for panel in kinds(events, "panel")}
    assert ("teacher" in panels) == (change is None)


def test_what_computes() -> None:
    both, cpu = ["CUDAExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]
    assert providers(torch.device("cpu"), both) == cpu
    assert providers(torch.device("cuda", 1), cpu) == cpu
    [(name, options), last] = providers(torch.device("cuda", 1), both)
    assert (name, options["device_id"], last) == (*both[:1], 1, *both[1:])
