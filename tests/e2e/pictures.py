"""The README's pictures, taken of real runs: `python -m tests.e2e.pictures [--data DIR]`.

A teacher, a student alone and a student distilled with ACAM-KD are trained on scenes (about 10 minutes on one thread);
with `--data` they are kept there, and a second call only takes the pictures.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from acamkd_core.client import Client
from tests.e2e.look import Visitor, chromium
from tests.e2e.platform import ROOT, Platform

IMAGES = ROOT / "docs" / "images"
SCENES: dict[str, Any] = {
    "format": "scenes",
    "train_images": 96,
    "val_images": 24,
    "test_images": 24,
    "size": [96, 160],
}
STUDENT = {"arch": {"family": "deeplabv3", "backbone": "mobilenet_v2", "width": 0.35, "aspp_channels": 64}}
TEACHER = {"arch": {"family": "deeplabv3", "backbone": "mobilenet_v2", "width": 1.0}}


def specs() -> list[dict[str, Any]]:
    """Teacher, student alone, distilled student: the last two differ in nothing but the term."""
    common = {
        "dataset": SCENES,
        "optimizer": {"name": "sgd", "lr": 0.05},
        "batch": {"global_size": 8},
        "seed": 0,
        "exports": ["safetensors", "onnx"],
    }
    alone = {"student": STUDENT, "schedule": {"iterations": 160}, "evaluation": {"every": 16, "panels": 4}}
    acam = {"teacher": "job:scenes-teacher", "distill": [{"method": "acam", "at": "logits", "weight": 0.3}]}
    return [
        {
            **{"name": "scenes-teacher", "student": TEACHER, "schedule": {"iterations": 240}},
            **{"evaluation": {"every": 48, "panels": 2}, **common, "exports": ["safetensors"]},
        },
        {"name": "scenes-alone", **alone, **common},
        {"name": "scenes-acam", **alone, **common, **acam},
    ]


def train(client: Client) -> None:
    """Whatever of the three is not there yet."""
    there = {job.name for job in client.jobs.list(kind="distill")}
    for spec in specs():
        if spec["name"] not in there:
            client.jobs.create(spec)
    for spec in specs():
        job = client.jobs.get(spec["name"]).wait()
        print(f"{job.name}: {job.state}, {job.results}", flush=True)


def take(address: str, folder: Path) -> None:
    """The four pictures, 1440 pixels wide."""
    folder.mkdir(parents=True, exist_ok=True)
    views = {
        "run-light": ("/runs/scenes-acam", False),
        "run-dark": ("/runs/scenes-acam", True),
        "compare-light": ("/compare?jobs=scenes-alone,scenes-acam", False),
        "new-run-light": ("/new?from=scenes-acam", False),
    }
    with chromium() as running:
        for name, (path, dark) in views.items():
            visitor = Visitor(running, address, dark=dark)
            visitor.see(path)
            visitor.shot(folder / f"{name}.png")
            visitor.close()
            print(f"{name}.png: {(folder / f'{name}.png').stat().st_size / 1e3:.0f} kB", flush=True)


def main() -> None:
    """Train if needed, then shoot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="data folder to keep and to use again")
    given = parser.parse_args().data
    with tempfile.TemporaryDirectory() as scratch:
        platform = Platform((given or Path(scratch) / "home").resolve())
        try:
            train(platform.client)
            take(platform.address, IMAGES)
        finally:
            platform.stop()


if __name__ == "__main__":
    main()
