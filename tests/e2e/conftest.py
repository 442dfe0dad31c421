"""One platform, one browser, and a handful of real runs for all browser tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from acamkd_core.datasets.scenes import generate
from acamkd_core.spec.datasets import ScenesDataset
from tests.e2e.look import WIDE, Visitor, chromium
from tests.e2e.platform import ROOT, Platform
from tests.services import missing
from tests.worker.bench import FAST

# These tests say what happens, not how fast: a loaded machine is several times slower than a free one.
expect.set_options(timeout=30_000)

SCENES: dict[str, Any] = {"format": "scenes", "train_images": 16, "val_images": 4, "test_images": 4, "size": [64, 96]}
TINY: dict[str, Any] = {
    "dataset": SCENES,
    "student": {"arch": {"family": "deeplabv3", "backbone": "mobilenet_v2", "width": 0.35, "aspp_channels": 32}},
    "batch": {"global_size": 4},
    "optimizer": {"name": "sgd", "lr": 0.02},
    "exports": ["safetensors"],
    "seed": 0,
}
ACAM: dict[str, Any] = {
    **TINY,
    "teacher": "job:teacher",
    "distill": [{"method": "acam", "at": "logits", "masks": 4}],
    "evaluation": {"every": 3, "panels": 2},
}


def runs() -> list[dict[str, Any]]:
    """What every test finds: a teacher, a distilled student with its ONNX file, one trained alone, one that failed."""
    evaluated = {"every": 3, "panels": 2}
    return [
        # long enough to beat the constant prediction, below which a teacher is refused
        {**TINY, "name": "teacher", "schedule": {"iterations": 40}, "evaluation": {"every": 20, "panels": 1}},
        {**ACAM, "name": "distilled", "schedule": {"iterations": 12}, "exports": ["safetensors", "onnx"]},
        {**TINY, "name": "alone", "schedule": {"iterations": 9}, "evaluation": evaluated},
        {**TINY, "name": "diverged", "schedule": {"iterations": 40}, "optimizer": {"name": "sgd", "lr": 1e9}},
    ]


@dataclass(frozen=True)
class World:
    """The platform on which `runs` have ended."""

    platform: Platform

    @property
    def address(self) -> str:
        return self.platform.address


@pytest.fixture(scope="session")
def running_browser() -> Iterator[Browser]:
    """Chromium. Its absence skips, on CI it fails."""
    opened = chromium()
    try:
        browser = opened.__enter__()
    except FileNotFoundError as error:
        missing("Chromium", error)
    yield browser
    opened.__exit__(None, None, None)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, running_browser: Browser) -> Iterator[World]:
    """The platform with its first runs at their ends. $ACAMKD_E2E_FOLDER keeps them, for whoever writes tests."""
    if not (ROOT / "frontend" / "dist" / "index.html").is_file():
        subprocess.run(["npm", "run", "--silent", "build"], cwd=ROOT / "frontend", check=True)
    kept = os.environ.get("ACAMKD_E2E_FOLDER")
    folder = Path(kept).resolve() if kept else tmp_path_factory.mktemp("world")
    folder.mkdir(parents=True, exist_ok=True)
    dataset = generate(ScenesDataset(**{**SCENES, "train_images": 6}), folder / "data")
    platform = Platform(folder / "home", DATASET_ROOTS=str(folder / "data"), **FAST)
    try:
        jobs = platform.client.jobs
        there = {job.name for job in jobs.list()}
        if not there:
            platform.client.datasets.add("street", dataset)
        for spec in runs():
            if spec["name"] not in there:
                jobs.create(spec)
        ends = {spec["name"]: jobs.get(spec["name"]).wait(timeout=240).state for spec in runs()}
        assert ends == {"teacher": "succeeded", "distilled": "succeeded", "alone": "succeeded", "diverged": "failed"}
        yield World(platform)
    finally:
        platform.stop()


@pytest.fixture
def visit(world: World, running_browser: Browser) -> Iterator[Callable[..., Visitor]]:
    """Opens pages as visitors with a clean browser; at the end none of them may have seen an error."""
    visitors: list[Visitor] = []

    def arrive(*, dark: bool = False, size: tuple[int, int] = WIDE) -> Visitor:
        visitors.append(Visitor(running_browser, world.address, dark=dark, size=size))
        return visitors[-1]

    yield arrive
    complaints = [complaint for visitor in visitors for complaint in visitor.complaints]
    for visitor in visitors:
        visitor.close()
    assert complaints == []


@pytest.fixture
def slow_run(world: World) -> Iterator[str]:
    """A distilled run that goes on for as long as a test watches it."""
    job = world.platform.client.jobs.create(
        {**ACAM, "schedule": {"iterations": 5000}, "evaluation": {"every": 5, "panels": 2}, "exports": []}
    )
    yield job.name
    job.cancel()
    job.wait(timeout=60)


@pytest.fixture(scope="session")
def axe() -> str:
    """The accessibility checker, as a script for a page."""
    return Path(ROOT / "frontend" / "node_modules" / "axe-core" / "axe.min.js").read_text()
