"""Mistakes in a spec: each at the path that the user wrote, with what was probably meant."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acamkd_core.spec.archs import Arch
from acamkd_core.spec.base import SpecModel
from acamkd_core.spec.datasets import DatasetSpec
from acamkd_core.spec.errors import ErrorInfo, SpecInvalid
from acamkd_core.spec.exports import ExportSpec
from acamkd_core.spec.job import InspectSpec, JobSpec, parse_job
from acamkd_core.spec.methods import MethodTerm

BASE: dict[str, Any] = {"dataset": "scenes", "student": "mobile_deeplabv3", "teacher": "job:t"}


def problems(**changes: Any) -> list[ErrorInfo]:
    with pytest.raises(SpecInvalid) as caught:
        parse_job(BASE | changes)
    return caught.value.problems


@pytest.mark.parametrize(
    ("changes", "field", "code", "hint"),
    [
        ({"optimiser": {}}, "optimiser", "spec.unknown_key", "did you mean 'optimizer'?"),
        ({"lr": 0.1}, "lr", "spec.unknown_key", "did you mean optimizer.lr?"),
        ({"optimizer": {"learning": 1}}, "optimizer.learning", "spec.unknown_key", "known: name, lr, momentum"),
        (
            {"distill": [{"method": "acam", "wieght": 1}]},
            "distill.0.wieght",
            "spec.unknown_key",
            "did you mean 'weight'?",
        ),
        ({"distill": ["logit", "acm"]}, "distill.1.method", "spec.invalid", "did you mean 'acam'?"),
        ({"distill": [{"at": "logits"}]}, "distill.0.method", "spec.missing", "known: acam, logit"),
        (
            {"student": {"arch": {"family": "deeplab"}}},
            "student.arch.family",
            "spec.invalid",
            "did you mean 'deeplabv3'",
        ),
        (
            {"student": {"arch": {"family": "deeplabv3", "backbone": "resnet19"}}},
            "student.arch.backbone",
            "spec.invalid",
            "did you mean 'resnet18'",
        ),
        (
            {"student": {"arch": {"family": "deeplabv3", "widht": 1}}},
            "student.arch.widht",
            "spec.unknown_key",
            "'width'",
        ),
        ({"student": "deeplabv3-resnet19"}, "student.arch", "spec.invalid", "did you mean 'deeplabv3-resnet18'"),
        ({"exports": ["onnnx"]}, "exports.0.format", "spec.invalid", "did you mean 'onnx'?"),
        ({"exports": [{"format": "onnx", "gate": {"drop": 1}}]}, "exports.0.gate.drop", "spec.unknown_key", "max_drop"),
        ({"dataset": {"format": "scenes", "sed": 1}}, "dataset.sed", "spec.unknown_key", "did you mean 'seed'?"),
        ({"schedule": {"policy": "polly"}}, "schedule.policy", "spec.invalid", "did you mean 'poly'?"),
        ({"kind": "studdy"}, "kind", "spec.invalid", "known: distill, inspect"),
        ({"kind": ["distill"]}, "kind", "spec.invalid", "distill"),
        ({"version": 2}, "version", "spec.invalid", "known: 1"),
        ({"teacher": None, "distill": "acam"}, "teacher", "spec.invalid", "to train the student alone"),
        ({"teacher": {"arch": "mobile_deeplabv3"}}, "teacher.weights", "spec.invalid", None),
        ({"batch": {"global_size": 6, "accumulate": 4}}, "batch.accumulate", "spec.invalid", "1, 2, 3, 6"),
    ],
)
def test_each_mistake_has_its_path_and_a_way_out(
    changes: dict[str, Any], field: str, code: str, hint: str | None
) -> None:
    [found] = problems(**changes)
    assert (found.field, found.code) == (field, code)
    assert found.message
    assert (hint or "") in (found.hint or "")
    assert "tag" not in found.message


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"optimizer": {"lr": math.inf}}, "optimizer.lr"),
        ({"optimizer": {"lr": math.nan}}, "optimizer.lr"),
        ({"task_loss": {"class_weights": [1.0, -1.0]}}, "task_loss.class_weights.1"),
        ({"task_loss": {"class_weights": [0.0, 0.0]}}, "task_loss.class_weights"),
        (
            {"student": {"arch": "mobile_deeplabv3", "preprocess": {"std": [1, 0, 1]}}},
            "student.preprocess.std.1",
        ),
        ({"augment": {"size": [0, 64]}}, "augment.size.0"),
        ({"augment": {"crop": [64, -3]}}, "augment.crop.1"),
        ({"augment": {"scale": [2.0, 1.0]}}, "augment.scale"),
        (
            {"augment": {"size": [64, 64], "resize": {"short": 64, "max": 99}}, "student": "fcos-r50-fpn"},
            "augment.resize",
        ),
        ({"augment": {"resize": {"short": 800, "max": 600}}, "student": "fcos-r50-fpn"}, "augment.resize.max"),
        ({"augment": {"resize": {"short": 800, "max": 1333}}}, "augment.resize"),
        ({"augment": {"ssd": True}}, "augment.ssd"),
        ({"augment": {"ssd": True, "colour": 0.2}, "student": "ssdlite-mobilenet_v2"}, "augment.ssd"),
        ({"schedule": {"policy": "multistep", "epochs": 3}}, "schedule.milestones"),
        ({"schedule": {"policy": "multistep", "epochs": 9, "milestones": [5, 5]}}, "schedule.milestones"),
        ({"schedule": {"iterations": 10, "warmup_iterations": 10}}, "schedule.warmup_iterations"),
        ({"schedule": {"iterations": 10, "epochs": 10}}, "schedule"),
        ({"exports": ["onnx", "onnx"]}, "exports"),
        ({"seed": -1}, "seed"),
    ],
)
def test_values_that_could_only_fail_later_are_refused_now(changes: dict[str, Any], field: str) -> None:
    found = problems(**changes)
    assert [problem.field for problem in found] == [field]
    json.dumps([problem.model_dump() for problem in found], allow_nan=False)  # the answer can be sent


def test_all_mistakes_come_at_once() -> None:
    fields = [problem.field for problem in problems(seed=-1, nme="x", optimizer={"lr": 0}, exports=["onnx", "x"])]
    assert fields == ["optimizer.lr", "exports.1.format", "seed", "nme"]


def members(union: Any) -> tuple[type[SpecModel], ...]:
    found: tuple[type[SpecModel], ...] = get_args(get_args(union)[0])
    return found


def tag(model: type[SpecModel], name: str) -> str:
    word: str = get_args(model.model_fields[name].annotation)[0]
    return word


@pytest.mark.parametrize(
    ("union", "name", "place", "path"),
    [
        (MethodTerm, "method", lambda item: {"distill": [item]}, "distill.0"),
        (Arch, "family", lambda item: {"student": {"arch": item}}, "student.arch"),
        (ExportSpec, "format", lambda item: {"exports": [item]}, "exports.0"),
        (DatasetSpec, "format", lambda item: {"dataset": item}, "dataset"),
    ],
)
def test_every_member_of_every_union_reports_paths_without_its_tag(
    union: Any, name: str, place: Any, path: str
) -> None:
    """Also of members that are yet to be written: nothing but the models says what the tags are."""
    assert len(members(union)) > 1
    for model in members(union):
        found = problems(**place({name: tag(model, name), "no_such_key": 1}))
        assert f"{path}.no_such_key" in [problem.field for problem in found], model


def models(root: type[SpecModel]) -> Iterator[type[SpecModel]]:
    """All models below one, each once."""
    seen: list[type[SpecModel]] = []

    def visit(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, SpecModel) and annotation not in seen:
            seen.append(annotation)
            for field in annotation.model_fields.values():
                visit(field.annotation)
        for inner in get_args(annotation):
            visit(inner)

    visit(root)
    yield from seen


@pytest.mark.parametrize("root", [JobSpec, InspectSpec])
def test_every_field_of_every_part_is_described(root: type[SpecModel]) -> None:
    names = {model.__name__ for model in models(root)}
    assert names >= ({"AcamTerm", "OnnxExport", "Gate", "Expect"} if root is JobSpec else {"ScenesDataset", "Splits"})
    for model in models(root):
        assert model.__doc__, model
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            assert field.description.endswith((".", "?")), f"{model.__name__}.{name}"


def test_short_forms_are_the_long_ones() -> None:
    assert parse_job(BASE | {"dataset": {"root": "x"}}) == parse_job(BASE | {"dataset": "x"})
    assert parse_job(BASE | {"distill": "acam"}) == parse_job(BASE | {"distill": [{"method": "acam"}]})
    assert parse_job(BASE | {"distill": "none"}) == parse_job(BASE | {"distill": None}) == parse_job(BASE)


FULL = parse_job(
    BASE | {
        "distill": ["acam", "logit"], "exports": ["safetensors", "onnx"], "reference": {"source": "x"},
        "student": {"arch": "mobile_deeplabv3", "weights": "a.pth"}, "task_loss": {"class_weights": [1.0, 2.0]},
    }
).model_dump(mode="json")  # fmt: skip
ODD = st.sampled_from(
    [None, True, "", " ", "off", "nan", 0, -1, 10**400, -(10**30), 1e308, math.inf, math.nan, [], {}, [[]], [None], {"": {}},
     {"a": 1}, ["acam"], "job:", "x" * 5000, {"method": ["acam"]}, {"format": None}, {1: 2}]
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(child, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@given(st.sampled_from(list(places(FULL))), ODD)
@settings(max_examples=600, deadline=None)
def test_whatever_is_written_is_a_spec_or_a_list_of_mistakes(path: tuple[Any, ...], new: Any) -> None:
    """Any value at any place: never another exception, and what is said can be sent as JSON."""
    try:
        found = parse_job(replaced(FULL, path, new))
    except SpecInvalid as error:
        for problem in error.problems:
            assert problem.message
            json.dumps(problem.model_dump(mode="json"), allow_nan=False)
    else:
        json.dumps(found.model_dump(mode="json"), allow_nan=False)
        assert parse_job(found.model_dump(mode="json")) == found  # what is stored can be read again
