"""What MasKD and FreeKD share: tokens that are learnt on the frozen teacher first, and then say where to look.

A token is a vector of C numbers; the sigmoid of its inner product with a teacher's vector at a position is a mask there.
The stage before distillation replaces a teacher's map by what its masks leave of it, and trains the tokens by the task's
loss of what the teacher makes of that: so the teacher has to be able to go on from each level.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from acamkd_core.methods.align import Align
from acamkd_core.methods.base import Diagnostics, LevelPair, MaskSet, Method, PreStage, StepContext
from acamkd_core.methods.mask_stats import report
from acamkd_core.spec.errors import CoreError

TOKEN_STD = 0.01
TOKEN_DECAY = 1e-3
TOKEN_ITERATIONS = 10_000


def token_masks(tokens_MC: Tensor, teacher_NCP: Tensor) -> Tensor:
    """sigmoid(E F_T), shape N M P."""
    return torch.sigmoid(torch.einsum("mc,ncp->nmp", tokens_MC, teacher_NCP))


class TokenMethod(Method):
    """Base of methods whose masks are tokens. `align` and `tokens` have one entry a level; tokens are ... x C.

    One term, by the method's name: the sum over levels of what `compare` says.

    Raises:
        CoreError: `method.no_way_on` where the teacher cannot go on from a level, `method.level_twice`.
    """

    def __init__(self, options: Any, pairs: list[LevelPair], *, num_classes: int) -> None:
        super().__init__(options, pairs, num_classes=num_classes)
        for pair in pairs:
            if not pair.teacher.onward:
                raise CoreError(
                    "method.no_way_on",
                    f"{self.name} trains its tokens through the rest of the teacher, which cannot go on from "
                    f"{pair.teacher_name!r}",
                    hint="take a pyramid level or class scores; acam, pkd, cwd and mgd work at any level",
                    field="at",
                    value=pair.teacher_name,
                )
        names = [pair.teacher_name for pair in pairs]
        if len(set(names)) != len(names):
            raise CoreError(
                "method.level_twice",
                f"{self.name} trains one set of tokens a teacher level, and a level is named twice",
                hint=f"use two {self.name} entries",
                field="teacher_at",
                value=", ".join(names),
            )
        self.align = nn.ModuleList(Align(pair) for pair in pairs)
        self.tokens = nn.ParameterList(
            nn.Parameter(TOKEN_STD * torch.randn(*self.shape(pair), pair.teacher.channels), requires_grad=False)
            for pair in pairs
        )

    def shape(self, pair: LevelPair) -> tuple[int, ...]:
        """How many tokens a level has, in as many dimensions as the method wants."""
        raise NotImplementedError

    def compare(self, tokens: Tensor, student_NCHW: Tensor, teacher_NCHW: Tensor) -> tuple[Tensor, Any]:
        """(unweighted loss of one level, its masks in a form of the method's own); outside of autocast."""
        raise NotImplementedError

    def shown(self, masks: Any, size: tuple[int, ...]) -> Tensor:
        """Masks of one level as N M H W, at the size of the teacher's map."""
        raise NotImplementedError

    @property
    def pre_stage(self) -> PreStage:
        options = self.options
        iterations = TOKEN_ITERATIONS if options.token_iterations is None else options.token_iterations
        return PreStage(list(self.tokens), iterations, lr=options.token_lr, weight_decay=TOKEN_DECAY)

    def _levels(self, ctx: StepContext) -> list[tuple[Tensor, Tensor, Any]]:
        """(loss, plain MSE, masks) of every level, unweighted."""
        found = []
        for align, tokens in zip(self.align, self.tokens, strict=True):
            student, teacher = align(ctx)
            with torch.autocast(student.device.type, enabled=False):
                loss, masks = self.compare(tokens.detach().to(teacher.dtype), student, teacher)
                found.append((loss, (teacher - student).square().mean(), masks))
        return found

    def _shown(self, ctx: StepContext, levels: list[tuple[Tensor, Tensor, Any]]) -> dict[str, Tensor]:
        """Masks N M H W by level."""
        return {
            pair.name: self.shown(masks, tuple(ctx.teacher.features[pair.teacher_name].shape[-2:]))
            for pair, (_, _, masks) in zip(self.pairs, levels, strict=True)
        }

    def forward(self, ctx: StepContext) -> dict[str, Tensor]:
        return {self.name: self.options.weight * torch.stack([loss for loss, _, _ in self._levels(ctx)]).sum()}

    @torch.no_grad()
    def diagnose(self, ctx: StepContext) -> Diagnostics:
        """`kd/mse_ratio`, `mask/<level>/spatial/<stat>`, and the alarm `masks.collapsed`."""
        found, levels = Diagnostics(), self._levels(ctx)
        for name, masks in self._shown(ctx, levels).items():
            report(found, name, "spatial", masks.flatten(2))
        mse = sum(float(value) for _, value, _ in levels)
        if mse > 0:
            found.scalars["kd/mse_ratio"] = self.options.weight * sum(float(loss) for loss, _, _ in levels) / mse
        return found

    @torch.no_grad()
    def masks(self, ctx: StepContext) -> dict[str, MaskSet]:
        shown = self._shown(ctx, self._levels(ctx))
        return {name: MaskSet(spatial=masks, channel=None) for name, masks in shown.items()}
