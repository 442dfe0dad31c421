"""Top-1 and top-5 accuracy over a split, and accuracy by class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

UNLABELLED = -1
TOP = 5


class ClassificationMetric:
    """Accuracies in points, counted in int64 on the CPU. Unlabelled images (target -1) are not scored.

    top5 is there where more than five classes are: with fewer it is 100 for everybody. mean_accuracy is the mean over the
    classes that occur.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.hits, self.near, self.truth = (torch.zeros(len(self.names), dtype=torch.int64) for _ in range(3))

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch: class scores NK and true classes N; they may live on any device."""
        scores, wanted = prediction.cpu(), target.cpu()
        labelled = wanted != UNLABELLED
        scores, wanted = scores[labelled], wanted[labelled]
        found = scores.topk(min(TOP, len(self.names)), dim=1).indices == wanted[:, None]
        for counts, chosen in ((self.hits, found[:, 0]), (self.near, found.any(dim=1)), (self.truth, None)):
            of = wanted if chosen is None else wanted[chosen]
            counts += torch.bincount(of, minlength=len(self.names))

    def state(self) -> Tensor:
        """The counts, 3 x classes."""
        return torch.stack([self.hits, self.near, self.truth])

    def merge(self, states: list[Tensor]) -> None:
        """Counts of all processes, added up: exactly those of one process."""
        self.hits, self.near, self.truth = torch.stack(states).sum(dim=0)

    def compute(self) -> tuple[dict[str, float], dict[str, float | None]]:
        """({top1, top5 with more than five classes, mean_accuracy}, accuracy by class name: None where none occurs)."""
        total = int(self.truth.sum())
        classes = [100 * int(h) / int(n) if n else None for h, n in zip(self.hits, self.truth, strict=True)]
        present = [value for value in classes if value is not None]
        summary = {"top1": 100 * int(self.hits.sum()) / total if total else 0.0}
        if len(self.names) > TOP:
            summary["top5"] = 100 * int(self.near.sum()) / total if total else 0.0
        summary["mean_accuracy"] = sum(present) / len(present) if present else 0.0
        return summary, dict(zip(self.names, classes, strict=True))
