"""Numbers that a job leaves out are those of the method's paper for the student's family. Typed from the papers' tables."""

from __future__ import annotations

from typing import Any

import pytest

from acamkd_core.spec.fit import settle
from acamkd_core.spec.job import JobSpec, parse_job
from acamkd_core.spec.origins import origins_of

SEGMENTER, CLASSIFIER, ONE_STAGE, TWO_STAGE = (
    "deeplabv3-resnet18",
    "resnet18",
    "retinanet-r50-fpn",
    "faster_rcnn-resnet50",
)
FCOS, POINTS, SIX_MAPS = "fcos-r50-fpn", "reppoints-r50-fpn", "ssdlite-mobilenet_v2"
FGD = ("foreground_weight", "background_weight", "attention_weight", "global_weight")


def job(student: str, term: dict[str, Any], **teacher: Any) -> JobSpec:
    spec = parse_job({
        "dataset": "data", "student": student, "teacher": {"weights": "t.safetensors", **teacher}, "distill": term,
    })  # fmt: skip
    assert isinstance(spec, JobSpec)
    return spec


@pytest.mark.parametrize(("student", "term", "numbers"), [
    (SEGMENTER, {"method": "cwd"}, {"weight": 3}),
    (SEGMENTER, {"method": "cwd", "at": "c5"}, {"weight": 50}),
    (SEGMENTER, {"method": "cwd", "at": ["c5", "logits"]}, {"weight": 3}),
    (CLASSIFIER, {"method": "cwd"}, {"weight": 50}),
    (TWO_STAGE, {"method": "cwd"}, {"weight": 50}),
    (SEGMENTER, {"method": "mgd"}, {"weight": 2e-5, "mask_ratio": 0.75}),
    (ONE_STAGE, {"method": "mgd"}, {"weight": 2e-5, "mask_ratio": 0.65}),
    (SIX_MAPS, {"method": "mgd"}, {"weight": 2e-5, "mask_ratio": 0.65}),
    (TWO_STAGE, {"method": "mgd"}, {"weight": 5e-7, "mask_ratio": 0.45}),
    (SEGMENTER, {"method": "maskd"}, {"weight": 0.5}),
    (ONE_STAGE, {"method": "maskd"}, {"weight": 7}),
    (TWO_STAGE, {"method": "maskd"}, {"weight": 7}),
    (FCOS, {"method": "maskd"}, {"weight": 10}),
    (POINTS, {"method": "maskd"}, {"weight": 10}),
    (ONE_STAGE, {"method": "fgd"}, {"temperature": 0.5} | dict(zip(FGD, (1e-3, 5e-4, 1e-3, 5e-6), strict=True))),
    (TWO_STAGE, {"method": "fgd"}, {"temperature": 0.5} | dict(zip(FGD, (5e-5, 2.5e-5, 5e-5, 5e-7), strict=True))),
    (FCOS, {"method": "fgd"}, {"temperature": 0.8} | dict(zip(FGD, (1.6e-3, 8e-4, 8e-4, 8e-6), strict=True))),
    (POINTS, {"method": "fgd"}, {"temperature": 0.5} | dict(zip(FGD, (1.6e-3, 8e-4, 8e-4, 8e-6), strict=True))),
    (ONE_STAGE, {"method": "crosskd"}, {"class_weight": 1, "box_weight": 1, "stage": None}),
    (FCOS, {"method": "crosskd"}, {"class_weight": 0.4, "box_weight": 0.75, "stage": None}),
    (ONE_STAGE, {"method": "pkd"}, {"weight": 6}),
])  # fmt: skip
def test_numbers_of_the_papers(student: str, term: dict[str, Any], numbers: dict[str, Any]) -> None:
    spec = job(student, term)
    assert {name: getattr(spec.distill[0], name) for name in numbers} == numbers
    origins = {leaf.path: leaf.origin for leaf in origins_of(spec)}
    automatic = {name for name in numbers if origins[f"distill.0.{name}"] == "automatic"}
    assert automatic == set(numbers)
    decided = spec.distill[0].decided()
    assert {name: decided.get(name) for name in numbers} == numbers


def test_what_is_given_stays_also_when_a_stored_spec_is_read_again() -> None:
    spec = job(TWO_STAGE, {"method": "mgd", "weight": 2e-5})
    assert (spec.distill[0].weight, spec.distill[0].mask_ratio) == (2e-5, 0.45)  # type: ignore[union-attr]
    assert {leaf.path: leaf.origin for leaf in origins_of(spec)}["distill.0.weight"] == "given"
    stored = spec.model_dump(mode="json")
    stored["distill"][0]["mask_ratio"] = 0.75  # as a version with one number for all had stored it
    again = parse_job(stored)
    assert isinstance(again, JobSpec)
    assert again.model_dump(mode="json") == stored


def test_numbers_that_the_teacher_decides_come_when_it_is_known() -> None:
    known = job(ONE_STAGE, {"method": "pkd"}, arch=FCOS)
    assert known.distill[0].weight == 10
    assert job(SEGMENTER, {"method": "pkd"}, arch="pspnet-resnet50").distill[0].weight == 6
    later = job(FCOS, {"method": "crosskd"})
    assert later.student.arch is not None
    settle(later.distill, "detection", later.student.arch, later.student.arch)
    assert later.distill[0].decided()["stage"] == 2
