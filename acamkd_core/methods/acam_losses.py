"""The losses of ACAM-KD (arXiv 2503.06307) as pure functions of masks and features.

Shape legend: N batch, M masks, C channels, P positions. With D = F_T - F_S, a mean over the batch of

    L^s   = 1/M sum_m ||M^s_m (.) D||^2 / (C * sum_p M^s_mp + eps)
    L^c   = 1/M sum_m ||M^c_m (.) D||^2 / (P * sum_c M^c_mc + eps)
    L_div = 2 sum_{i != j} <M_i, M_j> / (sum_i |M_i|^2 + sum_j |M_j|^2 + eps)          of one set

`mask_norm = "sum"` is the printed denominator, `"sum_sq"` puts M^2 in it: then a factor on a mask changes nothing.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

MaskNorm = Literal["sum", "sum_sq"]


def _masked_mean(masks_NMX: Tensor, energy_NX: Tensor, others: int, norm: MaskNorm, eps: float) -> Tensor:
    # ||M (.) D||^2 = sum_x M_x^2 * (squared differences summed over the other axis): no N M C P tensor is needed.
    squared = masks_NMX.square()
    numerator_NM = (squared * energy_NX.unsqueeze(1)).sum(dim=2)
    denominator_NM = others * (masks_NMX if norm == "sum" else squared).sum(dim=2) + eps
    return (numerator_NM / denominator_NM).mean()


def spatial_loss(masks_NMP: Tensor, difference_NCP: Tensor, *, norm: MaskNorm, eps: float) -> Tensor:
    """L^s: squared difference under M spatial masks, mean over masks and batch. Scalar."""
    energy_NP = difference_NCP.square().sum(dim=1)
    return _masked_mean(masks_NMP, energy_NP, difference_NCP.shape[1], norm, eps)


def channel_loss(masks_NMC: Tensor, difference_NCP: Tensor, *, norm: MaskNorm, eps: float) -> Tensor:
    """L^c: squared difference under M channel masks, mean over masks and batch. Scalar."""
    energy_NC = difference_NCP.square().sum(dim=2)
    return _masked_mean(masks_NMC, energy_NC, difference_NCP.shape[2], norm, eps)


def pairwise_dice(masks_NMX: Tensor, *, eps: float) -> Tensor:
    """2 <M_i, M_j> / (|M_i|^2 + |M_j|^2 + eps) of all pairs i < j, shape N x M(M-1)/2. Two empty masks give 0, not 0/0."""
    gram = masks_NMX @ masks_NMX.transpose(1, 2)
    size = gram.diagonal(dim1=1, dim2=2)
    dice = 2 * gram / (size.unsqueeze(1) + size.unsqueeze(2) + eps)
    count = masks_NMX.shape[1]
    keep = gram.new_ones(count, count).triu(diagonal=1).bool()
    return dice[:, keep]


def diversity_loss(masks_NMX: Tensor, *, form: Literal["pairs", "printed"], eps: float) -> Tensor:
    """L_div of one set of masks, mean over the batch. Scalar; 0 for a single mask.

    `printed`: the paper's quotient of sums over ordered pairs, in [0, M - 1]. `pairs`: mean Dice over pairs, in [0, 1]
    (the form of MasKD, ICLR 2023). The same lambda therefore does not mean the same in both.
    """
    if masks_NMX.shape[1] == 1:
        return masks_NMX.sum() * 0.0
    if form == "pairs":
        return pairwise_dice(masks_NMX, eps=eps).mean()
    size_N = masks_NMX.square().sum(dim=(1, 2))
    overlap_N = masks_NMX.sum(dim=1).square().sum(dim=1) - size_N
    return (2 * overlap_N / (2 * size_N + eps)).mean()
