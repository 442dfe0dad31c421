"""MasKD: Huang, Zhang, You, Wang, Qian, Cao, Xu, "Masked Distillation with Receptive Tokens", ICLR 2023, arXiv 2205.14589.

Tokens E in R^{M x C} and a teacher map F_T in R^{C x P} of one image give M masks by pixel-wise attention:

    mask = sigmoid(E F_T) in (0, 1)^{M x P}

First stage, on the frozen teacher: the map is replaced by sum_m mask_m . F_T, the
teacher goes on from there, and the tokens minimise

    L_tokens = L_task + diversity_weight * mean over pairs of Dice(mask_i, mask_j),
    Dice(a, b) = 2 <a, b> / (|a|^2 + |b|^2)

On class scores the masked scores are the teacher's new prediction. Then the tokens are frozen, and the student sees

    L = weight * mean over images, masks and channels of  sum_p mask_mp^2 (t_cp - s_cp)^2 / sum_p mask_mp

The square on the mask comes from masking both maps before they are compared, as the paper does.

Authors' settings: M 6, weight 7 (RetinaNet); M 8 on class scores, where their code halves the loss (weight 0.5). Tokens
start at N(0, 0.01). Their segmentation code trains them by SGD (0.1, momentum 0.9, weight decay 1e-3, poly 0.9) for
10,000 steps beside 40,000 of distillation.

Choices the paper leaves open: levels are added, and each has its own tokens; tokens of several levels of a segmenter are
trained at the same time, each through its own continuation of the teacher; 1x1 alignment where channels differ; the
student is resized to the teacher's map; the first stage runs in float32 whatever the autocast type.
Deviations: no mask weighting module (all masks count alike, as in the authors' segmentation code) and no masks of the
student's own multiplied in later (their detection code does); an eps on each mask's sum.
"""

from __future__ import annotations

import torch
from torch import Tensor

from acamkd_core.methods.acam_losses import pairwise_dice, spatial_loss
from acamkd_core.methods.align import full_precision
from acamkd_core.methods.base import LevelPair, Prepared
from acamkd_core.methods.tokens import TokenMethod, token_masks
from acamkd_core.models.base import ModelOutput
from acamkd_core.spec.methods import MaskdTerm


def masked_map(masks_NMP: Tensor, teacher_NCHW: Tensor) -> Tensor:
    """sum_m mask_m . F_T, shape N C H W: all masks of an image on one map."""
    total_N1HW = masks_NMP.sum(dim=1).unflatten(1, teacher_NCHW.shape[2:]).unsqueeze(1)
    replaced: Tensor = teacher_NCHW * total_N1HW
    return replaced


class Maskd(TokenMethod):
    """`maskd`: one term, `maskd`; while tokens are trained, `maskd/diversity`."""

    name = "maskd"
    options: MaskdTerm

    def shape(self, pair: LevelPair) -> tuple[int, ...]:
        return (self.options.tokens_at(pair.name),)

    def prepare(self, teacher: ModelOutput) -> Prepared:
        replaced, dice = {}, []
        for pair, tokens in zip(self.pairs, self.tokens, strict=True):
            map_NCHW = full_precision(teacher.features[pair.teacher_name])
            masks = token_masks(tokens, map_NCHW.flatten(2))
            replaced[pair.teacher_name] = masked_map(masks, map_NCHW)
            if masks.shape[1] > 1:
                dice.append(pairwise_dice(masks, eps=self.options.eps).mean())
        terms = {"maskd/diversity": self.options.diversity_weight * torch.stack(dice).sum()} if dice else {}
        return Prepared(replaced, terms)

    def compare(self, tokens: Tensor, student_NCHW: Tensor, teacher_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        masks = token_masks(tokens, teacher_NCHW.flatten(2))
        # ACAM's L^s under the printed denominator is this loss (times C inside its eps).
        difference_NCP = (teacher_NCHW - student_NCHW).flatten(2)
        return spatial_loss(masks, difference_NCP, norm="sum", eps=self.options.eps), masks

    def shown(self, masks: Tensor, size: tuple[int, ...]) -> Tensor:
        shown: Tensor = masks.unflatten(2, size)
        return shown
