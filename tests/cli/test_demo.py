"""The demo as a stranger runs it: the whole story in one process, and its last words are those of the numbers."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from acamkd_core.client import Client
from cli.processes import Record, free_port
from tests.cli.running import clean_environment

pytestmark = [pytest.mark.long, pytest.mark.serial]


@pytest.mark.timeout(1500)
def test_the_demo_tells_what_happened(tmp_path: Path) -> None:
    data = tmp_path / "demo"
    home = data / "home"
    run = [sys.executable, "-m", "cli.demo", "--data", str(data), "--port", str(free_port(18080)), "--seed", "3"]
    try:
        told = subprocess.run(run, env=clean_environment(), capture_output=True, text=True, timeout=1400, check=False)
        text = told.stdout
        assert told.returncode == 0, text + told.stderr
        address = re.search(r"dashboard +(http://127\.0\.0\.1:\d+)", text)
        assert address, text
        jobs = Client(address[1]).jobs
        teacher, alone, acam = (jobs.get(f"demo1-{name}") for name in ("teacher", "student-alone", "student-acam-kd"))
        # killed with -9 in the middle, and taken up again where its last checkpoint was
        resumed = re.search(r"kill -9 of our worker at iteration (\d+): noticed after \d+ s, resumed at (\d+)", text)
        assert resumed, text
        first, second = teacher.attempts()
        assert (first.exit, second.resumed_from) == ("lost", int(resumed[2]))
        assert int(resumed[1]) >= int(resumed[2]) > 0
        # the table and the verdict are the server's numbers
        for label, job in (("teacher", teacher), ("student alone", alone), ("student ACAM-KD", acam)):
            assert re.search(rf"^  {label} +{job.results['test/miou']:.2f} +{job.results['val/miou']:.2f} ", text, re.M)
        gain = acam.results["test/miou"] - alone.results["test/miou"]
        sign = "\N{MINUS SIGN}" if gain < 0 else r"\+"
        assert re.search(rf"ACAM-KD minus alone: {sign}{abs(gain):.2f} points\. 1 seed: no claim\.", text), text
        assert "verified without torch" in text
        assert "NOT VERIFIED" not in text
        # both students saw the same images in the same order, for as long
        mine, theirs = (job.spec().spec for job in (acam, alone))
        for field in ("dataset", "student", "schedule", "batch", "optimizer", "augment", "seed"):
            assert mine[field] == theirs[field], field
        # the line that it offers works as it is printed
        offered = re.search(r"try it +(.+)", text)
        assert offered, text
        command = shlex.split(offered[1])
        tried = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert tried.returncode == 0, tried.stderr
        with Image.open(data / "street.png") as image, Image.open(data / "street_overlay.png") as overlay:
            assert image.size == overlay.size
    finally:
        down = [sys.executable, "-m", "cli.main", "down", "--data", str(home)]
        subprocess.run(down, env=clean_environment(), check=False, timeout=200, capture_output=True)
    assert Record(home / "up.json").read()[1] == {}
