"""The lines that `acamkd submit` prints, against numbers counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from server.datasets import repository as datasets
from server.db.base import DEFAULT_PROJECT
from server.db.session import write_session
from server.jobs import repository, states
from server.jobs.estimate import duration
from tests.server.api.conftest import World

API = "/api/v1"


def ran(world: World, name: str, **columns: Any) -> None:
    """What a worker leaves of a run that succeeded."""
    with write_session(world.context.engine) as session:
        job = repository.lock(session, project_id=DEFAULT_PROJECT, ref=name)
        assert job is not None
        states.change(job, "running")
        states.change(job, "succeeded", "done")
        job.started_at = job.created_at
        for column, value in columns.items():
            setattr(job, column, value)


def register_camvid(world: World, **report: Any) -> None:
    (world.roots / "camvid").mkdir()
    made = world.client.post(f"{API}/datasets", json={"name": "camvid", "path": "camvid"}).json()
    report = {
        "digest": "3f9c1eaa",
        "ignore_id": 11,
        "findings": [{"severity": "warning", "code": "w", "message": "m", "count": 1}],
        "splits": [{"role": "train", "images": 367}, {"role": "val", "images": 101}, {"role": "test", "images": 233}],
        "classes": [{"index": index, "id": index, "name": f"class {index}"} for index in range(11)],
        "sizes": [{"height": 180, "width": 240, "count": 701}],
    } | report
    with write_session(world.context.engine) as session:
        datasets.apply_inspection(session, inspect_job=made["inspect_job"], report=report, contact_sheet=None)
    ran(world, "inspect-camvid")


def submit(world: World, **spec: Any) -> list[str]:
    answer = world.client.post(f"{API}/jobs", json={"dataset": "dataset:camvid", **spec})
    assert answer.status_code == 201, answer.text
    lines: list[str] = answer.json()["summary"]
    return lines


def test_the_lines_of_a_submission(world: World) -> None:
    register_camvid(world)
    arch = {"family": "deeplabv3", "output_stride": 8, "align_corners": True}
    submit(world, name="teacher", student={"arch": arch})
    profile = {"student": {"parameters": 5_114_123}}
    ran(world, "teacher", facts={"profile": profile}, metrics={"test/miou": 43.61})
    pair = {
        "teacher": "job:teacher",
        "student": {"arch": {**arch, "width": 0.35}},
        "distill": [{"method": "acam", "at": "logits"}, {"method": "feature_mse", "at": "c5"}],
        "batch": {"global_size": 8},
        "schedule": {"epochs": 30},
    }
    spec, data, words, queued = submit(world, name="first", **pair)
    assert spec.startswith("spec   13 lines given, ")
    assert data == "data   camvid@3f9c1e  367/101/233  11 classes  ignore 11  1 warning"
    # 180 x 240 at stride 8, rounded up; MobileNetV2's last stage has 320 channels, and 112 at width 0.35
    assert words == (
        "pair   teacher DLv3-MBV2 5.11 M, 43.6 mIoU -> student DLv3-MBV2 0.35"
        "   logits 11x23x30, no adapter; c5 112x23x30, adapter to 320"
    )
    assert queued == "queued first  1st of 1"  # nobody knows yet how long it takes

    # 45 batches of 8 in 367 images, 30 times; half a second each in the run before
    ran(world, "first", progress={"iteration": 100, "device_seconds": 50.0})
    assert submit(world, name="second", seed=1, **pair)[-1] == "queued second  1st of 1   ETA 11 m 15 s"
    other = {**pair, "batch": {"global_size": 4}}
    assert submit(world, name="third", **other)[-1] == "queued third  2nd of 2", "another batch, another speed"


def test_sizes_that_vary_are_not_guessed(world: World) -> None:
    register_camvid(
        world, sizes=[{"height": 180, "width": 240, "count": 1}, {"height": 360, "width": 480, "count": 700}]
    )
    submit(world, name="teacher", student="mobile_deeplabv3")
    pair = {"teacher": "job:teacher", "student": "mobile_deeplabv3", "distill": "logit"}
    assert submit(world, **pair)[2].endswith("   logits 11, no adapter")
    assert submit(world, **pair, augment={"crop": [96, 100]})[2].endswith("   logits 11x6x7, no adapter")


@pytest.mark.parametrize(
    ("seconds", "words"), [(39.6, "40 s"), (380, "6 m 20 s"), (7500, "2 h 05 m"), (59.7, "1 m 00 s")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
