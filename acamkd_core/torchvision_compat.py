"""Lets `import torchvision` work beside a torch build that its compiled operators do not fit.

Import torchvision only through this file: `from acamkd_core.torchvision_compat import torchvision`, or import this
module first. Where torch and torchvision come from matching builds it does nothing. Elsewhere (a CUDA-built
torchvision beside a CPU-only torch) the operators do not load, and the plain import fails on `torchvision::nms`;
here the three operators that networks call are then defined in Python: identical NMS, roi_align by `grid_sample`.
Image decoding (`torchvision.io`) and `deform_conv2d` stay unavailable; `models/deform.py` does without the latter.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_ROI_CHUNK_SAMPLES = 1 << 18  # sampling points a grid_sample call, so that memory stays flat in the number of boxes
_library: Any = None  # must outlive the import: its end would undefine the operators


def _nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of kept boxes (xyxy, N4) by falling score: a box goes when its IoU with a kept one exceeds the limit."""
    order = scores.argsort(descending=True, stable=True)
    x1, y1, x2, y2 = dets[order].unbind(1)
    area = (x2 - x1) * (y2 - y1)
    alive = torch.ones(len(order), dtype=torch.bool, device=dets.device)
    kept: list[int] = []
    for index in range(len(order)):
        if not alive[index]:
            continue
        kept.append(index)
        width = (torch.minimum(x2[index], x2) - torch.maximum(x1[index], x1)).clamp(min=0)
        height = (torch.minimum(y2[index], y2) - torch.maximum(y1[index], y1)).clamp(min=0)
        intersection = width * height
        # 0/0 of two empty boxes is NaN, which compares false: such boxes are kept, as the compiled operator does.
        alive &= ~(intersection / (area[index] + area - intersection) > iou_threshold)
    return order[torch.tensor(kept, dtype=torch.long, device=dets.device)]


def _roi_align(
    input: Tensor,  # torchvision's name: callers pass it by position or by this keyword
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Mean of bilinear samples in each of `pooled_height` x `pooled_width` bins of each box (K5: image, x1, y1, x2, y2)."""
    height, width = input.shape[-2:]
    offset = 0.5 if aligned else 0.0
    boxes = rois[:, 1:].detach().float() * spatial_scale - offset
    start = boxes[:, :2]
    size = boxes[:, 2:] - start
    if not aligned:
        size = size.clamp(min=1.0)
    bins = size / size.new_tensor([pooled_width, pooled_height])
    samples = torch.full_like(size, sampling_ratio) if sampling_ratio > 0 else bins.ceil()
    out = input.new_zeros(len(rois), input.shape[1], pooled_height, pooled_width)
    groups = torch.cat([rois[:, :1].detach().float(), samples], dim=1)
    for image, columns, rows in groups.unique(dim=0).int().tolist() if len(rois) else []:
        if columns <= 0 or rows <= 0:
            continue  # an empty box has no samples: zero
        members = (groups == groups.new_tensor([image, columns, rows])).all(dim=1).nonzero().flatten()
        points = pooled_height * rows * pooled_width * columns
        for part in members.split(max(1, _ROI_CHUNK_SAMPLES // points)):
            # One coordinate a sample: bin b, sample i of n sits at start + (b + (i + 0.5) / n) * bin size.
            x_KX = start[part, :1] + _positions(pooled_width, columns, boxes) * bins[part, :1]
            y_KY = start[part, 1:] + _positions(pooled_height, rows, boxes) * bins[part, 1:]
            x_KYX, y_KYX = torch.broadcast_tensors(x_KX[:, None, :], y_KY[:, :, None])
            inside = (x_KYX >= -1) & (x_KYX <= width) & (y_KYX >= -1) & (y_KYX <= height)
            grid = torch.stack([2 * x_KYX / max(width - 1, 1) - 1, 2 * y_KYX / max(height - 1, 1) - 1], dim=-1)
            sampled = F.grid_sample(
                input[image][None],
                grid.flatten(0, 1)[None].to(input.dtype),
                mode="bilinear",
                padding_mode="border",
                align_corners=True,
            )[0] * inside.flatten(0, 1).to(input.dtype)
            binned = sampled.view(-1, len(part), pooled_height, rows, pooled_width, columns).mean(dim=(3, 5))
            out = out.index_copy(0, part, binned.transpose(0, 1).to(out.dtype))
    return out


def _positions(bins: int, samples: int, like: Tensor) -> Tensor:
    return (torch.arange(bins * samples, device=like.device, dtype=like.dtype) + 0.5) / samples


def _operators_load() -> bool:
    """Whether torchvision's compiled operators load, asked of the library file without importing torchvision."""
    if sys.platform == "win32" or "torchvision" in sys.modules:
        return True  # Windows wheels are CPU builds; an import that already worked needs no help
    package = importlib.util.find_spec("torchvision")
    if package is None or not package.submodule_search_locations:
        return True  # not installed: let the import say so
    loaders = (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
    folder = os.fspath(package.submodule_search_locations[0])
    found = importlib.machinery.FileFinder(folder, loaders).find_spec("_C")
    if found is None or found.origin is None:
        return False
    try:
        torch.ops.load_library(found.origin)
    except (ImportError, OSError):
        return False
    return True


def _define_operators() -> None:
    global _library
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        _library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _library.impl(name, _nms, "CompositeExplicitAutograd")
    _library.define(
        "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
        "int sampling_ratio, bool aligned) -> Tensor"
    )
    _library.impl("roi_align", _roi_align, "CompositeImplicitAutograd")


def _import() -> Any:
    if _operators_load():
        import torchvision

        return torchvision
    _define_operators()
    # While torchvision imports, `_has_ops` stays false: it would register kernels for operators that do not exist.
    import torchvision
    import torchvision.ops

    torchvision.extension._has_ops = lambda: True
    # `torchvision.ops.roi_align` is the function; its module, which bound the name at import, is only in sys.modules.
    sys.modules["torchvision.ops.roi_align"]._has_ops = torchvision.extension._has_ops  # type: ignore[attr-defined]
    return torchvision


torchvision = _import()

__all__ = ["torchvision"]
