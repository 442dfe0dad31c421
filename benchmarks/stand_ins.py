"""A recipe with random networks and random images in the place of the published ones, at full or at reduced size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from acamkd_core.models.registry import build_model
from acamkd_core.models.state import save_native
from acamkd_core.spec.job import JobSpec, parse_job
from acamkd_core.spec.models import ModelSpec, Preprocess
from acamkd_core.spec.native import NativeHeader
from acamkd_core.spec.patch import apply_set
from acamkd_core.spec.recipes import Recipe
from acamkd_core.spec.sizes import seen_by_teacher
from acamkd_core.spec.tasks import TASKS
from benchmarks.layouts import CLASSES, SIZES, WRITERS, Size, picture
from recipes.library import fill, job_of


@dataclass(frozen=True)
class Reduced:
    """How a run is made smaller than the recipe. Sides of images, crops and resizes are multiplied by `scale`.

    batch: images a step; None: the recipe's.
    """

    scale: float = 1.0
    batch: int | None = None

    def side(self, pixels: int) -> int:
        """A side, to a multiple of 32 where it is made smaller."""
        return pixels if self.scale == 1.0 else max(64, round(pixels * self.scale / 32) * 32)


def weights_file(
    model: ModelSpec, num_classes: int, path: Path, task: str = "semantic_segmentation", seed: int = 0
) -> Path:
    """A random network of this architecture as a file of ours.

    Its batch norms have seen such pictures as it will get: with the statistics of an untrained network, activations of a hundred layers in
    evaluation mode would grow without bound.
    """
    assert model.arch is not None
    torch.manual_seed(seed)
    preprocess = model.preprocess or Preprocess()
    network = build_model(model.arch, num_classes=num_classes, preprocess=preprocess)
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # the average over all that was seen
    with torch.no_grad():
        rng = np.random.default_rng(seed)
        pictures = np.stack([picture(rng, (128, 128)) for _ in range(4)])
        network.train()(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = NativeHeader(task=task, arch=model.arch, num_classes=num_classes, preprocess=preprocess)
    save_native(network, path, header)
    return path


def stand_in(recipe: Recipe, folder: Path, *, steps: int, reduced: Reduced, changes: dict[str, Any]) -> dict[str, Any]:
    """The recipe's job on files that are written below `folder`, `steps` long.

    Returns:
        the job; what it has in other fields than paths is `changes` and what `shortened` says.
    """
    spec = _parsed(job_of(recipe))
    kind = spec.dataset.format
    root = folder / kind
    changes = shortened(spec, steps, reduced) | changes
    spec = _parsed(apply_set(job_of(recipe), changes))
    if not root.exists():
        WRITERS[kind](root, image_size(kind, reduced), train=2 * spec.batch.global_size, val=4)
    teacher = backbone = None
    if spec.teacher is not None:
        teacher = weights_file(spec.teacher, CLASSES[kind], folder / "teacher.safetensors", spec.task)
    if spec.student.backbone_weights is not None:
        backbone = weights_file(spec.student, CLASSES[kind], folder / "backbone.safetensors", spec.task, seed=1)
    return fill(
        recipe,
        dataset=str(root),
        teacher=str(teacher) if teacher else None,
        backbone=str(backbone) if backbone else None,
        changes=changes,
    )


def _parsed(job: dict[str, Any]) -> JobSpec:
    spec = parse_job(job)
    assert isinstance(spec, JobSpec)
    return spec


def image_size(kind: str, reduced: Reduced) -> Size:
    """Height and width of the images on disk."""
    height, width = SIZES[kind]
    return reduced.side(height), reduced.side(width)


def shortened(spec: JobSpec, steps: int, reduced: Reduced) -> dict[str, Any]:
    """Changes (dotted path to value) that make a run of `steps` steps out of a recipe, at a reduced size if it is to be."""
    metric = TASKS[spec.task].metric
    changes: dict[str, Any] = {
        "schedule.iterations": steps,
        "schedule.epochs": None,
        "schedule.warmup_iterations": min(spec.schedule.warmup_iterations, steps // 4),
        "evaluation.every": steps,
        "evaluation.panels": 1,
    }
    if spec.schedule.milestones:
        whole = spec.schedule.epochs or spec.schedule.iterations or 1
        late = sorted({max(1, steps * point // whole) for point in spec.schedule.milestones})
        changes["schedule.milestones"] = late
    if spec.teacher is not None:
        changes["teacher.expect"] = {metric: 0, "tolerance": 100}  # a random network scores nothing
    for number, one in enumerate(spec.distill):
        if "token_iterations" in type(one).model_fields:
            changes[f"distill.{number}.token_iterations"] = max(1, steps // 4)
    if reduced.scale != 1.0:
        for name in ("size", "crop"):
            if (pair := getattr(spec.augment, name)) is not None:
                changes[f"augment.{name}"] = [reduced.side(side) for side in pair]
        if spec.teacher_size is not None and spec.augment.trained is not None:
            view = reduced.side(spec.augment.trained[0]), reduced.side(spec.augment.trained[1])
            changes["teacher.size"] = list(seen_by_teacher(view, spec.teacher_size, spec.augment.trained))
        if spec.augment.short_side is not None and "augment.size" in changes:
            changes["augment.short_side"] = round(max(changes["augment.size"]) * 256 / 224)
        if (resize := spec.augment.resize) is not None:
            changes["augment.resize"] = {"short": reduced.side(resize.short), "max": reduced.side(resize.max)}
    if reduced.batch is not None:
        changes["batch.global_size"] = reduced.batch
        changes["batch.accumulate"] = 1
        changes["evaluation.batch_size"] = min(reduced.batch, spec.evaluation.batch_size)
    return changes
