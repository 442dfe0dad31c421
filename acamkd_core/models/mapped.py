"""A teacher of other classes than the dataset's, speaking in the dataset's: around any network, of ours or foreign.

Features pass as they are. Class scores of several teacher classes that are one class here are joined: logits by
log(sum(exp)), which adds up their probabilities under a softmax; a detector's probabilities, each of which stands for
itself, by their largest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from acamkd_core.models.anchors import Sizes
from acamkd_core.models.around import Around
from acamkd_core.models.base import Detector, ModelOutput, TaskModel, at_least_fp32

UNKNOWN = -1e4
"""Score of a class that the teacher does not know: never the largest, and finite in half precision too."""

Columns = Sequence[Sequence[int]]
"""For each class of the dataset the teacher's channels that mean it."""


def join_logits(scores_NKHW: Tensor, columns: Columns) -> Tensor:
    """Class scores of the dataset's classes that have columns, in their order, at least fp32. The teacher's others are dropped."""
    scores = at_least_fp32(scores_NKHW)
    if all(len(own) <= 1 for own in columns):
        return scores[:, [own[0] for own in columns if own]]
    return torch.stack([torch.logsumexp(scores[:, list(own)], dim=1) for own in columns if own], dim=1)


def join_probabilities(scores_NAK: Tensor, boxes: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
    """(probabilities of all classes of the dataset: the largest of their columns, 0 where there is none; boxes).

    Boxes NA4 stay; where each class has its own, NAK4, a class gets the box of its most probable column.
    """
    scores, places = [], []
    for own in columns:
        chosen = scores_NAK[..., list(own or (0,))].max(dim=-1)
        scores.append(chosen.values if own else torch.zeros_like(chosen.values))
        places.append(torch.tensor(list(own or (0,)), device=scores_NAK.device)[chosen.indices])
    if boxes.dim() == 4:
        index_NAK = torch.stack(places, dim=-1)
        boxes = boxes.gather(2, index_NAK[..., None].expand(*index_NAK.shape, 4))
    return torch.stack(scores, dim=-1), boxes


class Mapped(Around):
    """What both kinds share: all that is not class scores is the inner network's."""

    def __init__(self, inner: TaskModel, columns: Columns) -> None:
        super().__init__(inner)
        self.columns = [tuple(own) for own in columns]
        self.compared = [index for index, own in enumerate(self.columns) if own]


class MappedSegmenter(Mapped):
    """The level `logits` holds the classes that the teacher knows (`compared`), `raw` all of the dataset's."""

    def __init__(self, inner: TaskModel, columns: Columns) -> None:
        super().__init__(inner, columns)
        self.levels["logits"] = replace(inner.levels["logits"], channels=len(self.compared))

    def forward(self, images: Tensor) -> ModelOutput:
        out = self.inner(images)
        known = join_logits(out.raw, self.columns)
        features = dict(out.features)
        if (level := features.get("logits")) is not None:
            features["logits"] = known.reshape(*known.shape[:2], *level.shape[2:])
        return ModelOutput(features, raw=self._all(known))

    def onward(self, replaced: dict[str, Tensor]) -> list[ModelOutput]:
        found = []
        for level, value in replaced.items():
            if level != "logits":
                [out] = self.inner.onward({level: value})
                value = join_logits(out.raw, self.columns)
            found.append(ModelOutput({}, raw=self._all(value)))
        return found

    def _all(self, known: Tensor) -> Tensor:
        if len(self.compared) == len(self.columns):
            return known
        whole = known.new_full((known.shape[0], len(self.columns), *known.shape[2:]), UNKNOWN)
        whole[:, self.compared] = known
        return whole


class MappedDetector(Mapped, Detector):
    """Boxes with the dataset's classes; its pyramid is the inner detector's."""

    def __init__(self, inner: Detector, columns: Columns) -> None:
        super().__init__(inner, columns)
        self.detector = inner
        self.selection = inner.selection

    def candidates(self, out: ModelOutput, image_size: tuple[int, int], sizes: Sizes = None) -> tuple[Tensor, Tensor]:
        scores, boxes = self.detector.candidates(out, image_size, sizes)
        return join_probabilities(scores, boxes, self.columns)

    def counts(self, image_size: tuple[int, int]) -> list[int]:
        return self.detector.counts(image_size)


def mapped(inner: TaskModel, columns: Columns) -> Any:
    """`inner` in the dataset's classes."""
    return MappedDetector(inner, columns) if isinstance(inner, Detector) else MappedSegmenter(inner, columns)
