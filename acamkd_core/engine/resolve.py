"""Filling in what only the data and the networks can tell: the automatic values of a spec."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from acamkd_core.datasets.base import Dataset
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.job import JobSpec
from acamkd_core.spec.models import ModelSpec
from acamkd_core.spec.native import NativeHeader, read_native_header

DEFAULT_EPOCHS = 30


def digest(spec: JobSpec) -> str:
    """Digest of what decides a run's numbers. Names, notes, limits and loader processes do not."""
    data = spec.model_dump(mode="json")
    for name in ("name", "tags", "notes", "resources", "exports", "reference"):
        data.pop(name)
    data["batch"].pop("workers")
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def locate(model: ModelSpec, inputs: dict[str, Path], field: str) -> Path | None:
    """The local file behind `weights`, or None when there are none or torchvision has them."""
    weights = model.weights
    if weights is None or weights.torchvision is not None:
        return None
    if weights.reference in inputs:
        return inputs[weights.reference]
    if weights.file is None:
        raise CoreError(
            "weights.needs_server",
            f"{weights.reference} is known to a server only",
            hint="submit the job to the server, or give a file",
            field=f"{field}.weights",
            value=weights.reference,
        )
    path = Path(weights.file).expanduser()
    if not path.is_file():
        raise CoreError(
            "weights.not_found", f"no file {weights.file}", field=f"{field}.weights.file", value=weights.file
        )
    return path


def from_header(model: ModelSpec, path: Path | None, field: str) -> tuple[dict[str, Any], NativeHeader | None]:
    """(updates for the model's spec, header): architecture and preprocessing that a file of ours carries."""
    header = read_native_header(path) if path is not None else None
    if header is None:
        if model.arch is None:
            raise CoreError(
                "model.no_arch",
                "these weights do not say which network they belong to",
                hint="give `arch`: a preset's name or its fields",
                field=f"{field}.arch",
            )
        return {}, None
    updates: dict[str, Any] = {}
    if model.arch is None:
        updates["arch"] = header.arch.model_dump()
    if "preprocess" not in model.model_fields_set:
        updates["preprocess"] = header.preprocess.model_dump()
    return updates, header


def resolve(
    spec: JobSpec, dataset: Dataset, size: tuple[int, int], batches_per_epoch: int
) -> tuple[JobSpec, dict[str, Any]]:
    """The spec with sizes and lengths filled in, and the automatic values by dotted path.

    Args:
        size: height and width of the dataset's images.
        batches_per_epoch: full batches in one pass over the training split.

    Raises:
        CoreError: `schedule.warmup` when the warm-up is as long as the run.
    """
    data = spec.model_dump()
    automatic: dict[str, Any] = {}

    def fill(path: str, value: Any) -> None:
        part, name = path.split(".")
        if data[part][name] is None:
            data[part][name] = automatic[path] = value

    for name, value in spec.augment.automatic(spec.task, size).items():
        fill(f"augment.{name}", value)
    if data["schedule"]["iterations"] is None:
        fill("schedule.epochs", DEFAULT_EPOCHS)
    total = data["schedule"]["iterations"] or data["schedule"]["epochs"] * batches_per_epoch
    if data["schedule"]["warmup_iterations"] >= total:
        raise CoreError(
            "schedule.warmup",
            f"a warm-up of {data['schedule']['warmup_iterations']} iterations leaves nothing of {total}",
            hint="a shorter warm-up, or more epochs",
            field="schedule.warmup_iterations",
            value=data["schedule"]["warmup_iterations"],
        )
    fill("evaluation.every", max(1, total // 10))
    fill("checkpoint.every", data["evaluation"]["every"])
    if data["dataset"]["splits"]["test"] is None and "test" in dataset.splits():
        data["dataset"]["splits"]["test"] = automatic["dataset.splits.test"] = "test"
    for number, term in enumerate(spec.distill):
        for name, value in term.automatic(classes=len(dataset.classes), iterations=total).items():
            data["distill"][number][name] = automatic[f"distill.{number}.{name}"] = value
    return JobSpec.model_validate(data), automatic
