"""Which candidate learns which object."""

from __future__ import annotations

import math

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


def match_boxes(boxes_G4: Tensor, found_A4: Tensor, foreground: float, background: float) -> Tensor:
    """As `match_anchors`, but for predicted boxes, and by mmdetection's rule.

    An object's best boxes are its own even where they overlap another object more; of two such objects the later has them. An
    object that no box overlaps has none, where mmdetection's would have every box that it does not overlap.
    """
    if len(boxes_G4) == 0:
        return torch.full((len(found_A4),), NEGATIVE, dtype=torch.long, device=found_A4.device)
    overlap_GA: Tensor = torchvision.ops.box_iou(boxes_G4, found_A4)
    best_A, match_A = overlap_GA.max(dim=0)
    match_A[best_A < background] = NEGATIVE
    match_A[(best_A >= background) & (best_A < foreground)] = IGNORED
    best_G1 = overlap_GA.max(dim=1, keepdim=True).values
    order_G1 = torch.arange(len(boxes_G4), device=match_A.device)[:, None]
    owner_A = torch.where((overlap_GA == best_G1) & (best_G1 > 0), order_G1, NEGATIVE).amax(dim=0)
    return torch.where(owner_A >= 0, owner_A, match_A)


def match_nearest(boxes_G4: Tensor, points_A2: Tensor, strides_A: Tensor, scale: float) -> Tensor:
    """RepPoints' rule for its first points: an object has one position, a position the nearest of its objects; A int64.

    It is the position nearest to the object's centre, in object sides, among those of its level: the largest power of two of
    a stride that is at most the object's side (geometric mean of both) over `scale`, within the levels that there are.
    """
    if len(boxes_G4) == 0:
        return torch.full((len(points_A2),), NEGATIVE, dtype=torch.long, device=points_A2.device)
    centre_G2 = (boxes_G4[:, :2] + boxes_G4[:, 2:]) / 2
    side_G2 = (boxes_G4[:, 2:] - boxes_G4[:, :2]).clamp(min=1e-6)
    level_A = strides_A.log2().round()
    level_G = (side_G2 / scale).log2().mean(dim=1).trunc().clamp(level_A.min(), level_A.max())
    away_GA = ((points_A2 - centre_G2[:, None]) / side_G2[:, None]).norm(dim=2)
    away_GA = torch.where(level_A == level_G[:, None], away_GA, math.inf)
    least_G, nearest_G = away_GA.min(dim=1)
    claim_GA = torch.full_like(away_GA, math.inf).scatter(1, nearest_G[:, None], least_G[:, None])
    least_A, match_A = claim_GA.min(dim=0)
    return torch.where(least_A.isinf(), NEGATIVE, match_A)
