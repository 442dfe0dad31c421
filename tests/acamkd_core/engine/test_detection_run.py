"""Whole detection jobs on scenes: teacher, ACAM-KD on the pyramid, gate, bundle; and an exact resume."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from acamkd_core.engine.parts import Run
from acamkd_core.engine.result import JobResult
from acamkd_core.engine.run import run_job
from acamkd_core.models.state import read_state
from acamkd_core.native_file import write_native
from acamkd_core.spec.job import JobSpec, parse_job
from acamkd_core.spec.native import read_native_header

DATA = {"format": "scenes", "train_images": 12, "val_images": 4, "test_images": 4, "size": [64, 96]}
ARCH = {
    "family": "retinanet",
    "backbone": "mobilenet_v2",
    "width": 0.35,
    "fpn_channels": 16,
    "head_depth": 1,
    "anchor_scale": 2,
}
BASE: dict[str, Any] = {
    "dataset": DATA, "student": {"arch": ARCH}, "optimizer": {"name": "adamw", "lr": 3e-3}, "batch": {"global_size": 4},
    "evaluation": {"every": 6, "panels": 1}, "schedule": {"iterations": 12},
}  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("cache")


def go(
    folder: Path, cache: Path, stop_at: int | None = None, resume: Path | None = None, **changes: Any
) -> tuple[JobResult, list[Any]]:
    events: list[Any] = []
    done = 0

    def emit(event: Any) -> None:
        nonlocal done
        events.append(event)
        done = max(done, getattr(event, "iteration", 0)) if event.type == "metrics" else done

    spec = parse_job(BASE | changes)
    assert isinstance(spec, JobSpec)
    assert spec.task == "detection"
    run = Run(folder, cache, resume=resume, attempt=2 if resume else 1)
    result = run_job(
        spec, paths=run, emit=emit, should_stop=lambda: stop_at is not None and done >= stop_at, device="cpu"
    )
    return result, events


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    student = {"arch": {**ARCH, "fpn_channels": 24}}
    result, _ = go(
        folder, cache, student=student, schedule={"iterations": 70}, evaluation={"every": 70}, exports=["safetensors"]
    )
    assert result.status == "succeeded", result.error
    assert result.metrics["best/map"] > 0
    return folder / "exports" / "model.safetensors"


def distilled(teacher: Path, **term: Any) -> dict[str, Any]:
    return {
        "teacher": {"weights": {"file": str(teacher)}, "expect": {"map": 0, "tolerance": 100}},
        "distill": [{"method": "acam", **term}],
    }


def test_acam_on_the_pyramid_from_data_to_verified_download(tmp_path: Path, cache: Path, teacher: Path) -> None:
    result, events = go(tmp_path, cache, **distilled(teacher))
    assert result.status == "succeeded", result.error
    assert {"test/map", "test/map_50", "val/map", "teacher/map", "export/onnx/map"} <= set(result.metrics)
    by_type: dict[str, list[Any]] = {}
    for event in events:
        by_type.setdefault(event.type, []).append(event)
    (resolved,) = by_type["resolved"]
    assert [pair["student_level"] for pair in resolved.pairs] == ["p3", "p4", "p5", "p6", "p7"]
    assert all(pair["adapter"] and pair["teacher"][0] == 24 for pair in resolved.pairs)
    assert resolved.automatic["distill.0.masks"] == 6
    values = [event.values for event in by_type["metrics"]]
    names = set().union(*values)
    assert {
        "loss/task",
        "loss/task/class",
        "loss/task/box",
        "loss/acam/spatial",
        "kd/share",
        "val/map",
        "val/ap/car",
    } <= names
    step = next(one for one in values if "loss/task/class" in one)
    assert step["loss/task"] == pytest.approx(step["loss/task/class"] + step["loss/task/box"])
    kinds = {event.kind for event in by_type["panel"]}
    assert kinds == {"image", "truth", "prediction", "teacher", "error", "mask_spatial", "mask_channel"}
    assert {event.caption for event in by_type["panel"] if event.kind == "mask_channel"} >= {
        "p3 channel masks",
        "p7 channel masks",
    }
    onnx = next(event for event in by_type["export"] if event.format == "onnx")
    assert onnx.verified is True, onnx.gate
    with zipfile.ZipFile(tmp_path / "exports" / "bundle.zip") as bundle:
        inside = {name.rpartition("/")[2]: name for name in bundle.namelist()}
        card = bundle.read(inside["README.md"]).decode()
        config = json.loads(bundle.read(inside["config.json"]))
    assert "pipeline_tag: object-detection" in card
    assert "| mAP |" in card
    assert config["task"] == "detection"
    assert set(config["per_class"]["ap"]) == {"sign", "car", "bus", "pedestrian", "cyclist"}


TWO_STAGE = {
    "family": "faster_rcnn", "backbone": "mobilenet_v2", "width": 0.35, "fpn_channels": 16, "head_channels": 16,
}  # fmt: skip


POINT_SETS = {"family": "reppoints", "backbone": "mobilenet_v2", "width": 0.35, "fpn_channels": 64, "head_depth": 1}


@pytest.mark.parametrize(
    "arch",
    [ARCH, pytest.param(TWO_STAGE, marks=pytest.mark.long), pytest.param(POINT_SETS, marks=pytest.mark.long)],
    ids=["retinanet", "faster_rcnn", "reppoints"],
)
def test_a_resumed_run_is_the_undisturbed_one(tmp_path: Path, cache: Path, teacher: Path, arch: dict[str, Any]) -> None:
    """Also where anchors and regions are drawn at random (Faster R-CNN)."""
    changes = {**distilled(teacher, at=["p4", "p5"]), "exports": ["safetensors"], "augment": {"scale": [0.7, 1.5]}}
    # Scaled images of one batch differ in size, and are padded.
    changes["augment"] |= {"resize": {"short": 80, "max": 110}}
    changes |= {"student": {"arch": arch}, "schedule": {"iterations": 9}}
    whole, _ = go(tmp_path / "whole", cache, **changes)
    cut, _ = go(tmp_path / "cut", cache, stop_at=7, **changes)
    assert (cut.status, cut.iteration) == ("stopped", 7)
    (checkpoint,) = (tmp_path / "cut" / "checkpoints").glob("*7.ckpt")
    resumed, _ = go(tmp_path / "again", cache, resume=checkpoint, **changes)
    assert resumed.status == "succeeded", resumed.error
    assert resumed.weights_digest == whole.weights_digest
    assert resumed.metrics == whole.metrics


SSDLITE = {"family": "ssdlite", "width": 0.35}
SIX_MAPS = [("m1", "p4"), ("m2", "p5"), ("m3", "p6"), ("m4", "p7")]
SAME = [(name, name) for name in ("p3", "p4", "p5", "p6", "p7")]


@pytest.mark.parametrize(("arch", "pairs"), [(SSDLITE, SIX_MAPS), (POINT_SETS, SAME)], ids=["ssdlite", "reppoints"])
def test_another_family_learns_from_the_pyramid(
    tmp_path: Path, cache: Path, teacher: Path, arch: dict[str, Any], pairs: list[tuple[str, str]]
) -> None:
    """SSDLite's maps are paired with the teacher's levels by stride, RepPoints' by name; their own graphs pass the gate."""
    changes = distilled(teacher) | {"student": {"arch": arch}, "schedule": {"iterations": 4}}
    result, events = go(tmp_path, cache, **changes)
    assert result.status == "succeeded", result.error
    resolved = next(event for event in events if event.type == "resolved")
    assert [(pair["student_level"], pair["teacher_level"]) for pair in resolved.pairs] == pairs
    assert resolved.automatic["distill.0.at"] == [own for own, _ in pairs]
    if arch is SSDLITE:
        assert resolved.pairs[0]["text"] == "m1 192x4x6 <- p4 24x4x6, adapter to 24"
        assert resolved.spec["distill"][0]["teacher_at"] == ["p4", "p5", "p6", "p7"]
    (onnx,) = [event for event in events if event.type == "export" and event.format == "onnx"]
    assert onnx.verified is True, onnx.gate


