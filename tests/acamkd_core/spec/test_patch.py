"""`--set` on short and long forms; every result is compared with the spec written out by hand."""

from __future__ import annotations

import pytest

from acamkd_core.spec.errors import CoreError, SpecInvalid
from acamkd_core.spec.job import parse_job
from acamkd_core.spec.patch import apply_set

SHORT = {"dataset": "scenes", "student": "mobile_deeplabv3", "teacher": "job:t", "distill": "acam"}


@pytest.mark.parametrize(
    ("changes", "by_hand"),
    [
        ({"seed": 3}, SHORT | {"seed": 3}),
        ({"optimizer.lr": 0.1}, SHORT | {"optimizer": {"lr": 0.1}}),
        ({"distill.0.weight": 2.0}, SHORT | {"distill": [{"method": "acam", "weight": 2.0}]}),
        (
            {"student.arch.width": 0.35},
            SHORT | {"student": {"arch": {"family": "mobile_deeplabv3", "width": 0.35, "aspp": False}}},
        ),
        ({"teacher.expect.miou": 50}, SHORT | {"teacher": {"weights": {"job": "t"}, "expect": {"miou": 50}}}),
        ({"dataset.seed": 4}, SHORT | {"dataset": {"format": "scenes", "seed": 4}}),
        ({"exports.1.opset": 18}, SHORT | {"exports": ["safetensors", {"format": "onnx", "opset": 18}]}),
        ({"teacher": None, "distill": []}, {"dataset": "scenes", "student": "mobile_deeplabv3"}),
        ({"batch.global_size": 9, "batch.accumulate": 3}, SHORT | {"batch": {"global_size": 9, "accumulate": 3}}),
        ({"distill": [{"method": "logit"}]}, SHORT | {"distill": "logit"}),
    ],
)
def test_set_equals_the_spec_by_hand(changes: dict[str, object], by_hand: dict[str, object]) -> None:
    before = dict(SHORT)
    assert parse_job(apply_set(SHORT, changes)) == parse_job(by_hand)
    assert before == SHORT  # the argument stays as it was


@pytest.mark.parametrize(
    "path", ["optimizer.lrr", "distill.1.weight", "distill.x.weight", "nope", "seed.x", "a..b", "", "distill.0.wight"]
)
def test_unknown_paths_are_refused_by_name(path: str) -> None:
    with pytest.raises(CoreError) as caught:
        apply_set(SHORT, {path: 1})
    assert caught.value.code == "patch.unknown_path"
    assert caught.value.info.field == path


def test_bad_values_name_their_field() -> None:
    with pytest.raises(SpecInvalid) as caught:
        apply_set(SHORT, {"optimizer.lr": -1})
    assert caught.value.problems[0].field == "optimizer.lr"
