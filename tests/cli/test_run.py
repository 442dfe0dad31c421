"""`acamkd run`: a whole job without a service, in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.running import TINY, clean_environment
from tests.onnx_graphs import segmenter, write
from tests.program_files import save

RUN = [sys.executable, "-m", "cli.main", "run"]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment(ACAMKD_CACHE=str(folder / "cache"))
    return subprocess.run([*RUN, *arguments], capture_output=True, text=True, env=environment, cwd=folder, timeout=280)


@pytest.mark.serial
def test_ctrl_c_keeps_a_checkpoint_and_the_second_run_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    spec: dict[str, Any] = {**TINY, "schedule": {"iterations": 24}, "evaluation": {"every": 8, "panels": 0}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(spec))

    whole = run(tmp_path, "tiny.yaml", "--out", "whole", "-o", "json")
    assert whole.returncode == 0, whole.stderr
    expected = json.loads(whole.stdout)
    assert (expected["status"], expected["iteration"]) == ("succeeded", 24)
    with zipfile.ZipFile(expected["bundle"]) as bundle:
        assert any(name.endswith("model.safetensors") for name in bundle.namelist())

    environment = clean_environment(ACAMKD_CACHE=str(tmp_path / "cache"))
    process = subprocess.Popen(
        [*RUN, "tiny.yaml", "--out", "cut"], stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("student val"):
            os.kill(process.pid, signal.SIGINT)
            break
    rest = process.stderr.read()
    assert process.wait(60) == 3, rest
    assert "--resume" in rest
    refused = run(tmp_path, "tiny.yaml", "--out", "cut")
    assert refused.returncode == 1
    assert "earlier run" in refused.stderr

    resumed = run(tmp_path, "tiny.yaml", "--out", "cut", "--resume", "-o", "json")
    assert resumed.returncode == 0, resumed.stderr
    assert "goes on from iteration" in resumed.stderr
    found = json.loads(resumed.stdout)
    assert found["weights_digest"] == expected["weights_digest"]
    assert found["metrics"] == expected["metrics"]


def test_a_teacher_beside_the_job_file(tmp_path: Path) -> None:
    """Paths start at the job file, also for graphs; the run is a process that never saw the server's checks."""
    (tmp_path / "jobs").mkdir()
    write(tmp_path / "jobs" / "teacher.onnx", segmenter())
    teacher = {"weights": "./teacher.onnx", "expect": {"miou": 10, "tolerance": 100}}
    spec = {**TINY, "teacher": teacher, "distill": "logit", "schedule": {"iterations": 2}}
    (tmp_path / "jobs" / "taught.yaml").write_text(yaml.safe_dump(spec))
    done = run(tmp_path, "jobs/taught.yaml", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert "pair    logits " in done.stderr, "what is compared is said before anything trains"
    assert "teacher/miou" in json.loads(done.stdout)["metrics"]


def test_a_program_on_ones_own_machine_has_to_be_allowed_and_may_lie_anywhere(tmp_path: Path) -> None:
    save(tmp_path / "teacher.pt2")
    teacher = {"weights": "./teacher.pt2", "pt2": {"raw": 1}, "expect": {"miou": 10, "tolerance": 100}}
    spec = {**TINY, "teacher": teacher, "distill": "logit", "schedule": {"iterations": 2}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(spec))
    refused = run(tmp_path, "job.yaml")
    assert refused.returncode == 2
    assert "allow_code: true" in refused.stderr
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(spec | {"teacher": teacher | {"allow_code": True}}))
    done = run(tmp_path, "job.yaml", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert "pair    logits " in done.stderr, "what is compared is said before anything trains"
    assert "teacher/miou" in json.loads(done.stdout)["metrics"]


def test_mistakes_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("dataset: scenes\nstudent: mobile_deeplabv3\nteacher: job:x\ndistill: acam\n")
    needs = run(tmp_path, "job.yaml")
    assert needs.returncode == 2
    assert "--input job:x=PATH" in needs.stderr
    missing = run(tmp_path, "job.yaml", "--input", "job:x=nowhere.safetensors")
    assert missing.returncode == 2
    (tmp_path / "alone.yaml").write_text("dataset: scenes\nstudent: mobile_deeplabv3\nbatch: {global_size: 8}\n")
    uneven = run(tmp_path, "alone.yaml", "--nproc", "3")
    assert uneven.returncode == 2
    assert "8 images cannot be shared equally by 3 processes" in uneven.stderr
    assert not (tmp_path / "runs").exists()
