"""Online hard example mining over pixels: A. Shrivastava, A. Gupta, R. Girshick, CVPR 2016, arXiv 1604.03540, in the form
that segmentation networks are trained with (threshold 0.7, at least 100,000 pixels).

A pixel is hard when its true class is given less than the threshold. Where fewer pixels than wanted are hard, the hardest
are taken until there are enough; pixels that tie with the last of them are taken too. The loss is the mean over what is kept.

Code lines differ: mmsegmentation counts `min_kept` for an image, as here, and divides by all pixels; others count it for a
batch and divide by the kept ones, as here. Both count over all images of a forward pass together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from acamkd_core.spec.job import OhemSpec


def hard_pixels(loss_NHW: Tensor, labelled_NHW: Tensor, ohem: OhemSpec) -> Tensor:
    """NHW bool: the labelled pixels to learn from.

    Args:
        loss_NHW: cross-entropy of each pixel without class weights, -log of the true class's probability.
        labelled_NHW: pixels that have a true class.
        ohem: threshold and least number.
    """
    hard = labelled_NHW & (loss_NHW > -math.log(ohem.threshold))
    losses = loss_NHW[labelled_NHW]
    wanted = min(ohem.min_kept * len(loss_NHW), len(losses))
    if int(hard.sum()) >= wanted:
        return hard
    least = torch.topk(losses, wanted).values[-1]
    return labelled_NHW & (loss_NHW >= least)
