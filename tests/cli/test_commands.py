"""The command line: what it prints, and with which code it ends."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from acamkd_core.client import Client
from acamkd_core.spec.errors import ErrorInfo
from acamkd_core.spec.job import JobSpec, parse_job
from acamkd_core.spec.yaml_text import load_yaml
from cli.main import app, run_command
from tests.acamkd_core.client.seed import Attempt
from tests.acamkd_core.datasets.shapes_factory import write_shapes
from tests.cli.running import TINY, RunningServer, clean_environment
from tests.worker.bench import until


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture
def connected(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> RunningServer:
    monkeypatch.setenv("ACAMKD_URL", server.url)
    return server


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert run_command([*arguments, "-o", "json"]) == code
    return json.loads(capsys.readouterr().out)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from cli.main import run_command; assert run_command(['--help']) == 0;"
        "print(sorted({'torch', 'numpy', 'httpx', 'pydantic', 'sqlalchemy', 'fastapi'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean_environment()
    )
    assert shown.stdout.splitlines()[-1] == "[]"
    for verb in (
        "init",
        "submit",
        "ls",
        "show",
        "watch",
        "logs",
        "cancel",
        "rerun",
        "diff",
        "download",
        "run",
        "up",
        "keys",
    ):
        assert f" {verb} " in shown.stdout


def test_every_command_that_says_something_says_it_as_data_too() -> None:
    """All but the two that run in the foreground and only log."""
    found: dict[str, bool] = {}

    def walk(group: Any, path: str) -> None:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                walk(command, f"{path}{name} ")
            else:
                found[f"{path}{name}"] = any("-o" in one.opts and one.name == "output" for one in command.params)

    walk(typer.main.get_command(app), "")
    assert len(found) > 28
    assert [name for name, has in found.items() if not has] == ["server", "worker"]


def test_submit_says_what_it_made(connected: RunningServer, job_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["submit", str(job_file), "--set", "name=first", "--set", "optimizer.lr=5e-3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["spec", "data", "pair", "queued"]
    assert lines[3].endswith(f"{connected.url}/runs/first")
    assert as_json(capsys, "show", "first", "--resolved")["optimizer"]["lr"] == 0.005
    assert as_json(capsys, "show", "first")["state"] == "queued"
    assert [row["name"] for row in as_json(capsys, "ls")] == ["first"]
    assert as_json(capsys, "rerun", "first", "--name", "second", "--set", "seed=4")["state"] == "queued"
    assert as_json(capsys, "diff", "first", "second")["differing"] == [{"path": "seed", "values": [0, 4]}]
    assert run_command(["compare", "first", "second"]) == 0
    assert "second" in capsys.readouterr().out
    for name in ("first", "second"):
        assert run_command(["cancel", name]) == 0
    assert run_command(["watch", "first"]) == 3
    assert run_command(["cancel", "no-such"]) == 1


def test_a_dry_run_keeps_nothing(connected: RunningServer, job_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["submit", str(job_file), "--dry-run", "--set", "name=never"]) == 0
    assert capsys.readouterr().out.startswith("spec ")
    assert as_json(capsys, "ls", "-q", "never") == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--set", "studnt=1"], 2, "error: studnt: there is no field 'studnt'"),
        (["--set", "seed=-1"], 2, "error: seed: "),
        (["--set", "seed=012"], 2, "  value: 012"),
        (["--set", "seed"], 2, "--set takes path=value"),
        (["--set", "dataset=/no/such/folder"], 2, "error: dataset.root: "),
    ],
)
def test_mistakes_are_lines_not_traces(
    connected: RunningServer, job_file: Path, capsys: pytest.CaptureFixture[str],
    arguments: list[str], code: int, words: str,
) -> None:  # fmt: skip
    assert run_command(["submit", str(job_file), *arguments]) == code
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_nobody_there_is_4(job_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ACAMKD_URL", "http://127.0.0.1:9")
    assert run_command(["submit", str(job_file)]) == 4
    assert "acamkd up" in capsys.readouterr().err
    assert run_command(["submit"]) == 2  # usage


def test_download_and_watch_of_a_finished_job(
    connected: RunningServer, job_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["submit", str(job_file), "--set", "name=done"]) == 0
    attempt = Attempt(connected.data)
    (tmp_path / "bundle.zip").write_bytes(b"not really a zip" * 1000)
    assert run_command(["download", "done"]) == 1  # nothing yet
    attempt.export(tmp_path / "bundle.zip", kind="bundle", format="zip", verified=False)
    attempt.report(metrics={"val/miou": 12.5}, points=[("val/miou", 6, 12.5)])
    attempt.succeed()
    assert run_command(["watch", "done"]) == 0
    capsys.readouterr()
    assert as_json(capsys, "watch", "done")["metrics"] == {"val/miou": 12.5}
    told = as_json(capsys, "download", "done", "-d", str(tmp_path / "again"))
    assert told["path"] == str(tmp_path / "again" / "bundle.zip")
    assert told["artifact"]["sha256"] == hashlib.sha256((tmp_path / "bundle.zip").read_bytes()).hexdigest()
    assert run_command(["download", "done", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert shown.out.strip() == str(tmp_path / "out" / "bundle.zip")
    assert "NOT verified" in shown.err
    assert (tmp_path / "out" / "bundle.zip").read_bytes() == (tmp_path / "bundle.zip").read_bytes()
    assert run_command(["logs", "done"]) == 0


@pytest.mark.parametrize(("state", "reason", "code"), [("succeeded", "done", 0), ("failed", "non_finite_loss", 1)])
def test_submit_and_watch_is_one_document_and_a_code(
    connected: RunningServer, job_file: Path, capsys: pytest.CaptureFixture[str], state: str, reason: str, code: int
) -> None:
    name = f"watched-{state}"

    def work() -> None:
        with Client(connected.url) as client:
            until(lambda: bool(client.jobs.list(q=name)), 60)
        error = ErrorInfo(code="train.non_finite", message="the loss is nan", hint="a smaller lr")
        Attempt(connected.data).end(state, reason, error if code else None)

    worker = threading.Thread(target=work)
    worker.start()
    assert run_command(["submit", str(job_file), "--set", f"name={name}", "--watch", "-o", "json"]) == code
    worker.join(60)
    shown = capsys.readouterr()
    ended = json.loads(shown.out)
    assert (ended["name"], ended["state"], ended["reason"]) == (name, state, reason)
    assert ("error: the loss is nan  (a smaller lr)" in shown.err) == bool(code)


def test_keys_open_a_server_that_asks_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACAMKD_REQUIRE_KEYS", "true")
    monkeypatch.delenv("ACAMKD_DATABASE_URL", raising=False)
    monkeypatch.setenv("ACAMKD_DATA_DIR", str(tmp_path))
    assert run_command(["server", "--port", "0"]) == 1  # refuses to start without one
    assert "acamkd keys create" in capsys.readouterr().err
    made = as_json(capsys, "keys", "create", "ci")
    assert made["key"].startswith("acamkd_")
    [listed] = as_json(capsys, "keys", "list")
    assert (listed["name"], listed["key"]) == ("ci", None)
    assert run_command(["keys", "revoke", listed["id"]]) == 0
    assert capsys.readouterr().out == "revoked ci\n"
    assert as_json(capsys, "keys", "list")[0]["revoked_at"] is not None
    assert run_command(["keys", "revoke", "no-such"]) == 1


def test_init_finds_what_lies_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert as_json(capsys, "init", str(tmp_path / "empty"))["dataset"] == "scenes"
    folder = tmp_path / "city"
    for name in ("images", "masks"):
        (folder / "camvid" / name).mkdir(parents=True)
    (folder / "camvid" / "classes.json").write_text("[]")
    (folder / "teacher.safetensors").write_bytes(b"")
    found = as_json(capsys, "init", str(folder))
    assert (found["dataset"], found["teacher"]) == ("./camvid", "./teacher.safetensors")
    for written in (tmp_path / "empty" / "job.yaml", folder / "job.yaml"):
        parse_job(load_yaml(written.read_text()))  # what it writes is a job
    assert [term.method for term in parse_job(load_yaml((folder / "job.yaml").read_text())).distill] == ["acam"]  # type: ignore[union-attr]
    assert run_command(["init", str(folder)]) == 1
    assert run_command(["init", str(folder), "--force"]) == 0


def test_init_knows_boxes_from_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc = tmp_path / "VOC2012"
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main"):
        (voc / name).mkdir(parents=True)
    coco = tmp_path / "cells" / "annotations" / "instances_train.json"
    coco.parent.mkdir(parents=True)
    coco.write_text("{}")
    both = [as_json(capsys, "init", str(voc.parent), "--force")]
    both.append(as_json(capsys, "init", str(tmp_path), "--force", "--task", "detection"))
    assert [(one["dataset"], one["task"]) for one in both] == [
        (".", "semantic_segmentation"),
        (".", "detection"),
    ]
    assert as_json(capsys, "init", str(coco.parents[1]))["task"] == "detection"
    job = parse_job(load_yaml((coco.parents[1] / "job.yaml").read_text()))
    assert isinstance(job, JobSpec)
    assert (job.task, job.student.arch.family) == ("detection", "retinanet")  # type: ignore[union-attr]
    assert run_command(["init", str(tmp_path), "--task", "depth", "--force"]) == 1
    shapes = write_shapes(tmp_path / "other" / "shapes", {"train": 1, "val": 1})
    assert as_json(capsys, "init", str(shapes.parent))["task"] == "classification"
    job = parse_job(load_yaml((shapes.parent / "job.yaml").read_text()))
    assert isinstance(job, JobSpec)
    assert (job.task, job.student.arch.family) == ("classification", "mobilenet_v2")  # type: ignore[union-attr]


def test_migrate_says_which_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ACAMKD_DATABASE_URL", raising=False)
    for _ in range(2):
        told = as_json(capsys, "migrate", "--data", str(tmp_path))
        assert told["database"] == "sqlite"
        assert told["revision"]


def test_families_need_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {one["name"]: one["parameters"] for one in as_json(capsys, "models")["presets"]}
    assert counts["deeplabv3-mobilenet_v2-3.2m"] == 3_233_171  # counted by hand, 19 classes
    assert run_command(["models"]) == 0
    assert "3.23 M" in capsys.readouterr().out


def test_timms_networks_say_what_they_can_be(capsys: pytest.CaptureFixture[str]) -> None:
    told = as_json(capsys, "models", "timm", "patch4_window7_224")
    assert told["backbones"]["swin_tiny_patch4_window7_224"]["channels"] == [96, 192, 384, 768]
    assert told["classifiers"]["swin_tiny_patch4_window7_224"]["parameters"] == 28_288_354  # timm's own count
    assert "resnet18" not in told["classifiers"]
    for name, words in (("vit_small_patch16_384", ["classifier ", "384 x 384 only", "b3 384, b6 384"]), ("timm:resnet18d", ["classifier, backbone", "224 x 224, any"])):  # fmt: skip
        assert run_command(["models", "timm", name]) == 0
        printed = capsys.readouterr().out
        assert all(word in printed for word in words), printed
