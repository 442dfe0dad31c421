"""Submitting, changing and listing jobs over HTTP, on a real database."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from server.db.base import DEFAULT_PROJECT
from server.db.session import read_session, write_session
from server.db.tables import Artifact, Job
from server.jobs import repository, states
from server.jobs.compare import differing_fields
from tests.server.api.conftest import World

JOBS = "/api/v1/jobs"
SPEC: dict[str, Any] = {"dataset": "scenes", "student": "mobile_deeplabv3", "schedule": {"iterations": 10}}


def total(world: World) -> int:
    count: int = world.client.get(JOBS).json()["total"]
    return count


def end(world: World, name: str, state: str, reason: str) -> None:
    """Ends a job as a worker would, through the table of transitions."""
    with write_session(world.context.engine) as session:
        job = repository.lock(session, project_id=DEFAULT_PROJECT, ref=name)
        assert job is not None
        states.change(job, "running")
        states.change(job, state, reason)


def codes(answer: Any) -> dict[str, str]:
    """Field to code of a refusal."""
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return {problem["field"]: problem["code"] for problem in answer.json()["problems"]}


def test_submit_resolves_names_and_counts(world: World) -> None:
    answer = world.client.post(JOBS, json=SPEC)
    assert answer.status_code == 201
    body = answer.json()
    assert answer.headers["location"] == f"{JOBS}/{body['id']}"
    assert body["state"] == "queued"
    assert len(body["name"].split("-")) == 2
    origins = {item["path"]: item["origin"] for item in body["origins"]}
    assert body["given"] == 3
    assert body["resolved"] == len(origins) > 50
    assert origins["schedule.iterations"] == "given"
    assert origins["optimizer.lr"] == "default"
    assert origins["evaluation.every"] == "automatic"
    assert origins["name"] == "automatic"
    assert body["spec"]["optimizer"] == {
        "name": "sgd",
        "lr": 0.02,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "method_lr_factor": 1.0,
    }
    assert body["summary"][0] == f"spec   3 lines given, {body['resolved']} resolved"
    assert body["summary"][-1] == f"queued {body['name']}  1st of 1"
    assert body["queue"] == {"position": 1, "why": "no worker is online", "would_start": "start one: acamkd worker"}


def test_yaml_and_json_make_the_same_job(world: World) -> None:
    text = "dataset: scenes\nstudent: mobile_deeplabv3\nschedule: {iterations: 10}\n"
    yaml = world.client.post(f"{JOBS}?dry_run=true", content=text, headers={"content-type": "application/yaml"})
    json = world.client.post(f"{JOBS}?dry_run=true", json=SPEC)
    assert (yaml.status_code, json.status_code) == (200, 200)
    a, b = yaml.json()["spec"], json.json()["spec"]
    assert a | {"name": ""} == b | {"name": ""}
    assert total(world) == 0  # a dry run keeps nothing


def test_a_dry_run_waits_for_no_writer(world: World) -> None:
    with write_session(world.context.engine) as session:
        repository.names_taken(session, project_id=DEFAULT_PROJECT, names=["x"])  # the writer's lock is taken
        assert world.client.post(f"{JOBS}?dry_run=true", json=SPEC).status_code == 200


def test_bodies_that_cannot_be_read(world: World) -> None:
    post = lambda body, kind: world.client.post(JOBS, content=body, headers={"content-type": kind})
    twice = post("seed: 1\nseed: 2\n", "application/yaml")
    assert twice.status_code == 422
    assert "line 2" in twice.json()["message"]
    assert post("seed=1", "application/x-www-form-urlencoded").status_code == 415
    assert post(b"\xff\xfe", "application/json").status_code == 422
    assert post("[]", "application/json").json()["code"] == "spec.not_an_object"


def test_all_problems_come_at_once_each_with_its_field(world: World) -> None:
    broken = SPEC | {"optimiser": {}, "optimizer": {"lr": 0}, "batch": {"global_size": 7, "accumulate": 2}}
    assert codes(world.client.post(JOBS, json=broken)) == {
        "optimiser": "spec.unknown_key",
        "optimizer.lr": "spec.invalid",
        "batch.accumulate": "spec.invalid",
    }
    checked = SPEC | {
        "teacher": "job:nobody",
        "distill": [{"method": "acam", "at": ["c9"]}, {"method": "logit", "at": "c5"}, {"method": "fgd"}],
        "batch": {"global_size": 500},
        "student": {"arch": "mobile_deeplabv3", "weights": {"file": "/etc/passwd"}},
    }
    assert codes(world.client.post(JOBS, json=checked)) == {
        "teacher.weights": "teacher.unknown",
        "student.weights": "path.outside_roots",
        "distill.0.at": "distill.level",
        "distill.1.at": "distill.level",
        "distill.2.method": "method.needs_boxes",
        "batch.global_size": "batch.too_many",
    }
    assert total(world) == 0


def test_levels_too_far_apart_are_refused_before_anything_runs(world: World) -> None:
    world.client.post(JOBS, json=SPEC | {"name": "teacher"})
    term: dict[str, Any] = {"method": "acam", "at": ["c2", "c5"], "teacher_at": ["c5", "c2"]}
    student = {"arch": {"family": "mobile_deeplabv3", "output_stride": 32}}
    answer = world.client.post(JOBS, json=SPEC | {"student": student, "teacher": "job:teacher", "distill": [term]})
    assert codes(answer) == {"distill.0.teacher_at": "distill.far_levels"}
    assert "'c5' has stride 32, the teacher's 'c2' stride 4" in answer.json()["problems"][0]["message"]


def test_levels_of_another_family_are_paired_by_stride_and_shown(world: World) -> None:
    detection = {"dataset": {"format": "scenes"}, "augment": {"size": [320, 320]}}
    world.client.post(JOBS, json=detection | {"name": "one", "student": "retinanet-r50-fpn"})
    world.client.post(JOBS, json=detection | {"name": "two", "student": "faster_rcnn-resnet50"})

    def dry(student: str, teacher: str, term: Any) -> Any:
        spec = detection | {"student": student, "teacher": f"job:{teacher}", "distill": term}
        return world.client.post(f"{JOBS}?dry_run=true", json=spec)

    body = dry("ssdlite-mobilenet_v2", "one", "acam").json()
    assert body["spec"]["distill"][0]["at"] == ["m1", "m2", "m3", "m4"]
    assert body["spec"]["distill"][0]["teacher_at"] == ["p4", "p5", "p6", "p7"]
    origins = {item["path"]: item["origin"] for item in body["origins"]}
    assert {origins["distill.0.at"], origins["distill.0.teacher_at"]} == {"automatic"}
    assert "   m1 576x20x20 <- p4 256x20x20, adapter to 256; m2 1280x10x10 <- p5 256x10x10" in body["summary"][2]

    body = dry("retinanet-r50-fpn", "two", "maskd").json()  # masks are trained once a level, at p2 to p5
    assert body["spec"]["distill"][0]["at"] == ["p3", "p4", "p5"]
    (finding,) = [one for one in body["findings"] if one["info"]["code"] == "distill.left_out"]
    assert (finding["severity"], finding["info"]["field"]) == ("info", "distill.0.at")
    assert finding["info"]["message"].endswith(": p6, p7")
    named = dry("retinanet-r50-fpn", "two", {"method": "maskd", "at": ["p5", "p7"]})
    assert codes(named) == {"distill.0.at": "distill.no_partner"}
    assert dry("faster_rcnn-resnet50", "two", "maskd").json()["spec"]["distill"][0]["at"] == ["p2", "p3", "p4", "p5"]


def test_heads_that_cannot_be_crossed_are_refused_before_anything_runs(world: World) -> None:
    teacher = {
        "arch": {"family": "fcos", "backbone": "resnet50"},
        "weights": "torchvision:FCOS_ResNet50_FPN_Weights.COCO_V1",
    }
    job = {
        "dataset": {"format": "scenes"}, "student": {"arch": {"family": "retinanet"}}, "teacher": teacher,
        "distill": ["crosskd"],
    }  # fmt: skip
    answer = world.client.post(f"{JOBS}?dry_run=true", json=job)
    assert codes(answer) == {"distill.0.method": "method.other_head"}
    assert "a student of family fcos" in answer.json()["problems"][0]["hint"]


@pytest.mark.parametrize("root", ["/etc", "../..", "link", "missing", "~root"])
def test_datasets_outside_the_roots_are_refused(world: World, root: str) -> None:
    (world.roots / "link").symlink_to("/etc")
    answer = codes(world.client.post(JOBS, json=SPEC | {"dataset": {"format": "mask_folder", "root": root}}))
    assert list(answer) == ["dataset.root"]
    assert answer["dataset.root"].startswith("path.")


def test_a_job_waits_for_its_teacher_and_falls_with_it(world: World) -> None:
    world.client.post(JOBS, json=SPEC | {"name": "teacher"})
    child = world.client.post(JOBS, json=SPEC | {"name": "child", "teacher": "job:teacher", "distill": "acam"}).json()
    assert child["state"] == "waiting"
    assert child["queue"]["why"] == "waits for teacher (queued)"
    detail = world.client.get(f"{JOBS}/child").json()
    assert (detail["waits_for"], detail["methods"], detail["reason"]) == ("teacher", ["acam"], "waits_for_teacher")
    assert world.client.post(f"{JOBS}/teacher/cancel").json()["state"] == "cancelled"
    fallen = world.client.get(f"{JOBS}/child").json()
    assert (fallen["state"], fallen["reason"]) == ("failed", "dependency_failed")
    again = world.client.post(JOBS, json=SPEC | {"teacher": "job:teacher", "distill": "acam"})
    assert codes(again) == {"teacher.weights": "teacher.failed"}


def test_the_same_idempotency_key_makes_one_job(world: World) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = world.client.post(JOBS, json=SPEC, headers=headers)
    reordered = dict(reversed(list(SPEC.items())))
    second = world.client.post(JOBS, json=reordered, headers=headers)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] == second.json()["id"]
    other = world.client.post(JOBS, json=SPEC | {"seed": 1}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "job.idempotency_conflict")
    assert total(world) == 1


def test_what_a_job_asks_for_reaches_the_queue(world: World) -> None:
    asked = {"gpus": 2, "labels": ["big"], "priority": 7, "max_hours": 1.5, "max_attempts": 5}
    job = world.client.post(JOBS, json=SPEC | {"resources": asked}).json()
    with read_session(world.context.engine) as session:
        row = session.get_one(Job, job["id"])
        assert {name: getattr(row, name) for name in asked} == asked
    assert world.client.post(JOBS, json=SPEC).json()["queue"]["position"] == 2


def test_a_taken_name_is_a_conflict(world: World) -> None:
    assert world.client.post(JOBS, json=SPEC | {"name": "one"}).status_code == 201
    again = world.client.post(JOBS, json=SPEC | {"name": "one"})
    assert (again.status_code, again.json()["field"]) == (409, "name")
    assert world.client.post(f"{JOBS}?dry_run=1", json=SPEC | {"name": "one"}).json()["code"] == "job.name_taken"


def test_a_commit_that_fails_is_a_5xx_and_wakes_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[int] = []
    monkeypatch.setattr(type(world.context.wakeups), "wake", lambda self, count=1: woken.append(count) or True)

    def fail(session: Session) -> None:
        if any(isinstance(one, Job) for one in session.identity_map.values()):
            raise OperationalError("COMMIT", {}, Exception("disk I/O error"))

    event.listen(Session, "before_commit", fail)
    try:
        answer = world.client.post(JOBS, json=SPEC)
    finally:
        event.remove(Session, "before_commit", fail)
    assert answer.status_code == 503
    assert answer.json()["code"] == "database.unavailable"
    assert (total(world), woken) == (0, [])
    assert world.client.post(JOBS, json=SPEC).status_code == 201
    assert woken == [1]


def test_a_broker_that_is_down_delays_nothing(make_world: Any) -> None:
    world = make_world(broker_url="redis://127.0.0.1:1/0")
    assert world.client.get("/readyz").json()["status"] == "degraded"
    assert world.client.get("/readyz").status_code == 200
    answer = world.client.post(JOBS, json=SPEC)
    assert (answer.status_code, answer.json()["state"]) == (201, "queued")


def test_pause_resume_cancel_and_what_is_not_allowed(world: World) -> None:
    world.client.post(JOBS, json=SPEC | {"name": "j"})
    act = lambda action: world.client.post(f"{JOBS}/j/{action}")
    assert act("pause").json()["state"] == "paused"
    assert act("resume").json()["state"] == "queued"
    assert act("resume").status_code == 409
    assert act("retry").status_code == 409
    assert act("cancel").json()["state"] == "cancelled"
    assert act("cancel").status_code == 200  # again is fine
    for action in ("pause", "resume"):
        assert act(action).json()["code"] == "job.illegal_transition"


def test_a_failed_job_offers_a_fix_and_the_fix_is_a_valid_retry(world: World) -> None:
    world.client.post(JOBS, json=SPEC | {"name": "big", "batch": {"global_size": 8}})
    end(world, "big", "failed", "out_of_memory")
    fix = world.client.get(f"{JOBS}/big").json()["fixes"][0]
    assert fix["label"] == "retry with batch 4 x 2"
    body = {key: fix[key] for key in ("set", "from_checkpoint")}
    retry = world.client.post(f"{JOBS}/big/retry", json=body).json()
    assert (retry["name"], retry["state"]) == ("big-r2", "queued")
    assert retry["spec"]["batch"] == {"global_size": 8, "accumulate": 2, "workers": 0}
    old = world.client.get(f"{JOBS}/big").json()
    assert world.client.get(f"{JOBS}/big-r2").json()["retry_of"] == old["id"]
    assert old["state"] == "failed"
    none = world.client.post(f"{JOBS}/big/retry", json={"from_checkpoint": True})
    assert (none.status_code, none.json()["code"]) == (422, "job.no_checkpoint")


def test_a_retry_may_start_from_the_old_checkpoint(world: World) -> None:
    world.client.post(JOBS, json=SPEC | {"name": "lost"})
    end(world, "lost", "failed", "worker_lost")
    old = world.client.get(f"{JOBS}/lost").json()
    with write_session(world.context.engine) as session:
        rows = [
            Artifact(project_id=DEFAULT_PROJECT, job_id=old["id"], kind="checkpoint", name=f"{step}.ckpt", format="ckpt",
                     bytes=1, sha256="ab" * 32, iteration=step)
            for step in (20, 10)
        ]  # fmt: skip
        session.add_all(rows)
        session.flush()
        newest = rows[0].id
    (fix,) = world.client.get(f"{JOBS}/lost").json()["fixes"]
    retry = world.client.post(f"{JOBS}/lost/retry", json={"from_checkpoint": fix["from_checkpoint"], "set": fix["set"]})
    assert retry.status_code == 201
    with read_session(world.context.engine) as session:
        row = session.get_one(Job, retry.json()["id"])
        assert (row.start_checkpoint, row.retry_of) == (newest, old["id"])


def test_clone_changes_by_path(world: World) -> None:
    world.client.post(JOBS, json=SPEC | {"name": "a", "tags": ["x"]})
    clone = world.client.post(f"{JOBS}/a/clone", json={"name": "b", "set": {"optimizer.lr": 0.5, "seed": 9}})
    assert clone.status_code == 201
    assert world.client.post(f"{JOBS}/a/clone", json={"set": {"optimizer.lrr": 1}}).json()["field"] == "optimizer.lrr"
    answer = world.client.get("/api/v1/compare?jobs=a,b").json()
    assert answer["differing"] == [
        {"path": "optimizer.lr", "values": [0.02, 0.5]},
        {"path": "seed", "values": [0, 9]},
    ]
    assert [column["job"]["name"] for column in answer["jobs"]] == ["a", "b"]
    submitted = world.client.get(f"{JOBS}/b/spec?form=submitted").json()["spec"]
    assert submitted == SPEC | {"tags": ["x"], "name": "b", "optimizer": {"lr": 0.5}, "seed": 9}


def test_differing_fields_sees_lists_and_absence() -> None:
    a = {"name": "a", "distill": [{"method": "acam", "weight": 1}], "teacher": None}
    b = {"name": "b", "distill": [], "teacher": None}
    assert differing_fields([a, a | {"name": "c"}]) == []
    assert {row["path"] for row in differing_fields([a, b])} == {"distill", "distill.0.method", "distill.0.weight"}


def test_patch_changes_words_only(world: World) -> None:
    world.client.post(JOBS, json=SPEC | {"name": "p"})
    world.client.post(JOBS, json=SPEC | {"name": "taken"})
    done = world.client.patch(f"{JOBS}/p", json={"name": "q", "tags": ["t"], "notes": "n"}).json()
    assert (done["name"], done["tags"], done["notes"]) == ("q", ["t"], "n")
    assert world.client.patch(f"{JOBS}/q", json={"notes": ""}).json()["tags"] == ["t"]
    assert world.client.patch(f"{JOBS}/q", json={"name": "taken"}).status_code == 409
    assert world.client.patch(f"{JOBS}/q", json={"name": "Not A Name"}).json()["field"] == "name"
    assert world.client.patch(f"{JOBS}/q", json={"state": "succeeded"}).json()["code"] == "request.unknown_key"


def test_lists_filter_sort_and_page(world: World) -> None:
    for index, name in enumerate(("c", "a", "d", "b")):
        extra = {"teacher": "job:c", "distill": "logit"} if name == "d" else {}
        world.client.post(JOBS, json=SPEC | {"name": name, "tags": ["even"] if index % 2 == 0 else []} | extra)
    names = lambda query: [item["name"] for item in world.client.get(f"{JOBS}?{query}").json()["items"]]
    assert names("") == ["b", "d", "a", "c"]
    assert names("sort=name") == ["a", "b", "c", "d"]
    assert names("tag=even") == ["d", "c"]
    assert names("method=logit") == ["d"]
    assert names("state=waiting&state=failed") == ["d"]
    assert names("q=B") == ["b"]
    assert names("kind=inspect") == []
    for sort in ("created", "-created", "name", "-name"):
        seen: list[str] = []
        cursor = ""
        while True:
            page = world.client.get(f"{JOBS}?limit=3&sort={sort}{cursor}").json()
            assert page["total"] == 4
            seen += [item["name"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert seen == names(f"sort={sort}")
    assert world.client.get(f"{JOBS}?limit=1000").status_code == 422


def test_stored_specs_are_shown_as_recorded(world: World) -> None:
    """A spec of a version that nobody knows any more still has its page."""
    world.client.post(JOBS, json=SPEC | {"name": "old"})
    with write_session(world.context.engine) as session:
        job = repository.lock(session, project_id=DEFAULT_PROJECT, ref="old")
        assert job is not None
        job.spec = {"version": 0, "lr": 3}
    assert world.client.get(f"{JOBS}/old/spec").json()["spec"] == {"version": 0, "lr": 3}
    assert world.client.get(f"{JOBS}/old").status_code == 200


def test_a_reader_cannot_write(world: World) -> None:
    """The unit of a GET is read-only for the database itself, so no route can write by mistake."""
    world.client.post(JOBS, json=SPEC | {"name": "r"})
    with read_session(world.context.engine) as session:
        job = repository.get(session, project_id=DEFAULT_PROJECT, ref="r")
        assert job is not None
        job.notes = "written"
        with pytest.raises(OperationalError):
            session.flush()


def test_a_very_long_run_keeps_its_teachers_scores_and_its_newest_evaluations(world: World) -> None:
    name = "long"
    assert world.client.post(JOBS, json={**SPEC, "name": name}).status_code == 201
    said = [{"role": "teacher", "iteration": 0}, *({"role": "student", "iteration": 10 * n} for n in range(1, 601))]
    with write_session(world.context.engine) as session:
        job = repository.lock(session, project_id=DEFAULT_PROJECT, ref=name)
        assert job is not None
        for data in said:
            repository.record_event(session, job, "evaluation", data)
    shown = world.client.get(f"{JOBS}/{name}").json()["evaluations"]
    assert len(shown) == 500
    assert (shown[0], shown[1], shown[-1]) == (said[0], said[-499], said[-1])
    assert world.client.get(f"{JOBS}/{name}").json()["task"] == "semantic_segmentation"
