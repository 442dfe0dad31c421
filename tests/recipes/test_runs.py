"""Recipes run: two steps on miniature datasets in the real layout, with random networks as teacher and backbone.

Every row runs with narrow networks of its families; the pairs that this project is about also with their own networks.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acamkd_core.engine.parts import Run
from acamkd_core.engine.result import JobResult
from acamkd_core.engine.run import run_job
from acamkd_core.models.registry import build_model
from acamkd_core.models.weights import load_weights
from acamkd_core.spec.job import JobSpec, parse_job
from acamkd_core.spec.models import ModelSpec
from acamkd_core.spec.recipes import Recipe
from benchmarks.layouts import picture
from benchmarks.stand_ins import Reduced, stand_in, weights_file
from recipes.library import find, job_of, load_index

RECIPES = load_index().recipes
# One row a pair of networks in `make test`; every other row in `make test-long`.
QUICK = {
    "coco-retinanet-r101-r50-acam",
    "coco-retinanet-x101-r50-freekd",
    "coco-fcos-r101-r50-fgd",
    "coco-reppoints-r101-r50-acam",
    "coco-ssdlite-mobilenet_v2-alone",
    "cityscapes-deeplabv3-r101-r18-maskd",
    "cityscapes-deeplabv3-r101-mobilenet_v2-acam",
    "cityscapes-deeplabv3-r101-pspnet-r18-cwd",
    "voc-deeplabv3-r101-mobile_deeplabv3-acam",
    "coco-faster_rcnn-r101-r50-acam",
    "imagenet-resnet50-mobilenet_v2_1.0-acam",
}
OWN = (
    "coco-retinanet-r101-r50-acam",
    "coco-faster_rcnn-r101-r50-acam",
    "coco-reppoints-r101-r50-acam",
    "cityscapes-deeplabv3-r101-r18-acam",
    "cityscapes-deeplabv3-r101-mobilenet_v2-acam",
    "cityscapes-deeplabv3-r101-pspnet-r18-acam",
)
NARROW: dict[str, Any] = {
    "width": 0.35, "fpn_channels": 64, "head_depth": 1, "aspp_channels": 16, "psp_channels": 16, "head_channels": 32,
    "backbone": "resnet18", "deformable": False,
}  # fmt: skip
SMALL = Reduced(scale=1 / 16, batch=2)


def narrow(model: ModelSpec) -> dict[str, Any]:
    """A small network of the same family: ResNet-18, or MobileNetV2 of width 0.35, with few channels behind."""
    assert model.arch is not None
    fields = model.arch.model_dump(mode="json")
    mobile = "mobile" in fields.get("backbone", "mobile")
    left_out = "backbone" if mobile else "width"
    return fields | {name: value for name, value in NARROW.items() if name in fields and name != left_out}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Networks are large: they go at once."""
    torch.set_num_threads(1)
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def spec_of(recipe: Recipe) -> JobSpec:
    spec = parse_job(job_of(recipe))
    assert isinstance(spec, JobSpec)
    return spec


def go(recipe: Recipe, folder: Path, **changes: Any) -> tuple[JobResult, list[Any]]:
    """Two steps of a recipe; what differs from it, besides paths and size, is in `changes`."""
    own = {"resources.gpus": 0, "batch.workers": 0, "exports": [], **changes}
    job = stand_in(recipe, folder, steps=2, reduced=SMALL, changes=own)
    events: list[Any] = []
    spec = parse_job(job)
    result = run_job(
        spec, paths=Run(folder / "run", folder / "cache"), emit=events.append, should_stop=lambda: False, device="cpu"
    )
    return result, events


def check(recipe: Recipe, result: JobResult, events: list[Any]) -> None:
    assert result.status == "succeeded", result.error
    assert result.iteration == 2
    steps = [event.values for event in events if event.type == "metrics" and "loss/total" in event.values]
    assert len(steps) == 2
    assert all(value is not None for values in steps for value in values.values())
    terms = {name.split("/")[1] for name in steps[0] if name.startswith("loss/")} - {"task", "aux", "total"}
    assert terms == ({recipe.method} if recipe.method != "alone" else set())
    told = [event.message for event in events if event.type == "log"]
    if recipe.method != "alone":
        assert any(
            re.match(r"teacher: teacher.safetensors: \d+ tensors matched \(layout native\)$", line) for line in told
        )
    if spec_of(recipe).student.inherit:
        assert {line.split(":")[0] for line in told if "tensors from the teacher" in line} == {
            "student neck",
            "student head",
        }
    backbone = [line for line in told if line.startswith("student backbone:")]
    assert len(backbone) == (spec_of(recipe).student.backbone_weights is not None)
    assert not any("missing" in line for line in backbone)


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(one, marks=() if one.name in QUICK else pytest.mark.long) for one in RECIPES],
    ids=[one.name for one in RECIPES],
)
def test_every_row_runs_with_narrow_networks(recipe: Recipe, folder: Path) -> None:
    spec = spec_of(recipe)
    changes = {"student.arch": narrow(spec.student)}
    if spec.teacher is not None:
        changes["teacher.arch"] = narrow(spec.teacher)
    check(recipe, *go(recipe, folder, **changes))


@pytest.mark.long
@pytest.mark.parametrize("name", OWN)
def test_the_pairs_run_with_their_own_networks(name: str, folder: Path) -> None:
    check(find(name), *go(find(name), folder))


def test_a_network_that_has_seen_pictures_keeps_its_activations_in_bounds(folder: Path) -> None:
    """Without statistics a ResNet-101 doubles its variance in every block: no step on it would mean anything."""
    model = ModelSpec.model_validate({"arch": {"family": "retinanet", "backbone": "resnet18", "fpn_channels": 32}})
    assert model.arch is not None
    network = build_model(model.arch, num_classes=80).eval()
    load_weights(network, weights_file(model, 80, folder / "x.safetensors", "detection"), strict=True)
    image = torch.from_numpy(picture(np.random.default_rng(9), (128, 128))).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        features = network(image).features
    assert all(0.1 < float(value.std()) < 10 for value in features.values()), {
        n: float(v.std()) for n, v in features.items()
    }
