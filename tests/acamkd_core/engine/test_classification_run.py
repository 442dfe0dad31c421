"""Whole classification jobs on an image folder: teacher, distillation, gate, bundle; an exact resume; refusals."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from acamkd_core.engine.result import JobResult
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.job import parse_job
from acamkd_core.spec.native import read_native_header
from tests.acamkd_core.datasets.shapes_factory import write_shapes
from tests.acamkd_core.engine import world
from tests.acamkd_core.engine.onnx_files import edited, export_classifier, foreign
from tests.acamkd_core.engine.world import kinds, points

NET = {"family": "mobilenet_v2", "width": 0.35}
BASE: dict[str, Any] = {
    "student": {"arch": NET}, "augment": {"size": [64, 64], "area": [0.4, 1.0]}, "batch": {"global_size": 6},
    "optimizer": {"name": "adamw", "lr": 3e-3}, "schedule": {"iterations": 8}, "evaluation": {"every": 4, "panels": 1},
    "task_loss": {"label_smoothing": 0.1},
}  # fmt: skip
TERMS = [{"method": "logit", "temperature": 4.0}, {"method": "acam"}, {"method": "pkd", "at": ["c4", "logits"]}]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("shapes")
    return write_shapes(folder / "shapes", {"train": 6, "val": 3, "test": 3}, size=(70, 90))


def go(folder: Path, data: Path, **changes: Any) -> tuple[JobResult, list[Any]]:
    return world.go(folder, data.parent / "cache", **({"dataset": str(data)} | BASE | changes))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    result, events = go(
        folder, data, student={"arch": {**NET, "width": 0.5}}, task="classification", exports=["safetensors"]
    )
    assert result.status == "succeeded", result.error
    assert kinds(events, "resolved")[0].automatic["augment.short_side"] == 73
    return folder / "exports" / "model.safetensors"


def taught(teacher: Path, **changes: Any) -> dict[str, Any]:
    known = {"weights": {"file": str(teacher)}, "expect": {"top1": 50.0, "tolerance": 100.0}}
    return {"teacher": known, "distill": TERMS} | changes


def test_a_job_distils_and_its_download_is_verified(tmp_path: Path, data: Path, teacher: Path) -> None:
    result, events = go(tmp_path, data, **taught(teacher, exports=["safetensors", "onnx"]))
    assert result.status == "succeeded", result.error
    assert set(result.metrics) >= {"best/top1", "test/top1", "test/mean_accuracy", "teacher/top1", "export/onnx/top1"}
    spec = kinds(events, "resolved")[0].spec
    assert spec["task"] == "classification"
    assert [list(term["at"]) for term in spec["distill"]] == [["logits"], ["c5"], ["c4", "logits"]]
    names = {name for _, name in points(events)}
    assert names >= {"loss/task", "loss/logit", "loss/acam/spatial", "loss/pkd", "val/top1", "val/mean_accuracy"}
    scored = kinds(events, "evaluation")[-1]
    assert set(scored.per_class) == {"apple", "leaf", "sky"}
    onnx = next(event for event in kinds(events, "export") if event.format == "onnx")
    assert onnx.verified is True, onnx.gate
    assert onnx.gate["agreement"] == 100
    pictures = {event.kind: event.path for event in kinds(events, "panel")}
    assert set(pictures) >= {"image", "truth", "prediction", "teacher", "error", "mask_spatial"}
    assert np.asarray(Image.open(tmp_path / pictures["prediction"])).shape[1] >= 192
    with zipfile.ZipFile(tmp_path / "exports" / "bundle.zip") as bundle:
        files = {Path(name).name: bundle.read(name) for name in bundle.namelist()}
    assert files["labels.txt"].decode().split() == ["apple", "leaf", "sky"]
    config = json.loads(files["config.json"])
    assert (config["task"], config["size"], config["short_side"]) == ("classification", [64, 64], 73)
    card = files["README.md"].decode()
    assert "pipeline_tag: image-classification" in card
    assert "the middle of an image whose shorter side was resized to 73" in card
    assert "Verified:" in card
    header = read_native_header(tmp_path / "exports" / "model.safetensors")
    assert header is not None
    assert (header.task, header.class_names, header.extra["short_side"]) == (
        "classification", ("apple", "leaf", "sky"), 73,
    )  # fmt: skip


def test_a_resumed_run_is_the_undisturbed_one(tmp_path: Path, data: Path, teacher: Path) -> None:
    job = taught(teacher, augment={"size": [64, 64], "colour": 0.2}, checkpoint={"every": 2})
    whole, events = go(tmp_path / "whole", data, **job)
    first, early = go(
        tmp_path / "first",
        data,
        **job,
        stop=lambda seen: any(event.type == "metrics" and event.iteration >= 5 for event in seen),
    )
    assert first.status == "stopped"
    last = kinds(early, "checkpoint")[-1]
    assert 0 < last.iteration < 8
    second, rest = go(tmp_path / "second", data, **job, resume=tmp_path / "first" / last.path)
    assert second.weights_digest == whole.weights_digest
    later, undisturbed = points(rest), points(events)
    assert later
    assert all(undisturbed[place] == value for place, value in later.items())


def test_loader_processes_do_not_change_a_number(tmp_path: Path, data: Path) -> None:
    digests = [
        go(tmp_path / str(workers), data, batch={"global_size": 6, "workers": workers})[0].weights_digest
        for workers in (0, 2)
    ]
    assert digests[0] == digests[1] is not None


def test_what_does_not_fit_is_refused_with_what_would(tmp_path: Path, data: Path, teacher: Path) -> None:
    for method, code in (("cwd", "method.needs_positions"), ("fgd", "method.needs_boxes")):
        term = {"method": method, "at": "logits"}
        result, _ = go(tmp_path / method, data, **taught(teacher, distill=[term]))
        assert result.error is not None
        assert (result.error.code, result.error.field) == (
            code,
            "distill.0.at" if method == "cwd" else "distill.0.method",
        )
        assert result.error.hint
    with pytest.raises(CoreError, match="task"):
        parse_job({"dataset": {"format": "image_folder", "root": "x"}, "student": "deeplabv3-resnet18"})


def test_a_teacher_that_knows_nothing_is_stopped(tmp_path: Path, data: Path) -> None:
    result, _ = go(
        tmp_path / "untrained", data, schedule={"iterations": 1}, optimizer={"lr": 1e-9}, exports=["safetensors"]
    )
    assert result.status == "succeeded"
    weights = tmp_path / "untrained" / "exports" / "model.safetensors"
    refused, _ = go(tmp_path / "b", data, teacher=str(weights), distill="logit")
    assert refused.error is not None
    assert refused.error.code == "teacher.below_constant"
    assert "(33.33)" in refused.error.message


@pytest.mark.parametrize("change", [None, foreign])
def test_a_teacher_in_an_onnx_file_scores_and_teaches_as_the_network_in_torch(
    tmp_path: Path, data: Path, teacher: Path, change: Any
) -> None:
    path = export_classifier(teacher, tmp_path / "model.onnx", (64, 64))
    told: dict[str, Any] = {"weights": str(path), "expect": {"top1": 50.0, "tolerance": 100.0}}
    if change is not None:
        edited(path, path, change)
        told["onnx"] = {"features": {"level.c4": "c4", "level.c5": "c5"}}
    result, events = go(tmp_path / "a", data, **taught(teacher, exports=[]) | {"teacher": told})
    assert result.status == "succeeded", result.error
    _, expected = go(tmp_path / "b", data, **taught(teacher, exports=[]))
    scored = [next(e for e in kinds(run, "evaluation") if e.role == "teacher") for run in (events, expected)]
    assert scored[0].metrics == scored[1].metrics
    mine, theirs = points(events), points(expected)
    for name in {name for step, name in theirs if step == 1 and name.startswith("loss/")}:
        assert mine[1, name] == pytest.approx(theirs[1, name], rel=1e-4), name
    shapes = [[pair["teacher"] for pair in kinds(run, "resolved")[0].pairs] for run in (events, expected)]
    assert shapes[0] == shapes[1]
