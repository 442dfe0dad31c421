"""Suppression and region pooling with outputs of fixed shape, so that a graph can hold them for a whole batch.

Outside an export they are torchvision's `nms` and `roi_align`. During one they are operators of their own, `acamkd::keep_mask`
and `acamkd::pool_regions`, which `exports/onnx.py` writes as NonMaxSuppression and RoiAlign.
"""

from __future__ import annotations

import torch
from torch import Tensor

from acamkd_core.torchvision_compat import torchvision

REGION = 7  # cells a side of a pooled region


def keep_mask(boxes_NB4: Tensor, scores_NB: Tensor, iou: float) -> Tensor:
    """NB bool: which boxes are left when stronger ones that overlap them by more than `iou` suppress them.

    Boxes with a negative score take no part.
    """
    if torch.compiler.is_exporting():
        kept: Tensor = _keep_mask(boxes_NB4, scores_NB, iou)
        return kept
    return _suppressed(boxes_NB4, scores_NB, iou)


def pool_regions(
    maps_NCHW: Tensor, regions_R5: Tensor, here_R: Tensor, stride: int, *, sampling_ratio: int, aligned: bool
) -> Tensor:
    """R x C x 7 x 7: RoIAlign (He et al. 2017) of the regions that belong to this map; zeros for the others.

    Args:
        maps_NCHW: a level of the pyramid.
        regions_R5: image in the batch, x1, y1, x2, y2 in pixels of the input.
        here_R: bool, which regions belong to this level.
        stride: of the map.
        sampling_ratio: samples a side of a cell; 0: as many as the cell is wide or high on the map, rounded up.
        aligned: the centre of a map's first position is half a stride from the corner; otherwise it is the corner, and
            regions are at least one position wide and high.
    """
    if torch.compiler.is_exporting():
        pooled: Tensor = _pool_regions(maps_NCHW, regions_R5, here_R, 1 / stride, sampling_ratio, aligned)
        return pooled
    return _pooled(maps_NCHW, regions_R5, here_R, 1 / stride, sampling_ratio, aligned)


def _suppressed(boxes_NB4: Tensor, scores_NB: Tensor, iou: float) -> Tensor:
    kept_NB = torch.zeros_like(scores_NB, dtype=torch.bool)
    for row, (boxes_B4, scores_B) in enumerate(zip(boxes_NB4, scores_NB, strict=True)):
        taking_part = (scores_B >= 0).nonzero().flatten()
        kept = torchvision.ops.nms(boxes_B4[taking_part], scores_B[taking_part], iou)
        kept_NB[row, taking_part[kept]] = True
    return kept_NB


def _pooled(
    maps_NCHW: Tensor, regions_R5: Tensor, here_R: Tensor, scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    index = here_R.nonzero().flatten()
    found = torchvision.ops.roi_align(maps_NCHW, regions_R5[index], REGION, scale, sampling_ratio, aligned)
    whole = maps_NCHW.new_zeros(len(regions_R5), maps_NCHW.shape[1], REGION, REGION)
    return whole.index_copy(0, index, found.to(whole.dtype))


@torch.library.custom_op("acamkd::keep_mask", mutates_args=())
def _keep_mask(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    return _suppressed(boxes, scores, iou)


@_keep_mask.register_fake
def _(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


@torch.library.custom_op("acamkd::pool_regions", mutates_args=())
def _pool_regions(
    maps: Tensor, regions: Tensor, here: Tensor, scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    return _pooled(maps, regions, here, scale, sampling_ratio, aligned)


@_pool_regions.register_fake
def _(maps: Tensor, regions: Tensor, here: Tensor, scale: float, sampling_ratio: int, aligned: bool) -> Tensor:
    return maps.new_empty(regions.shape[0], maps.shape[1], REGION, REGION)
