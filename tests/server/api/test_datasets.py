"""Registered datasets, models of jobs, and what jobs may do with both."""

from __future__ import annotations

from server.datasets import repository as datasets
from server.db.base import DEFAULT_PROJECT, new_id
from server.db.session import write_session
from server.models import repository as models
from tests.server.api.conftest import World
from tests.server.factories import make_artifact, make_job

API = "/api/v1"


def test_datasets_by_path_and_what_jobs_may_do_with_them(world: World) -> None:
    (world.roots / "camvid").mkdir()
    made = world.client.post(f"{API}/datasets", json={"name": "camvid", "path": "camvid"})
    assert made.status_code == 201
    outside = world.client.post(f"{API}/datasets", json={"name": "x", "path": "/etc"})
    assert (outside.status_code, outside.json()["field"]) == (422, "path")
    spec = {"dataset": "dataset:camvid", "student": "mobile_deeplabv3", "schedule": {"iterations": 5}}
    post = lambda body: world.client.post(f"{API}/jobs", json=body)
    assert post(spec).json()["code"] == "dataset.not_inspected"
    assert post(spec | {"dataset": "dataset:nope"}).json()["code"] == "dataset.unknown"
    again = world.client.post(f"{API}/datasets/camvid/inspect")
    assert again.status_code == 409
    report = {
        "digest": "3f9c1eaa",
        "task": "semantic_segmentation",
        "ignore_id": 11,
        "findings": [{"severity": "warning", "code": "w", "message": "m", "count": 1}],
        "splits": [{"role": "train", "images": 367}, {"role": "val", "images": 101}, {"role": "test", "images": 233}],
        "classes": [{"index": i, "id": i, "name": name} for i, name in enumerate(("sky", "road"))],
    }
    with write_session(world.context.engine) as session:
        datasets.apply_inspection(session, inspect_job=made.json()["inspect_job"], report=report, contact_sheet=None)
    ready = post(spec).json()
    assert ready["spec"]["dataset"]["root"] == str((world.roots / "camvid").resolve())
    assert ready["summary"][1] == "data   camvid@3f9c1e  367/101/233  2 classes  ignore 11  1 warning"
    assert world.client.get(f"{API}/datasets/camvid@3f9c").status_code == 200
    assert post(spec | {"dataset": "dataset:camvid@beef"}).json()["code"] == "dataset.version"
    assert post(spec | {"batch": {"global_size": 400}}).json()["code"] == "batch.too_many"

    # Registration takes a report that a worker has kept of these files; a person who asks again wants them read.
    again = world.client.post(f"{API}/datasets/camvid/inspect").json()
    looks = [world.client.get(f"{API}/jobs/{of['inspect_job']}/spec").json() for of in (made.json(), again)]
    assert [look["spec"]["again"] for look in looks] == [False, True]
    with write_session(world.context.engine) as session:
        datasets.apply_inspection(session, inspect_job=again["inspect_job"], report=report, contact_sheet=None)

    job = make_job(world.context.engine, name="producer", spec={"student": {"arch": {"family": "mobile_deeplabv3"}}})
    with write_session(world.context.engine) as session:
        artifact = make_artifact(session, job.id, "0" * 64, 1)
        for classes in (["sky", "road"], ["road", "sky"], ["sky", "road", "car"]):
            models.register(
                session, project_id=DEFAULT_PROJECT, name=f"m{len(classes)}{classes[0]}", job_id=new_id(),
                artifact_id=artifact.id, arch="a", task="semantic_segmentation", classes=classes,
            )  # fmt: skip
    teach = lambda ref: post(spec | {"teacher": f"model:{ref}", "distill": "acam"})
    assert teach("m2sky").status_code == 201
    assert "another order" in teach("m2road").json()["message"]
    assert "3 classes (sky, road, car), the dataset has 2 (sky, road)" in teach("m3sky@latest").json()["message"]
    assert teach("nobody").json()["code"] == "teacher.unknown"

    alias = world.client.put(f"{API}/models/m2sky/aliases/champion", json={"version": 1})
    assert alias.json()["aliases"] == ["champion", "latest"]
    assert teach("m2sky@champion").status_code == 201
    stranger = world.stranger()
    for method, path in (("PUT", "m2sky/aliases/x"), ("GET", "m2sky"), ("DELETE", "m2sky/aliases/champion")):
        body = {"json": {"version": 1}} if method == "PUT" else {}
        assert world.client.request(method, f"{API}/models/{path}", headers=stranger, **body).status_code == 404
    assert world.client.delete(f"{API}/models/m2sky/aliases/champion").json()["aliases"] == ["latest"]
    assert world.client.delete(f"{API}/models/m2sky/aliases/champion").status_code == 404
    assert world.client.get(f"{API}/models?name=m2sky").json()["total"] == 1


