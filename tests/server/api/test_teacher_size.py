"""A teacher that sees another size than the student, at submission: told in words, or refused with what would fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from acamkd_core.native_file import write_native
from acamkd_core.spec.native import NativeHeader
from tests import onnx_graphs
from tests.server.api.conftest import World
from tests.server.api.test_jobs import JOBS, codes

SCENES = {"format": "scenes", "size": [320, 320]}
SPEC: dict[str, Any] = {
    "dataset": SCENES, "student": "ssdlite-mobilenet_v2",
    "teacher": {"weights": "retina.safetensors", "size": [640, 640]},
    "distill": [{"method": "acam", "at": ["m1", "m2", "m3"], "teacher_at": ["p5", "p6", "p7"]}],
}  # fmt: skip


@pytest.fixture
def world(world: World) -> World:
    """A RetinaNet that only its file names, and a graph for images of 48 x 64."""
    header = NativeHeader.model_validate({"arch": {"family": "retinanet", "backbone": "resnet50"}, "num_classes": 11})
    write_native(world.roots / "retina.safetensors", {"x": torch.zeros(1)}, header)
    onnx_graphs.write(world.roots / "teacher.onnx", onnx_graphs.segmenter())
    return world


def dry(world: World, **changes: Any) -> Any:
    return world.client.post(f"{JOBS}?dry_run=true", json=SPEC | changes)


def test_the_summary_says_what_the_teacher_sees(world: World) -> None:
    answer = dry(world)
    assert answer.status_code == 200, answer.text
    [pair] = [line for line in answer.json()["summary"] if line.startswith("pair")]
    assert "sees 640x640 -> student" in pair
    origins = {one["path"]: one["origin"] for one in answer.json()["origins"]}
    assert origins["teacher.size"] == "given"


def levels(**names: Any) -> dict[str, Any]:
    return {"distill": [{"method": "acam", **names}]}


def test_levels_are_as_far_apart_as_the_sizes_make_them(world: World) -> None:
    """p3 of 640 x 640 has four times the sides of m1; of 1280 x 1280 eight times."""
    at = levels(at=["m1"], teacher_at=["p3"])
    assert dry(world, **at).status_code == 200
    larger = {"weights": "retina.safetensors", "size": [1280, 1280]}
    answer = dry(world, teacher=larger, **at)
    assert codes(answer) == {"distill.0.teacher_at": "distill.far_levels"}
    [problem] = answer.json()["problems"]
    assert "the student's 'm1' has stride 16, the teacher's 'p3' stride 2" in problem["message"]
    assert problem["hint"].startswith("nearest teacher levels: p6, ")


def test_what_cannot_be_is_refused(world: World) -> None:
    logit = dry(world, student="retinanet-r50-fpn", distill="logit")
    assert codes(logit) == {"distill.0.method": "spec.invalid"}
    assert logit.json()["problems"][0]["hint"].startswith(
        "crosskd, fgd, pkd, cwd and acam compare maps of different sizes"
    )
    assert codes(dry(world, augment={"resize": {"short": 320, "max": 640}})) == {"teacher.size": "spec.invalid"}


def test_graphs_of_a_fixed_size(world: World) -> None:
    job: dict[str, Any] = {
        "dataset": {"format": "scenes", "size": [96, 128]}, "student": "mobile_deeplabv3", "distill": "logit"
    }  # fmt: skip
    refused = dry(world, teacher="teacher.onnx", **job)
    assert codes(refused) == {"augment.size": "onnx.fixed_size"}
    assert refused.json()["problems"][0]["hint"].startswith(
        "teacher: {size: [48, 64]} shows it the job's images resized"
    )
    assert dry(world, teacher={"weights": "teacher.onnx", "size": [48, 64]}, **job).status_code == 200
    other = dry(world, teacher={"weights": "teacher.onnx", "size": [64, 64]}, **job)
    assert codes(other) == {"teacher.size": "onnx.fixed_size"}
    crop = dry(world, teacher={"weights": "teacher.onnx", "size": [48, 64]}, augment={"crop": [48, 64]}, **job)
    assert codes(crop) == {"augment.crop": "onnx.fixed_size"}


def test_a_vit_of_one_size_and_a_student_of_another(world: World) -> None:
    header = NativeHeader.model_validate(
        {"arch": {"family": "timm", "backbone": "timm:vit_small_patch16_384"}, "num_classes": 3}
    )
    write_native(world.roots / "vit.safetensors", {"x": torch.zeros(1)}, header)
    (world.roots / "pets").mkdir()
    job: dict[str, Any] = {
        "dataset": {"format": "image_folder", "root": str(world.roots / "pets")}, "student": "mobilenet_v2-1.0",
        "distill": "logit", "augment": {"size": [224, 224]},
    }  # fmt: skip
    assert codes(dry(world, teacher="vit.safetensors", **job)) == {"augment.size": "augment.network_size"}
    assert dry(world, teacher={"weights": "vit.safetensors", "size": [384, 384]}, **job).status_code == 200
    wrong = dry(world, teacher={"weights": "vit.safetensors", "size": [224, 224]}, **job)
    assert codes(wrong) == {"teacher.size": "teacher.network_size"}
    assert wrong.json()["problems"][0]["hint"] == "teacher: {size: [384, 384]}"
