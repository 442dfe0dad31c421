"""Every folder format can be registered, is inspected as such, and is what a job on it runs with."""

from __future__ import annotations

from typing import get_args

import pytest

from acamkd_core.spec.api import DatasetCreate
from acamkd_core.spec.datasets import FOLDER_FORMATS
from server.datasets import repository as datasets
from server.db.session import write_session
from tests.server.api.conftest import World

API = "/api/v1"
STUDENTS = {"semantic_segmentation": "mobile_deeplabv3", "detection": "retinanet-mobilenet_v2"}
PAIRS = [
    ("mask_folder", "semantic_segmentation"),
    ("cityscapes", "semantic_segmentation"),
    ("coco", "detection"),
    ("yolo", "detection"),
    ("voc", "detection"),
    ("voc", "semantic_segmentation"),
]


def test_what_can_be_registered_is_what_can_be_opened() -> None:
    assert set(get_args(DatasetCreate.model_fields["format"].annotation)) == {"auto", *FOLDER_FORMATS}
    assert {format for format, _ in PAIRS} == set(FOLDER_FORMATS)


@pytest.mark.parametrize(("format", "task"), PAIRS)
def test_a_registered_format_reaches_inspection_and_job(world: World, format: str, task: str) -> None:
    (world.roots / "data").mkdir()
    body = {"name": "data", "path": "data", "format": format, "task": task}
    made = world.client.post(f"{API}/datasets", json=body).json()
    inspection = world.client.get(f"{API}/jobs/{made['inspect_job']}/spec").json()
    assert inspection["spec"]["dataset"]["format"] == format
    assert inspection["spec"]["task"] == task
    report = {
        "digest": "beefbeef", "task": task, "ignore_id": None, "findings": [],
        "splits": [{"role": "train", "images": 20}, {"role": "val", "images": 9}],
        "classes": [{"index": 0, "id": 0, "name": "car"}, {"index": 1, "id": 1, "name": "bus"}],
    }  # fmt: skip
    with write_session(world.context.engine) as session:
        datasets.apply_inspection(session, inspect_job=made["inspect_job"], report=report, contact_sheet=None)
    spec = {"dataset": "dataset:data", "student": STUDENTS[task], "schedule": {"iterations": 5}}
    job = world.client.post(f"{API}/jobs", json=spec)
    assert job.status_code == 201, job.text
    assert job.json()["spec"]["dataset"]["format"] == format
    direct = spec | {"dataset": {"format": format, "root": str(world.roots / "data")}}
    assert world.client.post(f"{API}/jobs", json=direct).json()["spec"]["dataset"]["format"] == format