def test_a_dataset_of_boxes_wants_a_detector(world: World) -> None:
    (world.roots / "cells").mkdir()
    made = world.client.post(f"{API}/datasets", json={"name": "cells", "path": "cells", "format": "coco"})
    assert made.status_code == 201
    report = {
        "digest": "beefbeef", "task": "detection", "ignore_id": None, "findings": [],
        "splits": [{"role": "train", "images": 20}, {"role": "val", "images": 9}],
        "classes": [{"index": 0, "id": 1, "name": "cell"}, {"index": 1, "id": 2, "name": "plate"}],
    }  # fmt: skip
    with write_session(world.context.engine) as session:
        datasets.apply_inspection(session, inspect_job=made.json()["inspect_job"], report=report, contact_sheet=None)
    spec = {"dataset": "dataset:cells", "student": "retinanet-mobilenet_v2", "schedule": {"iterations": 5}}
    post = lambda body: world.client.post(f"{API}/jobs", json=body)
    ready = post(spec).json()
    assert ready["spec"]["task"] == "detection"
    assert ready["spec"]["dataset"]["format"] == "coco"
    taught = post(
        spec | {"teacher": {"arch": "retinanet-r50-fpn", "weights": "job:" + ready["name"]}, "distill": "acam"}
    )
    assert taught.status_code == 201, taught.text
    assert taught.json()["spec"]["distill"][0]["at"] == ["p3", "p4", "p5", "p6", "p7"]
    wrong = post(spec | {"student": "mobile_deeplabv3"}).json()
    assert (wrong["code"], wrong["field"], wrong["hint"]) == ("task.differs", "dataset", "set task to detection")
    level = post(spec | {"teacher": "job:" + ready["name"], "distill": {"method": "acam", "at": "logits"}}).json()
    assert (level["code"], level["value"]) == ("distill.level", "logits")
    assert "p7" in level["hint"]
    # Weights of torchvision have a known number of classes: no run is needed to see that 91 are not 2.
    named = {"weights": "torchvision:RetinaNet_ResNet50_FPN_Weights.COCO_V1"}
    published = post(spec | {"teacher": named, "distill": "acam"}).json()
    assert (published["code"], published["value"]) == ("teacher.other_classes", 91)
    assert "label_map" in published["hint"]
    mapped = post(spec | {"teacher": {**named, "label_map": {"person": "cell"}}, "distill": "acam"})
    assert mapped.status_code == 201, mapped.text
    # A pretrained detector on small batches: the papers freeze its batch norm, and the preset's name does not.
    student = {"arch": "retinanet-r50-fpn", "backbone_weights": "torchvision:ResNet50_Weights.DEFAULT"}
    dry = lambda body: world.client.post(f"{API}/jobs?dry_run=true", json=body).json()
    told = lambda body: [one["info"]["code"] for one in dry(body)["findings"]]
    assert "student.small_batch_norm" in told(spec | {"student": student})
    frozen = {**student, "freeze": {"stages": 1, "norm": "eval"}}
    assert "student.small_batch_norm" not in told(spec | {"student": frozen})
