"""Feature distillation by mean squared difference, and the same at another run's effective weight.

Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv 1412.6550, equation 3, with a mean instead of the
half sum, and the regressor reduced to a 1x1 convolution where channels differ (none where they agree):

    L = weight * sum over levels of mean over N C H W of (F_T - f_align(F_S))^2

`feature_mse_matched` is the control for masked methods: the same loss times r(step), where r is the `kd/mse_ratio`
series that the masked run recorded (its weighted KD terms over the plain MSE summed over levels, so alpha is in it).
With weight 1 both runs then pull on the same features with the same total loss value at each step, and what remains
between them is where the masks put it.
"""

from __future__ import annotations

import bisect

from torch import Tensor

from acamkd_core.methods.align import AlignedMethod
from acamkd_core.methods.base import Diagnostics, LevelPair, StepContext
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.methods import FeatureMSEMatchedTerm


def mean_squared_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over everything of the squared difference; shapes agree, result a scalar."""
    return (teacher - student).square().mean()


def interpolate_ratio(pairs: tuple[tuple[int, float], ...], step: int) -> float:
    """Linear between recorded (iteration, ratio) pairs of rising iteration; constant before the first, after the last."""
    right = bisect.bisect_right([iteration for iteration, _ in pairs], step)
    if right == 0:
        return pairs[0][1]
    if right == len(pairs):
        return pairs[-1][1]
    (x0, y0), (x1, y1) = pairs[right - 1], pairs[right]
    return y0 + (y1 - y0) * (step - x0) / (x1 - x0)


class FeatureMSE(AlignedMethod):
    """`feature_mse`: one term, `feature_mse`."""

    name = "feature_mse"

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return mean_squared_difference(student, teacher)

    def diagnose(self, ctx: StepContext) -> Diagnostics:
        return Diagnostics(scalars={"kd/mse_ratio": self.scale(ctx.step)})


class FeatureMSEMatched(FeatureMSE):
    """`feature_mse_matched`: one term, `feature_mse_matched`.

    Raises:
        CoreError: `method.ratio_missing` when neither the spec nor the engine (from `ratio_from`) gave the series.
    """

    name = "feature_mse_matched"

    def __init__(self, options: FeatureMSEMatchedTerm, pairs: list[LevelPair], *, num_classes: int) -> None:
        super().__init__(options, pairs, num_classes=num_classes)
        if not options.ratio:
            raise CoreError(
                "method.ratio_missing",
                "feature_mse_matched needs the recorded KD/MSE ratio of another run",
                hint="give `ratio_from: job:<name>` of an ACAM run, or (iteration, ratio) pairs as `ratio`",
                field="ratio_from",
                value=options.ratio_from,
            )
        self.ratio = options.ratio

    def scale(self, step: int) -> float:
        return float(self.options.weight) * interpolate_ratio(self.ratio, step)
