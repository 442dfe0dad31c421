"""Which candidate learns which object."""

from __future__ import annotations

import torch
from torch import Tensor

from acamkd_core.torchvision_compat import torchvision

NEGATIVE, IGNORED = -1, -2


def match_anchors(boxes_G4: Tensor, anchors_A4: Tensor, foreground: float, background: float) -> Tensor:
    """For each anchor the object that it overlaps most, A int64: `NEGATIVE` below `background`, `IGNORED` between.

    The anchors that overlap an object most (ties included) are its own even below `foreground` (Faster R-CNN's rule).
    """
    if len(boxes_G4) == 0:
        return torch.full((len(anchors_A4),), NEGATIVE, dtype=torch.long, device=anchors_A4.device)
    overlap_GA: Tensor = torchvision.ops.box_iou(boxes_G4, anchors_A4)
    best_A, match_A = overlap_GA.max(dim=0)
    own = match_A.clone()
    match_A[best_A < background] = NEGATIVE
    match_A[(best_A >= background) & (best_A < foreground)] = IGNORED
    best_G = overlap_GA.max(dim=1).values
    rescued = (overlap_GA == best_G[:, None]).any(dim=0)
    match_A[rescued] = own[rescued]
    return match_A


def match_each(boxes_G4: Tensor, anchors_A4: Tensor, threshold: float) -> Tensor:
    """SSD's rule: an anchor has the object that it overlaps most, from `threshold` on; each object's best anchor is its own."""
    if len(boxes_G4) == 0:
        return torch.full((len(anchors_A4),), NEGATIVE, dtype=torch.long, device=anchors_A4.device)
    overlap_GA: Tensor = torchvision.ops.box_iou(boxes_G4, anchors_A4)
    best_A, match_A = overlap_GA.max(dim=0)
    match_A[best_A < threshold] = NEGATIVE
    match_A[overlap_GA.max(dim=1).indices] = torch.arange(len(boxes_G4), device=match_A.device)
    return match_A
