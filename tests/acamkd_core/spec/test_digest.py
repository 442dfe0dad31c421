"""Which specs ask for the same run, also across versions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from acamkd_core.spec.digest import digest, is_same_run
from acamkd_core.spec.job import JobSpec

JOB: dict[str, Any] = {
    "dataset": "scenes",
    "student": "deeplabv3-mobilenet_v2-3.2m",
    "optimizer": {"name": "sgd", "lr": 0.02},
    "seed": 3,
}


def job(**changes: Any) -> JobSpec:
    return JobSpec.model_validate({**JOB, **changes})


def test_what_decides_no_number_does_not_count() -> None:
    plain = job()
    assert digest(plain) == digest(job(name="other", tags=["a"], notes="b", batch={"workers": 2}, exports=[]))
    assert is_same_run(job(name="other").model_dump_json(), plain)


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"optimizer": {"name": "sgd", "lr": 0.03}}, {"batch": {"global_size": 2}}]
)
def test_what_decides_numbers_counts(change: dict[str, Any]) -> None:
    assert digest(job(**change)) != digest(job())
    assert not is_same_run(job(**change).model_dump_json(), job())


def test_a_field_that_has_come_since_counts_as_its_default() -> None:
    written = json.loads(job().model_dump_json())
    del written["train"]["grad_clip"], written["student"]["freeze"]
    assert is_same_run(json.dumps(written), job())
    assert not is_same_run(json.dumps(written), job(train={"grad_clip": 1.0}))
    assert not is_same_run(json.dumps(written), job(student={"arch": JOB["student"], "freeze": {"stages": 1}}))


def test_a_field_that_has_gone_since_is_another_run() -> None:
    written = json.loads(job().model_dump_json())
    written["train"]["magic"] = 1
    assert not is_same_run(json.dumps(written), job())
