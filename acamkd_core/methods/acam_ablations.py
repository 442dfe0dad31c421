"""Controls for ACAM-KD: the same loss with masks that cannot have learnt where to look.

Shape legend: N batch, M masks, C channels, P = H W positions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from acamkd_core.methods.acam_masks import Masks

Ablation = Literal["none", "frozen", "shuffle_positions", "shuffle_images", "noise", "teacher_only"]
NOISE_CELL = 4


def _permute(masks_NMX: Tensor, generator: torch.Generator) -> Tensor:
    # One permutation an image, the same for its M masks: overlaps between masks, and so L_div, stay what they were.
    count, _, length = masks_NMX.shape
    order = torch.stack([torch.randperm(length, generator=generator) for _ in range(count)]).to(masks_NMX.device)
    return masks_NMX.gather(2, order.unsqueeze(1).expand_as(masks_NMX))


def _other_image(masks_NMX: Tensor, shift: int) -> Tensor:
    return masks_NMX.roll(shift, dims=0)


def _smooth_noise(masks_NMP: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    count, masks, positions = masks_NMP.shape
    cells = [max(2, -(-side // NOISE_CELL)) for side in size]
    coarse = torch.randn(count, masks, *cells, generator=generator).to(masks_NMP)
    return torch.sigmoid(F.interpolate(coarse, size=size, mode="bilinear").reshape(count, masks, positions))


def _white_noise(masks_NMC: Tensor, generator: torch.Generator) -> Tensor:
    return torch.sigmoid(torch.randn(masks_NMC.shape, generator=generator).to(masks_NMC))


def ablate(masks: Masks, ablation: Ablation, size: tuple[int, int], generator: torch.Generator) -> Masks:
    """The masks that the KD terms see. `frozen` and `teacher_only` change how masks are made, and pass through here.

    shuffle_positions: the learnt values at permuted positions (channel masks: permuted channels).
    shuffle_images: the learnt masks of another image of the batch; a batch of one keeps its own.
    noise: sigmoid of normal noise, on a grid of 4 x 4 cells and bilinear for spatial masks, white for channel masks.
    `generator` must be on the CPU, so that a run draws the same on every device.
    """
    if ablation in ("none", "frozen", "teacher_only"):
        return masks
    spatial, channel = masks.spatial, masks.channel
    if ablation == "shuffle_images":
        some = spatial if spatial is not None else channel
        count = 0 if some is None else some.shape[0]
        shift = int(torch.randint(1, count, (1,), generator=generator)) if count > 1 else 0
        spatial = None if spatial is None else _other_image(spatial, shift)
        channel = None if channel is None else _other_image(channel, shift)
    elif ablation == "shuffle_positions":
        spatial = None if spatial is None else _permute(spatial, generator)
        channel = None if channel is None else _permute(channel, generator)
    else:
        spatial = None if spatial is None else _smooth_noise(spatial, size, generator)
        channel = None if channel is None else _white_noise(channel, generator)
    return Masks(spatial, channel)
