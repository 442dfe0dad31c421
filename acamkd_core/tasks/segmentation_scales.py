"""Multi-scale and mirrored evaluation: class probabilities averaged over several views of an image.

Published mIoU is often of this kind ("MS + flip", usually scales 0.5 to 1.75): it is some tenths of a point to two points
higher than one pass, and costs about twenty passes. It is no measure of what an exported file does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def averaged_probabilities(
    scores: Callable[[Tensor], Tensor], images_N3HW: Tensor, scales: Sequence[float], flip: bool
) -> Tensor:
    """Mean over views of softmax(scores), NKHW at the images' own size.

    Args:
        scores: class scores of a view (any height and width) at the images' size, NKHW.
        images_N3HW: RGB in [0, 1].
        scales: sides of the views over the images' sides; resized bilinearly, with anti-aliasing where they shrink.
        flip: each view also from left to right, its scores turned back.
    """
    size = (int(images_N3HW.shape[-2]), int(images_N3HW.shape[-1]))
    total: Tensor | None = None
    for scale in scales:
        wanted = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        view = images_N3HW
        if wanted != size:
            view = F.interpolate(images_N3HW, size=wanted, mode="bilinear", align_corners=False, antialias=scale < 1)
        for mirrored in (False, True) if flip else (False,):
            found = scores(view.flip(-1) if mirrored else view)
            found = torch.softmax(found.flip(-1) if mirrored else found, dim=1)
            total = found if total is None else total + found
    assert total is not None, "at least one scale"
    return total / (len(scales) * (2 if flip else 1))
