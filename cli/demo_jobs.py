"""The jobs of `make demo`, as a user would write them. The seed study of docs/results/demo.md runs the very same."""

from __future__ import annotations

from typing import Any

SCENES: dict[str, Any] = {
    "format": "scenes",
    "train_images": 240,
    "val_images": 60,
    "test_images": 60,
    "size": [96, 160],
}
STUDENT: dict[str, Any] = {
    "arch": {"family": "deeplabv3", "backbone": "mobilenet_v2", "width": 0.35, "aspp_channels": 128}
}
TEACHER: dict[str, Any] = {"arch": {"family": "deeplabv3", "backbone": "mobilenet_v2", "width": 1.0}}
TEACHER_ITERATIONS, STUDENT_ITERATIONS = 1000, 480
TEACHER_RATE, RATE = 0.05, 0.2
# Each the best of three on val with seed 0 (`benchmarks/demo.py` tries them, a test compares). Class scores of so short a
# run are far apart: gentle weights.
WEIGHTS = {"acam": 0.01, "logit": 0.3, "feature_mse": 0.2}


def inspection() -> dict[str, Any]:
    """Look at the data first."""
    return {"kind": "inspect", "dataset": SCENES}


def teacher(seed: int) -> dict[str, Any]:
    """A wide network trained on the labels."""
    common = _common(seed, TEACHER_ITERATIONS, every=100)
    return {**common, "student": TEACHER, "optimizer": {"name": "sgd", "lr": TEACHER_RATE}, "exports": ["safetensors"]}


def student(
    seed: int,
    teacher_job: str | None = None,
    method: str | None = None,
    *,
    rate: float = RATE,
    weight: float | None = None,
) -> dict[str, Any]:
    """A narrow network: alone, or with one distillation term. Same start, same batches, same steps for all."""
    spec = {**_common(seed, STUDENT_ITERATIONS, every=96), "student": STUDENT, "optimizer": {"name": "sgd", "lr": rate}}
    if method is not None:
        term = {"method": method, "at": "logits", "weight": WEIGHTS[method] if weight is None else weight}
        spec |= {"teacher": f"job:{teacher_job}", "distill": [term]}
    return spec


def _common(seed: int, iterations: int, every: int) -> dict[str, Any]:
    return {
        "dataset": SCENES,
        "augment": {"scale": [0.75, 1.5], "flip": 0.5},
        "schedule": {"iterations": iterations},
        "batch": {"global_size": 8},
        "evaluation": {"every": every, "panels": 4},
        "seed": seed,
    }
