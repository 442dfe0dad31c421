"""How the operators of `acamkd_core/graph_ops.py` are written in ONNX: NonMaxSuppression and RoiAlign with outputs of fixed shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18 as op

from acamkd_core import graph_ops

_FLOAT_TO_INT64, _TO_BOOL = 7, 9  # of ONNX's `Cast`


def _ints(*values: int) -> Any:
    return op.Constant(value_ints=list(values))


def keep_mask(boxes: Any, scores: Any, iou: float) -> Any:
    """N x B bool. Boxes without a score (negative) take no part; a class of its own for each image is its batch."""
    limit = op.Gather(op.Shape(scores), _ints(1))
    kept_M3 = op.NonMaxSuppression(
        boxes, op.Unsqueeze(scores, _ints(1)), limit, op.Constant(value_floats=[iou]), op.Constant(value_floats=[-0.5])
    )
    place_M2 = op.Gather(kept_M3, _ints(0, 2), axis=1)
    ones = op.Expand(op.Constant(value_float=1.0), op.Gather(op.Shape(place_M2), _ints(0)))
    return op.Cast(op.ScatterND(op.Expand(op.Constant(value_float=0.0), op.Shape(scores)), place_M2, ones), to=_TO_BOOL)


def pool_regions(maps: Any, regions: Any, here: Any, scale: float, sampling_ratio: int, aligned: bool) -> Any:
    """R x C x 7 x 7: only the regions of this level are pooled, the others are zero."""
    index = op.Transpose(op.NonZero(here))
    mine = op.GatherND(regions, index)
    images = op.Cast(op.Gather(mine, op.Constant(value_int=0), axis=1), to=_FLOAT_TO_INT64)
    pooled = op.RoiAlign(
        maps,
        op.Gather(mine, _ints(1, 2, 3, 4), axis=1),
        images,
        mode="avg",
        output_height=graph_ops.REGION,
        output_width=graph_ops.REGION,
        sampling_ratio=sampling_ratio,
        spatial_scale=scale,
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
    )
    shape = op.Concat(
        op.Gather(op.Shape(regions), _ints(0)),
        op.Gather(op.Shape(maps), _ints(1)),
        _ints(graph_ops.REGION, graph_ops.REGION),
        axis=0,
    )
    return op.ScatterND(op.Expand(op.Constant(value_float=0.0), shape), index, pooled)


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For `torch.onnx.export(custom_translation_table=...)`."""
    return {
        torch.ops.acamkd.keep_mask.default: keep_mask,
        torch.ops.acamkd.pool_regions.default: pool_regions,
    }
