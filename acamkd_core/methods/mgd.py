"""MGD: Yang, Li, Shao, Shi, Yuan, Yuan, "Masked Generative Distillation", ECCV 2022, arXiv 2205.01529.

    M_hw = 0 where R_hw < lambda, else 1,  R ~ U(0, 1)                      the random mask
    G(F) = W_2( ReLU( W_1(F) ) ),  W_1, W_2: 3x3 convolutions, C to C       the generation block
    L = weight / N * sum over n, c, h, w of ( T - G( f_align(S) . M ) )^2   the distillation loss, mean over the batch

The student's map is hidden at random positions and has to let the teacher's whole map be regenerated from what is left.
The sum is over channels and positions, so the weight belongs to a map's size. Weight 2e-5 with lambda 0.75
(segmentation) or 0.65 (one-stage detectors), 5e-7 with 0.45 (two-stage).

Choices the paper leaves open: one mask an image, the same for all channels; hidden positions are set to 0; levels are
added, each with its own generator network and mask; 1x1 alignment where channels differ; the student is resized to the
teacher's map before it is masked; convolutions have a bias and the library's initialisation. Deviations: none.

Masks come from the step's own generator, on the CPU: a resumed run hides the same positions, on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from acamkd_core.methods.align import Align
from acamkd_core.methods.base import LevelPair, Method, StepContext
from acamkd_core.spec.methods import MgdTerm


def keep_mask(shape: torch.Size, ratio: float, generator: torch.Generator) -> Tensor:
    """N 1 H W of 0 (hidden, with probability `ratio`) and 1, on the CPU, for a map of shape N C H W."""
    draw = torch.rand(shape[0], 1, shape[2], shape[3], generator=generator)
    return (draw >= ratio).float()


def regeneration_loss(regenerated_NCHW: Tensor, teacher_NCHW: Tensor) -> Tensor:
    """Squared difference, summed over channels and positions, mean over images. Scalar."""
    return (teacher_NCHW - regenerated_NCHW).square().sum() / teacher_NCHW.shape[0]


class MgdLevel(nn.Module):
    """Alignment and the generator network of one level."""

    def __init__(self, pair: LevelPair) -> None:
        super().__init__()
        channels = pair.teacher.channels
        self.align = Align(pair)
        self.generate = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, ctx: StepContext, ratio: float, generator: torch.Generator) -> Tensor:
        student, teacher = self.align(ctx)
        with torch.autocast(student.device.type, enabled=False):
            keep = keep_mask(teacher.shape, ratio, generator).to(student)
            return regeneration_loss(self.generate(student * keep), teacher)


class Mgd(Method):
    """`mgd`: one term, `mgd`."""

    name = "mgd"
    options: MgdTerm

    def __init__(self, options: MgdTerm, pairs: list[LevelPair], *, num_classes: int) -> None:
        super().__init__(options, pairs, num_classes=num_classes)
        self.levels = nn.ModuleList(MgdLevel(pair) for pair in pairs)

    def forward(self, ctx: StepContext) -> dict[str, Tensor]:
        generator = ctx.random()
        terms = [level(ctx, self.options.mask_ratio, generator) for level in self.levels]
        return {"mgd": self.options.weight * torch.stack(terms).sum()}
