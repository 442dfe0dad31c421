"""Whole classification jobs with timm's own classifiers: taught, teaching, exported, and the file re-scored by the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from acamkd_core.engine.result import JobResult
from acamkd_core.models.registry import build_model
from acamkd_core.models.timm_backbone import load_timm
from acamkd_core.models.weights import load_weights, read_native_header
from tests.acamkd_core.datasets.shapes_factory import write_shapes
from tests.acamkd_core.engine import world
from tests.acamkd_core.engine.world import kinds, points
from tests.acamkd_core.models.conftest import scramble
from tests.acamkd_core.models.test_timm import cached

timm = load_timm("tests")
HALF = (0.5, 0.5, 0.5)
MOBILE = {"arch": {"family": "mobilenet_v2", "width": 0.35}}
BASE: dict[str, Any] = {
    "augment": {"size": [64, 64], "area": [0.4, 1.0]}, "batch": {"global_size": 6}, "optimizer": {"name": "adamw", "lr": 1e-3},
    "schedule": {"iterations": 2}, "evaluation": {"every": 2, "panels": 0}, "exports": [],
}  # fmt: skip
ANY = {"top1": 50.0, "tolerance": 100.0}


def network(name: str) -> dict[str, Any]:
    return {"arch": {"family": "timm", "backbone": f"timm:{name}"}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_shapes(tmp_path_factory.mktemp("shapes") / "shapes", {"train": 4, "val": 2}, size=(70, 90))


def go(folder: Path, data: Path, **changes: Any) -> tuple[JobResult, list[Any]]:
    return world.go(folder, data.parent / "cache", **({"dataset": str(data)} | BASE | changes))


def verified(events: list[Any]) -> bool:
    (file,) = (event for event in kinds(events, "export") if event.format == "onnx")
    assert file.verified is True, file.gate
    return bool(file.gate["agreement"] == 100)


def test_a_vit_is_trained_passes_the_gate_and_teaches_a_mobilenet(tmp_path: Path, data: Path) -> None:
    """Its file says all: architecture, preprocessing, classes. Its maps have another stride than the student's."""
    result, events = go(tmp_path / "vit", data, student=network("test_vit"), exports=["safetensors", "onnx"])
    assert result.status == "succeeded", result.error
    assert kinds(events, "resolved")[0].automatic["student.preprocess"]["mean"] == HALF
    assert verified(events)
    file = tmp_path / "vit" / "exports" / "model.safetensors"
    header = read_native_header(file)
    assert header is not None
    model = build_model(header.arch, num_classes=header.num_classes, preprocess=header.preprocess)
    report = load_weights(model, file, strict=True)
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], {})
    for weights in (file, file.with_name("model.onnx")):
        result, events = go(
            tmp_path / weights.suffix,
            data,
            student=MOBILE,
            teacher={"weights": str(weights), "expect": ANY},
            distill=[
                "logit",
                {"method": "acam", "teacher_at": "b6"},
                {"method": "pkd", "at": "c4", "teacher_at": "b3"},
            ],
        )
        assert result.status == "succeeded", result.error
        assert {name for _, name in points(events)} >= {"loss/logit", "loss/acam/spatial", "loss/pkd"}
        pairs = {(p["student_level"], p["teacher_level"], *p["teacher"]) for p in kinds(events, "resolved")[0].pairs}
        assert pairs >= {("logits", "logits", 3, 0), ("c5", "b6", 64, 16), ("c4", "b3", 64, 16)}


def test_a_network_of_one_size_teaches_from_timms_file_and_an_efficientnet_starts_from_one(
    tmp_path: Path, data: Path
) -> None:
    """The teacher decides on the size, and augmentation cuts it out of smaller images as well."""
    for name, classes in (("test_maxvit", 3), ("test_efficientnet", 1000)):
        net = timm.create_model(name, num_classes=classes)
        scramble(net)
        safetensors.torch.save_model(net, str(tmp_path / f"{name}.safetensors"))
    start = {"file": str(tmp_path / "test_efficientnet.safetensors"), "layout": "timm"}
    result, events = go(
        tmp_path / "job",
        data,
        augment={"area": [0.4, 1.0]},
        student={**network("test_efficientnet"), "backbone_weights": start, "freeze": {"stages": 1}},
        teacher={
            **network("test_maxvit"),
            "weights": {"file": str(tmp_path / "test_maxvit.safetensors"), "layout": "timm"},
            "expect": ANY,
        },
        distill=["acam", "logit"],
        train={"grad_checkpoint": True},
        exports=["onnx"],
    )
    assert result.status == "succeeded", result.error
    spec = kinds(events, "resolved")[0].spec
    assert list(spec["augment"]["size"]) == [160, 160]
    assert [list(term["at"]) for term in spec["distill"]] == [["c5"], ["logits"]]
    assert verified(events)


def test_timms_own_weights_teach_by_a_label_map(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    net = timm.create_model("test_resnet")
    scramble(net)
    cached(tmp_path / "hub", "timm/test_resnet.r160_in1k", net)
    teacher = {
        "weights": "timm:test_resnet.r160_in1k",
        "expect": ANY,
        "label_map": {"n07742313": "apple", "n01440764": "sky", "n01443537": "sky"},
    }
    result, events = go(tmp_path / "job", data, student=MOBILE, teacher=teacher, distill=["logit", {"method": "cwd"}])
    assert result.status == "succeeded", result.error
    assert kinds(events, "resolved")[0].automatic["teacher.preprocess"]["mean"] == HALF
    assert any("2 of 3 classes: apple <- n07742313" in event.message for event in kinds(events, "log"))


def test_a_file_of_a_network_of_one_size_decides_too_and_another_size_is_refused(tmp_path: Path, data: Path) -> None:
    result, _ = go(tmp_path / "a", data, augment={}, student=network("test_maxvit"), exports=["safetensors"])
    assert result.status == "succeeded", result.error
    teacher = {"weights": str(tmp_path / "a" / "exports" / "model.safetensors"), "expect": ANY}
    result, events = go(tmp_path / "b", data, augment={}, student=MOBILE, teacher=teacher, distill="logit")
    assert result.status == "succeeded", result.error
    assert list(kinds(events, "resolved")[0].spec["augment"]["size"]) == [160, 160]
    result, _ = go(tmp_path / "c", data, student=MOBILE, teacher=teacher, distill="logit")
    assert result.error is not None
    assert (result.error.code, result.error.field) == ("augment.network_size", "augment.size")
    assert result.error.hint == "augment: {size: [160, 160]}, or teacher: {size: [160, 160]}"