def test_levels_without_a_partner_are_told_or_refused(tmp_path: Path, cache: Path, teacher: Path) -> None:
    """MasKD trains one set of masks a level of the teacher: the two-stage student's p2 finds them all taken."""
    two_stage = {
        "family": "faster_rcnn",
        "backbone": "mobilenet_v2",
        "width": 0.35,
        "fpn_channels": 16,
        "head_channels": 16,
    }
    changes: dict[str, Any] = {
        "student": {"arch": two_stage}, "teacher": str(teacher), "schedule": {"iterations": 1}, "exports": ["safetensors"],
        "distill": [{"method": "maskd", "token_iterations": 1}],
    }  # fmt: skip
    result, events = go(tmp_path / "a", cache, **changes)
    assert result.status == "succeeded", result.error
    notes = [event.message for event in events if event.type == "log"]
    assert any(note.startswith("distill.0 (maskd): left out") and note.endswith(": p2") for note in notes), notes
    named, _ = go(tmp_path / "b", cache, **changes | {"distill": [{"method": "maskd", "at": ["p2", "p3", "p4", "p5"]}]})
    assert named.error is not None
    assert (named.error.code, named.error.field, named.error.value) == ("distill.no_partner", "distill.0.at", "p2")
    assert named.error.hint == (
        "its levels that it can be entered at: p3 (stride 8), p4 (stride 16), p5 (stride 32), p6 (stride 64), p7 (stride 128)"
    )


