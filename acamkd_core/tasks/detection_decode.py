"""From the scores and boxes of all candidates to detections: threshold, best of each level, suppression of doubles.

Shape legend: N batch, A candidates (anchors or positions) of all levels, K classes, D detections of one image.
`exports/predict.py` does the same in NumPy; a test and every run's gate hold both together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from acamkd_core.models.base import Selection
from acamkd_core.torchvision_compat import torchvision


@dataclass(frozen=True)
class Detections:
    """What was found in one image: boxes D4 (x1 y1 x2 y2 in pixels of the network's input), scores D, labels D."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def cpu(self) -> Detections:
        """The same on the CPU."""
        return Detections(self.boxes.cpu(), self.scores.cpu(), self.labels.cpu())

    def __len__(self) -> int:
        return len(self.scores)


def select(scores_AK: Tensor, boxes_A4: Tensor, counts: list[int], rule: Selection) -> Detections:
    """The detections of one image, by falling score.

    As RetinaNet (section 4): of each level the `candidates` best (candidate, class) pairs above `threshold`, then
    non-maximum suppression in each class, then the `limit` best. A candidate may be found as several classes.

    Args:
        scores_AK: probabilities.
        boxes_A4: boxes of the candidates; or AK4, one for each class.
        counts: candidates of each level, in order; they sum to A.
        rule: limits.
    """
    classes = scores_AK.shape[1]
    kept_scores, kept_index = [], []
    start = 0
    for count in counts:
        flat = scores_AK[start : start + count].flatten()
        index = (flat > rule.threshold).nonzero().flatten()
        # Stable: equal scores stay in order here and in NumPy alike.
        order = flat[index].sort(descending=True, stable=True).indices[: rule.candidates]
        kept_scores.append(flat[index[order]])
        kept_index.append(index[order] + start * classes)
        start += count
    scores, index = torch.cat(kept_scores), torch.cat(kept_index)
    order = scores.sort(descending=True, stable=True).indices
    scores, index = scores[order], index[order]
    boxes = boxes_A4[index // classes] if boxes_A4.dim() == 2 else boxes_A4.flatten(0, 1)[index]
    labels = index % classes
    keep = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        keep[members[torchvision.ops.nms(boxes[members], scores[members], rule.iou)]] = True
    chosen = keep.nonzero().flatten()[: rule.limit]
    return Detections(boxes[chosen], scores[chosen], labels[chosen])
