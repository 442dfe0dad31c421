"""What ACAM-KD learns: the cross-attention's projections (STCA-FF) and the selection units (ASCM) of one level.

Shape legend: N batch, C channels, P positions, M masks, D = C_q = max(1, floor(C / 2)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from acamkd_core.methods.acam_attention import cross_attend


@dataclass
class Masks:
    """spatial: N M P, channel: N M C, each in (0, 1), or None where that set is switched off."""

    spatial: Tensor | None
    channel: Tensor | None


class SelectionUnits(nn.Module):
    """Masks of one level from a teacher and a student map.

        Q = W_q F_T, K = W_k F_S, V = W_v F_S       (query "student": Q = W_q F_S, K = W_k F_T, V = W_v F_T)
        F_fused = V softmax_keys(Q^T K / sqrt(C_q))^T
        M^s = sigmoid(m^s F_fused),  M^c = sigmoid(m^c mean_positions(F_fused))

    With `centre` (not in the paper) the mean over positions, of F_fused's mean the mean over channels, is taken off
    before the sigmoid. F_fused itself is never formed (see `acam_attention`). W_k has no bias: a constant added to all scores of a row
    leaves the softmax as it is.
    """

    def __init__(
        self,
        channels: int,
        masks: int,
        *,
        query: Literal["teacher", "student"] = "teacher",
        spatial: bool = True,
        channel: bool = True,
        bias: bool = True,
        centre: bool = True,
        unit_init: float = 0.01,
        block: int = 1024,
    ) -> None:
        super().__init__()
        width = max(1, channels // 2)
        self.query_side, self.centre, self.block = query, centre, block
        self.query = nn.Linear(channels, width, bias=bias)
        self.key = nn.Linear(channels, width, bias=False)
        self.value = nn.Linear(channels, channels, bias=bias)
        self.spatial_units = nn.Parameter(unit_init * torch.randn(masks, channels)) if spatial else None
        self.channel_units = nn.Parameter(unit_init * torch.randn(masks, 1)) if channel else None

    def forward(self, teacher_NCP: Tensor, student_NCP: Tensor) -> Masks:
        """Masks of each image by itself; nothing is averaged over the batch."""
        asks, answers = (teacher_NCP, student_NCP) if self.query_side == "teacher" else (student_NCP, teacher_NCP)
        query_NDP = self.query.weight @ asks
        if self.query.bias is not None:
            query_NDP = query_NDP + self.query.bias[:, None]
        key_NDP = self.key.weight @ answers
        if self.spatial_units is None:
            rows_NMP = answers[:, :0]
        else:
            rows_NMP = (self.spatial_units @ self.value.weight) @ answers
        fused_NMP, column_NP = cross_attend(query_NDP, key_NDP, rows_NMP, block=self.block)

        spatial = channel = None
        if self.spatial_units is not None:
            if self.value.bias is not None:
                fused_NMP = fused_NMP + (self.spatial_units @ self.value.bias)[:, None]
            spatial = torch.sigmoid(self._centred(fused_NMP))
        if self.channel_units is not None:
            mean_N1C = self.value((answers @ column_NP.unsqueeze(2)).transpose(1, 2))
            channel = torch.sigmoid(self.channel_units * self._centred(mean_N1C))
        return Masks(spatial, channel)

    def _centred(self, scores: Tensor) -> Tensor:
        # Without it the cheapest way to disjoint masks is one that is 1 everywhere and the others 0 everywhere.
        return scores - scores.mean(dim=2, keepdim=True) if self.centre else scores
