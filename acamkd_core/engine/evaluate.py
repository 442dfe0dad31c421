"""Scoring a network on a split, and the pictures of the run page."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from acamkd_core import ranks
from acamkd_core.engine.parts import EvaluationBatches, Parts, picture_stats
from acamkd_core.methods.base import Method, StepContext
from acamkd_core.models.base import ModelOutput
from acamkd_core.spec.events import EvaluationEvent, PanelEvent
from acamkd_core.tasks.base import Task


@dataclass
class Score:
    """Result of one pass: summary and per-class values in points."""

    metrics: dict[str, float]
    per_class: dict[str, float | None]
    seconds: float


@torch.no_grad()
def evaluate(
    model: nn.Module,
    task: Task,
    data: EvaluationBatches,
    device: torch.device,
    *,
    each: Callable[[Any], None] | None = None,
    predict: Callable[[nn.Module, Tensor], Any] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Score | None:
    """Scores `model` in eval mode and leaves its mode as it was.

    `predict` makes predictions of model and images; without it they are of a single pass.
    Of several processes each passes its share of the images, and all get the score of the whole split, which rank 0
    computes. With `each`, which sees the predictions of every batch, one process passes all of them alone.
    Returns None when `should_stop` asked to end in the middle, in all processes when it asked one.
    """
    started = time.monotonic()
    training = model.training
    model.eval()
    metric = task.metric()
    shared = each is None and ranks.world() > 1
    batches = data.share(ranks.rank(), ranks.world()) if shared else iter(data)
    try:
        while True:
            batch = next(batches, None)
            stop, more = should_stop is not None and should_stop(), batch is not None
            if shared:  # who has no batch left still answers, until nobody has one
                stop, more = ranks.any_of(stop), ranks.any_of(more)
            if stop and more:
                return None
            if not more:
                break
            if batch is None:
                continue
            images = batch.images.to(device)
            if predict is not None:
                prediction = predict(model, images)
            else:
                prediction = task.decode(model, model(images), (images.shape[-2], images.shape[-1]), batch.targets)
            metric.update(prediction, batch.targets)
            if each is not None:
                each(prediction)
    finally:
        model.train(training)
    if shared:
        metric.merge(ranks.gathered(metric.state()))
    metrics, per_class = ranks.from_first(metric.compute) if shared else metric.compute()
    return Score(metrics, per_class, time.monotonic() - started)


def evaluation_event(score: Score, role: str, split: str, iteration: int, is_best: bool = False) -> EvaluationEvent:
    """The event of a pass."""
    return EvaluationEvent(
        role=role,
        split=split,
        iteration=iteration,
        metrics=score.metrics,
        per_class=score.per_class,
        seconds=score.seconds,
        is_best=is_best,
    )


def _save(picture: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    Image.fromarray(picture).save(aside, format="PNG")
    aside.replace(path)


@torch.no_grad()
def draw_panels(
    parts: Parts, folder: Path, iteration: int, *, first: bool, mask_picture: Callable[[np.ndarray], np.ndarray]
) -> list[PanelEvent]:
    """Pictures of the fixed validation images: prediction and error, masks of every method; truth once.

    `mask_picture` maps values in [0, 1] (HW) to an RGB picture with a fixed scale: a collapsed mask must look flat.
    """
    events: list[PanelEvent] = []
    student, teacher, task = parts.student, parts.teacher, parts.task
    training = student.training
    student.eval()
    try:
        for index in parts.panel_images:
            sample = parts.val.sample(index)
            image, target = task.prepare(sample)
            images, targets = task.collate([(image, target)])
            images = images.to(parts.device)
            size = (images.shape[-2], images.shape[-1])
            out = student(images)
            decoded: dict[str, Any] = {"prediction": task.decode(student, out, size, targets)[0].cpu()}
            teacher_out = teacher(images) if teacher is not None else None
            if first and teacher is not None and teacher_out is not None and getattr(teacher, "scorable", True):
                decoded["teacher"] = task.decode(teacher, teacher_out, size, targets)[0].cpu()
            for kind, picture in task.panels(sample, decoded).items():
                if not first and kind in ("image", "truth", "teacher"):
                    continue
                path = f"panels/{iteration:08d}-{index}-{kind}.png"
                _save(picture, folder / path)
                events.append(PanelEvent(iteration=iteration, image=index, kind=kind, path=path, caption=kind))
            if teacher_out is not None and teacher is not None:
                context = _context(parts, teacher_out, out, targets, iteration)
                events += _mask_panels(parts.methods, context, folder, iteration, index, mask_picture)
    finally:
        student.train(training)
    return events


def _context(parts: Parts, teacher: ModelOutput, student: ModelOutput, targets: Any, iteration: int) -> StepContext:
    return StepContext(
        teacher=teacher,
        student=parts.as_compared(student),
        teacher_head=getattr(parts.teacher, "head", None),
        student_head=getattr(parts.student, "head", None),
        targets=targets,
        step=iteration,
        num_steps=parts.iterations,
        generator=torch.Generator().manual_seed(iteration),
        teacher_zoom=parts.teacher_zoom,
    )


def _mask_panels(
    methods: list[Method],
    context: StepContext,
    folder: Path,
    iteration: int,
    image: int,
    draw: Callable[[np.ndarray], np.ndarray],
) -> list[PanelEvent]:
    events = []
    # Numbered through levels and methods: (evaluation, image, kind, number) is a picture's place on the page.
    numbers: dict[str, int] = {}
    for method in methods:
        for level, masks in method.masks(context).items():
            pictures: list[tuple[str, int, np.ndarray]] = []
            if masks.spatial is not None:
                pictures += [
                    ("mask_spatial", m, values) for m, values in enumerate(masks.spatial[0].float().cpu().numpy())
                ]
            if masks.channel is not None:
                pictures.append(("mask_channel", 0, masks.channel[0].float().cpu().numpy()))
            for kind, number, values in pictures:
                path = f"panels/{iteration:08d}-{image}-{method.name}-{level}-{kind}-{number}.png"
                _save(draw(values), folder / path)
                caption = f"{level} mask {number + 1}" if kind == "mask_spatial" else f"{level} channel masks"
                index = numbers[kind] = numbers.get(kind, -1) + 1
                events.append(
                    PanelEvent(
                        iteration=iteration,
                        image=image,
                        kind=kind,
                        index=index,
                        path=path,
                        caption=caption,
                        stats=picture_stats(values),
                    )
                )
    return events
