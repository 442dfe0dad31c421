"""A finished run is read, never run again, and never taken for a run of another spec."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from acamkd_core.client import Client
from benchmarks import demo, tables
from benchmarks.study import Study, Trial
from cli import demo_jobs

# Nobody listens there: a study that asked the server for a finished run would fail.
NOBODY = "http://127.0.0.1:9"


def test_the_committed_demo_is_that_of_the_present_jobs() -> None:
    study = Study(tables.RESULTS / "demo", Client(NOBODY), {"name": "scenes", "versions": {}})
    for seed in demo.SEEDS:
        for trial in demo.trials(seed):
            assert study.do(trial)["seed"] == seed


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
