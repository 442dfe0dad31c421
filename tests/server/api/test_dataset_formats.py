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
STUDENTS = {
    "semantic_segmentation": "mobile_deeplabv3",
    "detection": "retinanet-mobilenet_v2",
    "classification": "mobilenet_v2-1.0",
}
PAIRS = [
    ("mask_folder", "semantic_segmentation"),
    ("cityscapes", "semantic_segmentation"),
    ("coco", "detection"),
    ("image_folder", "classification"),
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


def test_fields_of_the_format_reach_inspection_and_job(world: World) -> None:
    (world.roots / "data").mkdir()
    options = {"annotation_file": "labels/{split}.json", "splits": {"train": "a", "val": "b"}}
    body = {"name": "data", "path": "data", "format": "coco", "task": "detection", "options": options}
    made = world.client.post(f"{API}/datasets", json=body).json()
    assert made["options"] == options
    inspection = world.client.get(f"{API}/jobs/{made['inspect_job']}/spec").json()["spec"]["dataset"]
    assert inspection["annotation_file"] == "labels/{split}.json"
    assert (inspection["splits"]["train"], inspection["splits"]["val"]) == ("a", "b")
    report = {
        "digest": "beefbeef", "task": "detection", "ignore_id": None, "findings": [],
        "splits": [{"role": "train", "images": 20}, {"role": "val", "images": 9}],
        "classes": [{"index": 0, "id": 0, "name": "car"}, {"index": 1, "id": 1, "name": "bus"}],
    }  # fmt: skip
    with write_session(world.context.engine) as session:
        datasets.apply_inspection(session, inspect_job=made["inspect_job"], report=report, contact_sheet=None)
    spec = {"dataset": "dataset:data", "student": STUDENTS["detection"], "schedule": {"iterations": 5}}
    job = world.client.post(f"{API}/jobs", json=spec).json()["spec"]["dataset"]
    assert (job["annotation_file"], job["splits"]["val"]) == ("labels/{split}.json", "b")
    own = spec | {"dataset": {"format": "registered", "name": "data", "splits": {"train": "x", "val": "y"}}}
    job = world.client.post(f"{API}/jobs", json=own).json()["spec"]["dataset"]
    assert (job["annotation_file"], job["splits"]["val"]) == ("labels/{split}.json", "y")


@pytest.mark.parametrize(
    ("format", "options", "field"),
    [
        ("coco", {"anotation_file": "x"}, "options.anotation_file"),
        ("yolo", {"difficult": "keep"}, "options.difficult"),
        ("auto", {"annotation_file": "x"}, "options.annotation_file"),
        ("voc", {"difficult": "perhaps"}, "options.difficult"),
    ],
)
def test_an_option_that_the_format_does_not_have_is_refused(
    world: World, format: str, options: dict[str, str], field: str
) -> None:
    (world.roots / "data").mkdir()
    answer = world.client.post(
        f"{API}/datasets", json={"name": "data", "path": "data", "format": format, "options": options}
    )
    assert answer.status_code == 422
    assert [problem["field"] for problem in answer.json()["problems"]] == [field]
    assert world.client.get(f"{API}/datasets").json()["total"] == 0
