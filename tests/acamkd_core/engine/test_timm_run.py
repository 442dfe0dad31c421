"""Whole jobs whose networks stand on timm's: taught, exported, and the file re-scored by the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from acamkd_core.models.registry import build_model
from acamkd_core.models.weights import load_weights, read_native_header
from tests.acamkd_core.engine.world import World, go, kinds

HALF = (0.5, 0.5, 0.5)


def test_a_segmenter_from_an_own_teacher_to_verified_files(world: World, tmp_path: Path) -> None:
    """ConvNeXt rounds its maps down, so the odd crop is padded; channels differ at each level."""
    torch.set_num_threads(1)
    result, events = go(
        tmp_path,
        world.folder,
        student={"arch": {"family": "deeplabv3", "backbone": "timm:test_convnext", "aspp_channels": 16}},
        teacher=world.taught(),
        distill=[{"method": "acam", "at": "c4"}, {"method": "cwd"}],
        augment={"size": [42, 58]},
        exports=["onnx", "safetensors"],
    )
    assert result.status == "succeeded", result.error
    resolved = kinds(events, "resolved")[0]
    assert resolved.automatic["student.preprocess"]["mean"] == HALF
    assert [pair["adapter"] for pair in resolved.pairs] == [True, False]
    (file,) = (event for event in kinds(events, "export") if event.format == "onnx")
    assert file.verified is True, file.gate
    path = tmp_path / "exports" / "model.safetensors"
    header = read_native_header(path)
    assert header is not None
    assert header.preprocess.mean == HALF
    model = build_model(header.arch, num_classes=header.num_classes, preprocess=header.preprocess)
    report = load_weights(model, path, strict=True)
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], {})


@pytest.mark.parametrize(
    "augment",
    [{}, pytest.param({"resize": {"short": 64, "max": 100}}, marks=pytest.mark.long)],
    ids=["stretched", "any size"],
)
def test_a_detector_is_taught_on_its_pyramid_with_frozen_stages(augment: dict[str, Any], tmp_path: Path) -> None:
    """With free sizes the student's backbone pads images inside the graph."""
    torch.set_num_threads(1)
    net = {"family": "retinanet", "fpn_channels": 16, "head_depth": 1}
    scenes = {"format": "scenes", "train_images": 4, "val_images": 2, "test_images": 1, "size": [64, 96]}
    teacher = tmp_path / "teacher"
    common = {
        "dataset": scenes,
        "augment": augment,
        "schedule": {"iterations": 2},
        "evaluation": {"every": 2, "panels": 0},
    }
    arch = {**net, "backbone": "timm:test_resnet"}
    result, _ = go(teacher, tmp_path, student={"arch": arch}, exports=["safetensors"], **common)
    assert result.status == "succeeded", result.error
    weights = {"file": str(teacher / "exports" / "model.safetensors")}
    result, events = go(
        tmp_path / "student",
        tmp_path,
        student={
            "arch": {**net, "backbone": "timm:test_convnext"},
            "inherit": ["neck", "head"],
            "freeze": {"stages": 1, "norm": "eval"},
        },
        teacher={"weights": weights, "expect": {"map": 0, "tolerance": 100}},
        distill=[{"method": "acam"}],
        exports=["onnx"],
        **common,
    )
    assert result.status == "succeeded", result.error
    automatic = kinds(events, "resolved")[0].automatic
    assert automatic["teacher.preprocess"]["mean"] == HALF, "the file says what its network was trained on"
    assert automatic["student.preprocess"]["mean"] == HALF
    assert [pair["student_level"] for pair in kinds(events, "resolved")[0].pairs] == ["p3", "p4", "p5", "p6", "p7"]
    (file,) = (event for event in kinds(events, "export") if event.format == "onnx")
    assert file.verified is True, file.gate
