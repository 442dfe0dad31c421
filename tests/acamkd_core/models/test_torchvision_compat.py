"""The Python operators against brute force, and torchvision's own slower reference."""

from __future__ import annotations

import sys

import torch

from acamkd_core.torchvision_compat import _nms, _roi_align, torchvision


def test_nms_against_brute_force() -> None:
    boxes = torch.rand(150, 4) * 50
    boxes[:, 2:] += boxes[:, :2]
    scores = torch.rand(150)
    iou = torchvision.ops.box_iou(boxes, boxes)
    kept: list[int] = []
    for index in scores.argsort(descending=True).tolist():
        if all(iou[index, other] <= 0.4 for other in kept):
            kept.append(index)
    assert _nms(boxes, scores, 0.4).tolist() == kept
    assert torchvision.ops.nms(boxes, scores, 0.4).tolist() == kept
    assert torchvision.ops.nms(boxes[:0], scores[:0], 0.4).tolist() == []


def test_roi_align_and_its_gradient_against_torchvisions_reference() -> None:
    # torchvision carries an eager Python version (behind a compile hook) of its own operator.
    reference = sys.modules["torchvision.ops.roi_align"]._roi_align.__wrapped__
    features = torch.randn(2, 3, 17, 23, requires_grad=True)
    low = torch.rand(40, 2) * 15
    rois = torch.cat([torch.randint(0, 2, (40, 1)).float(), low, low + torch.rand(40, 2) * 20], dim=1)
    for aligned in (True, False):
        for ratio in (2, -1):
            ours = _roi_align(features, rois, 0.5, 3, 5, ratio, aligned)
            theirs = reference(features, rois, 0.5, 3, 5, ratio, aligned)
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)
            gradients = [torch.autograd.grad(out.square().sum(), features)[0] for out in (ours, theirs)]
            torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
    # Samples further than one position outside the map are zero in the compiled operator.
    outside = torch.tensor([[0.0, 100.0, 100.0, 110.0, 110.0]])
    assert _roi_align(features, outside, 1.0, 2, 2, 2, True).abs().max() == 0
    assert _roi_align(features, rois[:0], 1.0, 2, 2, 2, True).shape == (0, 3, 2, 2)