@pytest.mark.long
def test_a_two_stage_detector_of_any_size_is_delivered_verified(tmp_path: Path, cache: Path) -> None:
    """What is padding is fed to its graph by the gate, and the model card says so to others."""
    changes = {"augment": {"resize": {"short": 80, "max": 110}}, "exports": ["onnx"], "schedule": {"iterations": 4}}
    result, events = go(tmp_path, cache, student={"arch": TWO_STAGE}, **changes)
    assert result.status == "succeeded", result.error
    onnx = next(event for event in events if event.type == "export" and event.format == "onnx")
    assert onnx.verified is True, onnx.gate
    with zipfile.ZipFile(tmp_path / "exports" / "bundle.zip") as bundle:
        card = next(bundle.read(name).decode() for name in bundle.namelist() if name.endswith("/README.md"))
    assert "`size` (N x 2, float32: height and width of each image without its padding)" in card


def test_neck_and_head_can_start_from_the_teacher(tmp_path: Path, cache: Path, teacher: Path) -> None:
    student = {
        "arch": {**ARCH, "fpn_channels": 24},
        "inherit": ["neck", "head"],
        "freeze": {"stages": 1, "norm": "eval"},
    }
    changes = distilled(teacher) | {"student": student, "schedule": {"iterations": 1}, "exports": ["safetensors"]}
    result, events = go(tmp_path, cache, **changes)
    assert result.status == "succeeded", result.error
    told = [event.message for event in events if event.type == "log"]
    assert "student head: 8 of 8 tensors from the teacher" in told
    pairs = next(event for event in events if event.type == "resolved").pairs
    assert not any(pair["adapter"] for pair in pairs)


def test_tasks_that_do_not_fit_are_refused() -> None:
    segmenter = {"arch": {"family": "deeplabv3", "width": 0.35}}
    for changes in ({"student": segmenter, "task": "detection"}, {"teacher": {**segmenter, "weights": {"file": "x"}}}):
        with pytest.raises(Exception, match="task"):
            parse_job(BASE | changes)


@pytest.mark.parametrize(
    ("method", "terms"), [("crosskd", {"loss/crosskd/class", "loss/crosskd/box"}), ("logit", {"loss/logit"})]
)
def test_predictions_of_both_heads_are_compared_or_refused(
    tmp_path: Path, cache: Path, teacher: Path, method: str, terms: set[str]
) -> None:
    """Heads of 16 and 24 channels; images of one batch differ in size, so anchors of the padding must not count."""
    changes = distilled(teacher) | {"distill": method, "schedule": {"iterations": 4}, "exports": ["safetensors"]}
    changes["augment"] = {"scale": [0.7, 1.5], "resize": {"short": 80, "max": 110}}
    result, events = go(tmp_path, cache, **changes)
    assert result.status == "succeeded", result.error
    names = {name for event in events if event.type == "metrics" for name in event.values}
    assert terms <= names
    other = {"arch": {"family": "fcos", "backbone": "mobilenet_v2", "width": 0.35, "fpn_channels": 64}}
    result, _ = go(tmp_path / "b", cache, **changes | {"student": other})
    assert result.error is not None
    assert (result.error.code, result.error.field) == ("method.other_head", "distill.0.method")


def test_a_detector_of_permuted_classes_scores_and_teaches_as_the_original(
    tmp_path: Path, cache: Path, teacher: Path
) -> None:
    header = read_native_header(teacher)
    assert header is not None
    classes = header.num_classes
    order = list(reversed(range(classes)))
    state = read_state(teacher)
    predictors = [name for name, one in state.items() if "class" in name and one.shape[:1] == (9 * classes,)]
    assert predictors
    for name in predictors:  # nine anchors of so many classes
        state[name] = state[name].view(9, classes, *state[name].shape[1:])[:, order].flatten(0, 1).clone()
    names = tuple(header.class_names[row].upper() for row in order)
    write_native(tmp_path / "t.safetensors", state, header.model_copy(update={"class_names": names}))

    job: dict[str, Any] = {"exports": [], "schedule": {"iterations": 1}, "evaluation": {"every": 1, "panels": 0}}
    told = distilled(tmp_path / "t.safetensors")
    told["teacher"]["label_map"] = "by_name"
    result, events = go(tmp_path / "a", cache, **told, **job)
    assert result.status == "succeeded", result.error
    original, expected = go(tmp_path / "b", cache, **distilled(teacher), **job)
    assert result.metrics["teacher/map"] == original.metrics["teacher/map"] > 0
    scored = [next(e for e in run if e.type == "evaluation" and e.role == "teacher") for run in (events, expected)]
    assert scored[0].per_class == scored[1].per_class
    assert result.metrics["test/map"] == original.metrics["test/map"]
    crossed, _ = go(tmp_path / "c", cache, **{**told, "distill": [{"method": "crosskd"}]}, **job)
    assert crossed.error is not None
    assert (crossed.error.code, crossed.error.field) == ("method.other_classes", "distill.0.method")
