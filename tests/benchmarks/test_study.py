"""A finished run is read, never run again, and never taken for a run of another spec."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from acamkd_core.client import Client
from benchmarks import bccd, camvid, demo, tables
from benchmarks.arms import run
from benchmarks.study import Study, Trial, _digest
from cli import demo_jobs
from tests.e2e.conftest import TINY
from tests.e2e.platform import Platform

# Nobody listens there: a study that asked the server for a finished run would fail.
NOBODY = "http://127.0.0.1:9"


def test_the_committed_demo_is_that_of_the_present_jobs() -> None:
    study = Study(tables.RESULTS / "demo", Client(NOBODY), {"name": "scenes", "versions": {}})
    for seed in demo.SEEDS:
        for trial in demo.trials(seed):
            assert study.do(trial)["seed"] == seed


@pytest.mark.parametrize("table", [0, 1, 2], ids=["scratch", "pretrained", "competitors"])
def test_the_committed_camvid_table_is_that_of_the_present_plan(table: int) -> None:
    """Every tuning run and every arm of three seeds is there, under the spec that the plan has now."""
    study = Study(tables.RESULTS / "camvid", Client(NOBODY), {"name": "camvid", "versions": {}})
    backbone = "/weights/mobilenet_v2_1.0_imagenet_backbone.pth"
    plan = camvid.plans("/data/camvid", backbone)[table]
    run(study, plan, camvid.teacher_trial("/data/camvid", backbone))


@pytest.mark.parametrize("table", ["main", "masks"])
def test_the_committed_bccd_table_is_that_of_the_present_plan(table: str) -> None:
    study = Study(tables.RESULTS / "bccd", Client(NOBODY), {"name": "bccd", "versions": {}})
    backbone = "/weights/mobilenet_v2_1.0_imagenet_backbone.pth"
    run(study, bccd.plans("/data/bccd")[table], bccd.teacher_trial("/data/bccd", backbone))


def test_the_demo_has_the_weights_that_tuning_chose() -> None:
    study = Study(tables.RESULTS / "demo", Client(NOBODY), {"name": "scenes", "versions": {}})
    chosen = {
        arm: max((tables.tuned_score(study.do(one)), one.value) for one in tried)[1]
        for arm, tried in demo.tuning().items()
    }
    assert chosen == demo_jobs.WEIGHTS


def test_a_file_of_another_spec_is_refused(tmp_path: Path) -> None:
    (trial,) = [one for one in demo.trials(0) if one.arm == "acam"]
    committed = tables.RESULTS / "demo" / f"{trial.name}.json"
    (tmp_path / committed.name).write_text(committed.read_text())
    study = Study(tmp_path, Client(NOBODY), {"name": "scenes", "versions": {}})
    assert study.do(trial) == json.loads(committed.read_text())
    changed = Trial(trial.name, trial.arm, trial.stage, trial.seed, {**trial.spec, "seed": 1})
    with pytest.raises(SystemExit, match="another spec"):
        study.do(changed)


def test_a_platform_without_the_teacher_trains_one_anew(tmp_path: Path) -> None:
    """Results are committed and weights are not: on another machine the missing students need a teacher."""
    teacher = Trial("teacher", "teacher", "teacher", 0, {**TINY, "schedule": {"iterations": 40}})
    term = {"teacher": "job:teacher", "distill": [{"method": "logit"}]}
    students = [Trial(f"s{n}", "logit", "final", n, {**TINY, **term, "schedule": {"iterations": 4}}) for n in (0, 1)]
    results = tmp_path / "results"
    for number, student in enumerate(students):
        home = Platform(tmp_path / f"home{number}")
        try:
            study = Study(results, home.client, {"name": "scenes", "versions": {}})
            study.do(teacher)
            for one in students[: number + 1]:
                assert study.do(one)["state"] == "succeeded"
            assert {job.name for job in home.client.jobs.list()} == {"teacher", student.name}
        finally:
            home.stop()
    # The same spec, machine and seed give the same teacher: it has its file already.
    assert sorted(path.stem for path in results.iterdir()) == ["s0", "s1", "teacher"]
    first, second = (json.loads((results / f"s{n}.json").read_text())["teacher"] for n in (0, 1))
    assert first == second
    assert "miou" in " ".join(first)


def test_another_teacher_of_the_same_spec_gets_a_file_of_its_own(tmp_path: Path) -> None:
    teacher = Trial("teacher", "teacher", "teacher", 0, {**TINY, "schedule": {"iterations": 40}})
    student = Trial(
        "s",
        "logit",
        "final",
        0,
        {**TINY, "teacher": "job:teacher", "distill": [{"method": "logit"}], "schedule": {"iterations": 4}},
    )
    home = Platform(tmp_path / "home")
    try:
        study = Study(tmp_path, home.client, {"name": "scenes", "versions": {}})
        committed = {"spec_digest": _digest(study._spec(teacher)), "metrics": {"test/miou": 99.0}}
        (tmp_path / "teacher.json").write_text(json.dumps(committed))
        assert study.do(teacher) == committed
        study.queue([student])
        assert json.loads((tmp_path / "teacher-2.json").read_text())["state"] == "succeeded"
        assert json.loads((tmp_path / "teacher.json").read_text()) == committed
        # Asked again, it is known.
        assert study.do(student)["state"] == "succeeded"
        assert not (tmp_path / "teacher-3.json").exists()
    finally:
        home.stop()


def test_a_cancelled_run_is_tried_again_once(tmp_path: Path) -> None:
    home = Platform(tmp_path / "home")
    try:
        study = Study(tmp_path, home.client, {"name": "scenes", "versions": {}})
        home.client.jobs.create({**TINY, "name": "teacher", "schedule": {"iterations": 4000}})
        term = {"teacher": "job:teacher", "distill": [{"method": "logit"}], "schedule": {"iterations": 4}}
        student = Trial("s", "logit", "final", 0, {**TINY, **term})  # waits for its teacher
        study.queue([student])
        for names in ({"s", "s-r2"}, {"s", "s-r2", "s-r3"}):
            study._job(student).cancel()
            study.queue([student])
            study.queue([student])
            assert {job.name for job in home.client.jobs.list()} - {"teacher"} == names
    finally:
        home.stop()
