"""ACAM-KD: Q. Lan and Q. Tian, "ACAM-KD: Adaptive and Cooperative Attention Masking for Knowledge Distillation",
ICCV 2025, arXiv 2503.06307.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from acamkd_core.methods.acam_ablations import ablate
from acamkd_core.methods.acam_losses import channel_loss, diversity_loss, spatial_loss
from acamkd_core.methods.acam_masks import Masks, SelectionUnits
from acamkd_core.methods.align import Align
from acamkd_core.methods.base import Diagnostics, LevelPair, MaskSet, Method, StepContext
from acamkd_core.methods.mask_stats import VANISHED, report
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.methods import AcamTerm


class AcamLevel(nn.Module):
    """One level: alignment, mask making, and the three losses, unweighted."""

    def __init__(self, options: AcamTerm, pair: LevelPair, masks: int) -> None:
        super().__init__()
        self.options = options
        self.align = Align(pair)
        self.units = SelectionUnits(
            pair.teacher.channels,
            masks,
            query=options.query,
            spatial=options.spatial,
            channel=options.channel,
            bias=options.projection_bias,
            centre=options.centre,
            unit_init=options.unit_init,
            block=options.block,
        )
        if options.ablation in ("frozen", "noise"):
            self.units.requires_grad_(False)

    def learnt_masks(self, student: Tensor, teacher: Tensor) -> Masks:
        """Masks from aligned N C H W features, before any ablation."""
        source = teacher if self.options.ablation == "teacher_only" else student
        if self.options.mask_gradient != "all":
            source = source.detach()
        masks: Masks = self.units(teacher.flatten(2), source.flatten(2))
        return masks

    def forward(self, ctx: StepContext, generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor, Masks]:
        """({"spatial", "channel", "diversity"}: scalars; plain MSE; the masks that the KD terms saw)."""
        options = self.options
        student, teacher = self.align(ctx)
        with torch.autocast(student.device.type, enabled=False):
            learnt = self.learnt_masks(student, teacher)
            used = ablate(learnt, options.ablation, (teacher.shape[2], teacher.shape[3]), generator)
            difference_NCP = (teacher - student).flatten(2)
            losses: dict[str, Tensor] = {}
            diversity: list[Tensor] = []
            for name, masks, loss in (
                ("spatial", used.spatial, spatial_loss),
                ("channel", used.channel, channel_loss),
            ):
                if masks is None:
                    continue
                seen = masks.detach() if options.mask_gradient == "diversity_only" else masks
                losses[name] = loss(seen, difference_NCP, norm=options.mask_norm, eps=options.eps)
                diversity.append(diversity_loss(masks, form=options.diversity, eps=options.eps))
            losses["diversity"] = torch.stack(diversity).sum()
            return losses, difference_NCP.square().mean(), used


class Acam(Method):
    """`acam`: terms `acam/spatial`, `acam/channel`, `acam/diversity`.

    Per level, with F_S aligned to the teacher's C channels, D = F_T - F_S and P positions:

        STCA-FF   Q = W_q F_T, K = W_k F_S, V = W_v F_S, F_fused = V softmax_keys(Q^T K / sqrt(C_q))^T, C_q = floor(C/2)
        ASCM      M^s = sigmoid(m^s F_fused),  M^c = sigmoid(m^c mean_positions(F_fused))
        losses    L^s, L^c, L_div of `acam_losses`
        total     weight * (L^c + L^s) + diversity_weight * (L_div of the spatial set + L_div of the channel set)

    `weight` is the paper's alpha and multiplies the KD terms only; `diversity_weight` is its lambda. Tuning alpha thus
    leaves the masks' own learning alone (under `diversity_only`).

    Choices the paper leaves open:
        - alignment: 1x1 convolution where channels differ, none where they agree; bilinear resize of the student.
        - units start at N(0, 0.01) (`unit_init`, MasKD's value); projections at the library's default for linear maps.
        - W_q and W_v have a bias (`projection_bias`); W_k's would have no gradient and does not exist.
        - L_div covers both sets of masks and is summed over them; batch reduction is the mean over images.
        - levels are summed (`levels`); one module a level. M is the number of classes on `logits`, else 6 (`masks`).
        - query "student" swaps all roles (Q from F_S, K and V from F_T).
        - `teacher_only` feeds the teacher on both sides of the attention, so the arithmetic stays the same.

    The letter (`mask_norm: sum`, `mask_gradient: all`, `diversity: printed`, `centre: false`) destroys its masks. A common
    factor e on a set's masks scales L^s and L^c by e while L_div does not change, and nothing in the task loss resists:
    the masks shrink until the student is no longer taught (0/0 without an eps). `sum_sq` makes the KD terms scale-free,
    but under `all` and `units` masks still learn to look where teacher and student agree already. `diversity_only` shows
    the masks to the KD terms as constants, yet L_div alone collapses them too: attention between features without a
    positional code starts almost uniform, each mask is then one number for all positions, and the cheapest way to
    disjoint masks is one that is 1 everywhere and others that are 0 everywhere. `centre` takes that way out.

    Measured: 2,000 steps of SGD (0.02, momentum 0.9, weight decay 5e-4) on fixed class scores of 11 classes. Alarm means
    more than half of a set's masks with a mean outside 0.02 to 0.98; means and deviation are of the spatial masks at the end:

        letter                                              alarm by step 100
        `sum_sq`, `diversity_only`, `printed`, no `centre`  alarm by step 100
        default (`sum_sq`, `diversity_only`, `pairs`,       none in 5 seeds: means 0.42 to 0.58, deviation 0.49 to 0.50,
          `centre`)                                           KD/MSE 2.00 to 2.03
        default but `printed`                               none: means 0.14 to 0.82, deviation 0.30 to 0.37
        default but `printed` and `units` or `all`          none: deviation 0.15, KD/MSE 1.68

    `pairs` without `centre` raised none on class scores, and one at step 1,400 on half-rectified features. `printed` came
    close to the limit at learning rate 0.1 (means 0.03 to 0.89).

    What centring costs: about half of a mask's positions are on, so at most two patterns are disjoint (effective rank 2
    for spatial and channel sets in these runs). On half-rectified features of unit size (32 channels) attention stayed
    nearly uniform and the spatial masks at one half for all 2,000 steps, which is twice the plain MSE: read
    `mask/<level>/spatial/deviation` before crediting the masks.

    Deviations: `sum_sq`, `diversity_only`, `pairs` and `centre` as said; an eps on each whole denominator; mask making
    runs in float32 whatever the autocast type.
    """

    name = "acam"
    options: AcamTerm
    ratio_start: Tensor

    def __init__(self, options: AcamTerm, pairs: list[LevelPair], *, num_classes: int) -> None:
        super().__init__(options, pairs, num_classes=num_classes)
        if not (options.spatial or options.channel):
            raise CoreError(
                "method.no_masks",
                "acam without spatial and without channel masks has no loss",
                hint="switch at least one of `spatial` and `channel` on, or use feature_mse",
                field="spatial",
                value=False,
            )
        self.levels = nn.ModuleList(
            AcamLevel(options, pair, options.masks_at(pair.name, classes=num_classes)) for pair in pairs
        )
        # First measured KD/MSE ratio. In the state dict, so that a resumed run alarms where the undisturbed one does.
        self.register_buffer("ratio_start", torch.tensor(float("nan")))

    def _combine(self, values: list[Tensor]) -> Tensor:
        stacked = torch.stack(values)
        return stacked.sum() if self.options.levels == "sum" else stacked.mean()

    def forward(self, ctx: StepContext) -> dict[str, Tensor]:
        generator = ctx.random()
        return self._terms([level(ctx, generator)[0] for level in self.levels])

    def _terms(self, levels: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        factors = {
            "spatial": self.options.weight,
            "channel": self.options.weight,
            "diversity": self.options.diversity_weight,
        }
        return {
            f"acam/{name}": factor * self._combine([losses[name] for losses in levels])
            for name, factor in factors.items()
            if name in levels[0]
        }

    @torch.no_grad()
    def diagnose(self, ctx: StepContext) -> Diagnostics:
        """`kd/mse_ratio`, `mask/<level>/<spatial|channel>/<stat>`, and alarms `masks.collapsed`, `kd.vanished`.

        `kd/mse_ratio` = (acam/spatial + acam/channel) / (plain MSE on the same aligned features, summed over levels):
        alpha and `levels` are in it, so `feature_mse_matched` at weight 1 with this series has the same loss value.
        """
        found = Diagnostics()
        generator = ctx.random()
        results = [level(ctx, generator) for level in self.levels]
        for pair, (_, _, used) in zip(self.pairs, results, strict=True):
            for kind, masks in (("spatial", used.spatial), ("channel", used.channel)):
                if masks is not None:
                    report(found, pair.name, kind, masks)
        terms = self._terms([losses for losses, _, _ in results])
        kd = sum(float(value) for name, value in terms.items() if name != "acam/diversity")
        mse = sum(float(value) for _, value, _ in results)
        if mse > 0:
            self._watch_ratio(found, kd / mse)
        return found

    def _watch_ratio(self, found: Diagnostics, ratio: float) -> None:
        found.scalars["kd/mse_ratio"] = ratio
        start = float(self.ratio_start)
        if not math.isfinite(start):
            self.ratio_start.fill_(ratio)
        elif start > 0 and not ratio >= VANISHED * start:
            found.alarms["kd.vanished"] = (
                f"the KD terms fell to {ratio / start:.2g} of their first share of the plain MSE: "
                "the masks avoid what the student still has to learn"
            )

    @torch.no_grad()
    def masks(self, ctx: StepContext) -> dict[str, MaskSet]:
        generator = ctx.random()
        found = {}
        for pair, level in zip(self.pairs, self.levels, strict=True):
            _, _, used = level(ctx, generator)
            height, width = ctx.teacher.features[pair.teacher_name].shape[-2:]
            spatial = None if used.spatial is None else used.spatial.unflatten(2, (height, width))
            found[pair.name] = MaskSet(spatial=spatial, channel=used.channel)
        return found
