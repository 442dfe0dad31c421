"""Mistakes that a job's words alone show are refused when it is read, with the field and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from acamkd_core.spec.errors import SpecInvalid
from acamkd_core.spec.job import parse_job

DETECTION: dict[str, Any] = {
    "dataset": {"format": "coco", "root": "./coco"},
    "teacher": {"arch": "retinanet-r50-fpn", "weights": "./t.pth"},
    "student": {"arch": "retinanet-mobilenet_v2"},
    "distill": "cwd",
}
SEGMENTATION: dict[str, Any] = {"dataset": "scenes", "student": {"arch": "mobile_deeplabv3"}}


@pytest.mark.parametrize(
    ("spec", "field", "hint"),
    [
        (DETECTION | {"teacher": {**DETECTION["teacher"], "expect": {"miou": 50}}}, "teacher.expect", "map: ..."),
        (DETECTION | {"student": {"arch": "fcos-r50-fpn", "inherit": ["head"]}}, "student.inherit", "one family"),
        (
            DETECTION | {"student": {"arch": "ssdlite-mobilenet_v2", "inherit": ["neck"]}, "distill": []},
            "student.inherit",
            "have a neck",
        ),
        (DETECTION | {"task_loss": {"class_weights": [1, 2]}}, "task_loss.class_weights", "leave it out"),
        (SEGMENTATION | {"batch": {"global_size": 1}}, "batch.global_size", "at least 2 images"),
        (SEGMENTATION | {"batch": {"global_size": 4, "accumulate": 4}}, "batch.global_size", "at least 2 images"),
        (
            SEGMENTATION | {"student": {"arch": "pspnet-resnet50"}, "batch": {"global_size": 1}},
            "batch.global_size",
            "at least 2 images",
        ),
    ],
)
def test_refused_as_soon_as_it_is_read(spec: dict[str, Any], field: str, hint: str) -> None:
    with pytest.raises(SpecInvalid) as error:
        parse_job(spec)
    (problem,) = error.value.problems
    assert problem.field == field
    assert hint in (problem.hint or "")


@pytest.mark.parametrize(
    "spec",
    [
        DETECTION | {"teacher": {**DETECTION["teacher"], "expect": {"map": 50}}},
        # Only files know the task here.
        {"dataset": "./d", "student": {"weights": "./s.safetensors"}, "distill": "cwd",
         "teacher": {"weights": "./t.safetensors", "expect": {"map": 1}}},
        DETECTION | {"student": {"arch": "retinanet-mobilenet_v2", "inherit": ["neck", "head"]}},
        DETECTION | {"student": {"arch": "fcos-r50-fpn", "inherit": ["neck"]}},
        SEGMENTATION | {"student": {"arch": "lraspp-mobilenet_v2"}, "batch": {"global_size": 1}},
        SEGMENTATION | {"student": {"arch": "mobile_deeplabv3", "freeze": {"norm": "eval"}}, "batch": {"global_size": 1}},
    ],
)  # fmt: skip
def test_what_can_work_is_not_refused(spec: dict[str, Any]) -> None:
    parse_job(spec)
