"""How `acamkd run` ends: exit codes 0 to 3, each with a sentence; on a terminal with a live display."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.acamkd_core.datasets.coco_factory import write_coco
from tests.acamkd_core.datasets.factories import write_folder
from tests.cli.running import TINY, clean_environment
from tests.cli.test_run import RUN, run

SHORT = {**TINY, "schedule": {"iterations": 2}, "evaluation": {"every": 1, "panels": 0}}


def job(folder: Path, **changes: object) -> str:
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**SHORT, **changes}))
    return "tiny.yaml"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a job and its finished run, `runs/tiny`, done on a terminal."""
    folder = tmp_path_factory.mktemp("finished")
    job(folder)
    parent, child = pty.openpty()
    environment = clean_environment(ACAMKD_CACHE=str(folder / "cache"), TERM="xterm")
    process = subprocess.Popen(
        [*RUN, "tiny.yaml"], stdin=child, stdout=subprocess.PIPE, stderr=child, env=environment, cwd=folder, text=True
    )
    os.close(child)
    screen = b""
    while True:
        try:
            part = os.read(parent, 4096)
        except OSError:  # the other side has closed
            break
        if not part:
            break
        screen += part
    os.close(parent)
    assert process.stdout is not None
    (folder / "stdout.txt").write_text(process.stdout.read())
    (folder / "screen.txt").write_bytes(screen)
    assert process.wait(60) == 0, screen.decode()
    return folder


def test_a_terminal_gets_a_live_display_and_a_pipe_the_figures(finished: Path) -> None:
    screen = (finished / "screen.txt").read_text(errors="replace")
    assert "\x1b[" in screen  # drawn over itself
    assert "2/2" in screen
    assert "student test mIoU" in screen
    figures = dict(line.split(maxsplit=1) for line in (finished / "stdout.txt").read_text().splitlines())
    assert 0 <= float(figures["test/miou"]) <= 100
    assert Path(figures["bundle"].strip()).is_file()


def test_a_finished_run_is_reported_again_but_not_as_another_spec(finished: Path) -> None:
    again = run(finished, "tiny.yaml", "--resume")
    assert again.returncode == 0, again.stderr
    assert "succeeded already" in again.stderr
    other = run(finished, "tiny.yaml", "--resume", "--set", "seed=4")
    assert other.returncode == 1
    assert "with another spec" in other.stderr


def test_a_corrupt_checkpoint_is_a_sentence_and_a_changed_spec_too(finished: Path, tmp_path: Path) -> None:
    for name in ("tiny.yaml", "cache", "runs"):
        source = finished / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    events = tmp_path / "runs/tiny/events.jsonl"
    lines = [line for line in events.read_text().splitlines() if '"type":"result"' not in line]
    events.write_text("\n".join(lines) + "\n")  # as if it had been killed before its end
    changed = run(tmp_path, "tiny.yaml", "--resume", "--set", "optimizer.lr=0.5")
    assert changed.returncode == 2
    assert "another spec" in changed.stderr
    assert "hint" in changed.stderr
    events.write_text("\n".join(lines) + "\n")
    checkpoint = max((tmp_path / "runs/tiny/checkpoints").glob("*.ckpt"))
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    torn = run(tmp_path, "tiny.yaml", "--resume")
    assert torn.returncode == 2
    assert "not a readable checkpoint" in torn.stderr
    assert "Traceback" not in changed.stderr + torn.stderr


def test_failures_of_the_run_are_1_and_mistakes_2(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "cache", tmp_path / "cache")
    diverged = run(tmp_path, job(tmp_path, optimizer={"lr": 1e30}))
    assert diverged.returncode == 1
    assert "stopped being a number" in diverged.stderr
    assert "hint:  lower optimizer.lr" in diverged.stderr
    assert list((tmp_path / "runs/tiny/checkpoints").glob("*.ckpt"))
    large = run(tmp_path, job(tmp_path, batch={"global_size": 400}), "--out", "large")
    assert large.returncode == 2
    assert "batch.global_size" in large.stderr
    typo = run(tmp_path, job(tmp_path), "--set", "optimiser.lr=1")
    assert typo.returncode == 2
    assert "did you mean 'optimizer'?" in typo.stderr
    blocked = run(tmp_path, job(tmp_path), "--out", "tiny.yaml")
    assert blocked.returncode == 1
    assert "--out: the run folder cannot be made" in blocked.stderr
    assert "Traceback" not in diverged.stderr + large.stderr + typo.stderr + blocked.stderr


def test_the_time_limit_ends_a_run_that_can_go_on(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "cache", tmp_path / "cache")
    limits = {"schedule": {"iterations": 3000}, "evaluation": {"every": 3000, "panels": 0}}
    late = run(tmp_path, job(tmp_path, **limits, resources={"max_hours": 5 / 3600}))
    assert late.returncode == 1
    assert "the time limit of 0.00138889 hours is over" in late.stderr
    assert "--resume" in late.stderr
    assert "Traceback" not in late.stderr


def test_an_inspection_shows_what_it_found(tmp_path: Path) -> None:
    write_folder(tmp_path / "toy")
    (tmp_path / "look.yaml").write_text("kind: inspect\ndataset: toy\n")
    (tmp_path / "toy/masks/train/01.png").unlink()
    broken = run(tmp_path, "look.yaml")
    assert broken.returncode == 1
    assert (tmp_path / "runs/look/exports/contact_sheet.png").is_file()
    assert "1 image has no mask" in broken.stdout
    assert "images/train/01.png" in broken.stdout
    assert "worst files" in broken.stdout


def test_a_folder_is_inspected_here_with_classes_and_sizes(tmp_path: Path) -> None:
    write_coco(tmp_path / "toy")
    environment = clean_environment(ACAMKD_CACHE=str(tmp_path / "cache"))
    command = [*RUN[:-1], "datasets", "inspect", "./toy"]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path) for _ in range(2)
    )
    assert first.returncode == 0, first.stderr
    lines = [line.split() for line in first.stdout.splitlines()]
    assert ["3", "car", "3", "3", "2", "2", "2", "2"] in lines  # boxes and images of train, val and test
    assert ["60", "x", "40", "10"] in lines
    assert ["8", "to", "16", "9", "6", "6"] in lines
    assert second.stdout == first.stdout
    assert len(list((tmp_path / "cache/inspections").iterdir())) == 1


@pytest.mark.serial
def test_ctrl_c_before_anything_has_started_is_a_stop(tmp_path: Path) -> None:
    environment = clean_environment(ACAMKD_CACHE=str(tmp_path / "cache"))
    process = subprocess.Popen([*RUN, job(tmp_path)], stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
    # The child exists once its log does; it then loads its libraries for a second or more.
    log = tmp_path / "runs/tiny/log.txt"
    deadline = time.monotonic() + 60
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 3, said
    assert "--resume" in said
    resumed = run(tmp_path, "tiny.yaml", "--resume")
    assert resumed.returncode == 0, resumed.stderr
