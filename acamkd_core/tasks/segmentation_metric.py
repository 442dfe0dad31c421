"""Mean intersection over union by a confusion matrix (Everingham et al., PASCAL VOC, section 4.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def confusion(prediction: Tensor, target: Tensor, classes: int, ignore_id: int) -> Tensor:
    """Counts of (truth, prediction) pairs, KxK int64; pixels with the ignore id in the truth do not count."""
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
    scored = target != ignore_id
    pairs = target[scored].long() * classes + prediction[scored].long()
    return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)


class SegmentationMetric:
    """mIoU, pixel accuracy and IoU per class, in points, accumulated exactly in int64 on the CPU.

    A class that occurs neither in the truth nor in any prediction has no IoU (None) and does not enter the mean; a
    class that is only predicted has 0 and does.
    """

    def __init__(self, names: Sequence[str], ignore_id: int) -> None:
        self.names = list(names)
        self.ignore_id = ignore_id
        self.counts = torch.zeros(len(self.names), len(self.names), dtype=torch.int64)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch: predicted and true ids, both NHW; they may live on any device."""
        target = target.to(prediction.device)
        self.counts += confusion(prediction, target, len(self.names), self.ignore_id).cpu()

    def state(self) -> Tensor:
        """The counts."""
        return self.counts

    def merge(self, states: list[Tensor]) -> None:
        """Counts of all processes, added up: exactly those of one process."""
        self.counts = torch.stack(states).sum(dim=0)

    def compute(self) -> tuple[dict[str, float], dict[str, float | None]]:
        """({miou, pixel_accuracy, mean_accuracy}, IoU by class name), in points."""
        counts = self.counts.double()
        hits, truth, predicted = counts.diag(), counts.sum(1), counts.sum(0)
        union = truth + predicted - hits
        iou = [100 * float(hit / u) if u > 0 else None for hit, u in zip(hits, union, strict=True)]
        accuracy = [100 * float(hit / t) for hit, t in zip(hits, truth, strict=True) if t > 0]
        present = [value for value in iou if value is not None]
        total = float(truth.sum())
        summary = {
            "miou": sum(present) / len(present) if present else 0.0,
            "pixel_accuracy": 100 * float(hits.sum()) / total if total else 0.0,
            "mean_accuracy": sum(accuracy) / len(accuracy) if accuracy else 0.0,
        }
        return summary, dict(zip(self.names, iou, strict=True))


def constant_miou(targets: Tensor | Iterable[Tensor], classes: int, ignore_id: int) -> float:
    """mIoU in points of the best prediction that is the same class everywhere.

    A constant c has IoU n_c / N for c and 0 for every other class that occurs, so the most frequent class is best:
    max n_c / (N * classes that occur).
    """
    counts = torch.zeros(classes, dtype=torch.int64)
    for target in [targets] if isinstance(targets, Tensor) else targets:
        scored = target[target != ignore_id].long()
        counts += torch.bincount(scored, minlength=classes).cpu()
    present = int((counts > 0).sum())
    return 100 * float(counts.max()) / (float(counts.sum()) * present) if present else 0.0
