"""FreeKD: Zhang, Huang, Liu, Jiang, Cheng, Zhang, "FreeKD: Knowledge Distillation via Semantic Frequency Prompt",
CVPR 2024, arXiv 2311.12079.

Maps are compared band by band behind a discrete wavelet transform xi (Haar, J = 3 scales: B = 3 J + 1 bands), under masks
that say which places of a band matter. Prompts E in R^{B x T x C}, T = 2, make them from the teacher's band R_b:

    M_b = sigmoid(E_b R_b) in (0, 1)^{T x P_b}

First stage, on the frozen teacher: every band is replaced by sum_i M_bi . R_b, the inverse transform makes a map of them,
the teacher goes on from there, and the prompts minimise, lambda = 1,

    L_prompt = L_task + lambda * sum_b 1/T^2 sum_ij J(M_bi, M_bj),     J(m, n) = <m, n> / (|m|^2 + |n|^2 - <m, n>)

Then the prompts are frozen, and the student sees, with a = xi(T) and b = xi(f_align(S)),

    L = weight * sum_b mean over images, prompts, channels and places of | M_b . a_b - M_b . b_b |

Choices the paper leaves open: each band counts by its mean (the authors' code), however small it is; Jaccard's coefficient
of soft masks as written above (the authors' code takes Dice in its place); prompts start at N(0, 0.01) and are trained as
MasKD's, whose code the authors built on; levels are added, each with its own prompts; 1x1 alignment where channels differ;
the student is resized to the teacher's map; odd sides are padded by zeros; the first stage runs in float32.

Deviations. The position-aware weight omega (a gate per channel, learnt from the attention between two teacher layers) is
left out, as in the released code: learnt by the loss that it multiplies, it can only fall to 0. The released code also
leaves out the coarse band, adds a plain MSE of weight 5, and has one set of prompts a scale, which look at the sum of the
scale's three bands; here every band has its own, as in the paper. For the code's sum add a `feature_mse` entry.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from acamkd_core.methods import haar
from acamkd_core.methods.align import full_precision
from acamkd_core.methods.base import LevelPair, Prepared
from acamkd_core.methods.tokens import TokenMethod, token_masks
from acamkd_core.models.base import ModelOutput
from acamkd_core.spec.methods import FreekdTerm


def band_masks(prompts_BTC: Tensor, bands: list[Tensor]) -> list[Tensor]:
    """M of every band, N T H_b W_b."""
    return [
        token_masks(prompts_TC, band.flatten(2)).unflatten(2, band.shape[2:])
        for prompts_TC, band in zip(prompts_BTC, bands, strict=True)
    ]


def jaccard(masks_NTP: Tensor) -> Tensor:
    """Mean of J over all ordered pairs, each mask with itself (1) among them, and over images. Scalar."""
    overlap_NTT = masks_NTP @ masks_NTP.transpose(1, 2)
    size_NT = overlap_NTT.diagonal(dim1=1, dim2=2)
    union_NTT = size_NT.unsqueeze(1) + size_NT.unsqueeze(2) - overlap_NTT
    # Two masks that are 0 everywhere would be 0/0; the smallest normal number changes no other value.
    return (overlap_NTT / union_NTT.clamp_min(torch.finfo(union_NTT.dtype).tiny)).mean()


def masked_difference(masks_NTHW: Tensor, student_NCHW: Tensor, teacher_NCHW: Tensor) -> Tensor:
    """Mean over images, prompts, channels and places of |M a - M b|. Scalar; M >= 0, so prompts can be averaged first."""
    return (masks_NTHW.mean(dim=1, keepdim=True) * (teacher_NCHW - student_NCHW).abs()).mean()


class Freekd(TokenMethod):
    """`freekd`: one term, `freekd`; while prompts are trained, `freekd/diversity`."""

    name = "freekd"
    options: FreekdTerm

    def shape(self, pair: LevelPair) -> tuple[int, ...]:
        return (3 * self.options.scales + 1, self.options.tokens)

    def prepare(self, teacher: ModelOutput) -> Prepared:
        replaced: dict[str, Tensor] = {}
        overlaps: list[Tensor] = []
        for pair, prompts in zip(self.pairs, self.tokens, strict=True):
            map_NCHW = full_precision(teacher.features[pair.teacher_name])
            bands = haar.split(map_NCHW, self.options.scales)
            masks = band_masks(prompts, bands)
            kept = [band * mask.sum(dim=1, keepdim=True) for band, mask in zip(bands, masks, strict=True)]
            replaced[pair.teacher_name] = haar.merge(kept, (map_NCHW.shape[2], map_NCHW.shape[3]))
            overlaps += [jaccard(mask.flatten(2)) for mask in masks]
        return Prepared(replaced, {"freekd/diversity": self.options.diversity_weight * torch.stack(overlaps).sum()})

    def compare(self, tokens: Tensor, student_NCHW: Tensor, teacher_NCHW: Tensor) -> tuple[Tensor, list[Tensor]]:
        of_teacher, of_student = (haar.split(maps, self.options.scales) for maps in (teacher_NCHW, student_NCHW))
        masks = band_masks(tokens, of_teacher)
        triples = zip(masks, of_student, of_teacher, strict=True)
        return torch.stack([masked_difference(*triple) for triple in triples]).sum(), masks

    def shown(self, masks: list[Tensor], size: tuple[int, ...]) -> Tensor:
        """T masks a band, bands in the order of `haar.split`, each place as large as its square of the map."""
        scale = [2 ** (index // 3 + 1) for index in range(len(masks) - 1)]
        scale.append(scale[-1])  # the coarse band is as small as the last of the others
        grown = [F.interpolate(one, scale_factor=by, mode="nearest") for one, by in zip(masks, scale, strict=True)]
        return torch.cat([one[:, :, : size[0], : size[1]] for one in grown], dim=1)
