"""Cross-attention for mask making, without the P x P matrix: softmax rows in blocks of queries, recomputed in backward.

ACAM-KD uses F_fused = V A^T (C x P) only through m^s F_fused and through its mean over positions. Both are linear in V,
and the rows of A sum to 1, so M rows and one vector are all that has to pass through the attention:

    m^s F_fused = (m^s W_v F) A^T + m^s b_v        mean_q F_fused[:, q] = W_v (F a) + b_v,   a = column means of A

Memory: one block of `block` queries (over the whole batch) times P keys, twice in backward. Results do not depend on
the block. Computed in the inputs' type (callers pass float32 or more); no second derivatives.

Shape legend: N batch, D = C_q query channels, M rows, P positions (queries and keys alike), B queries of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def _blocks(positions: int, batch: int, block: int) -> Iterator[slice]:
    # `block` counts queries over the batch: a batch of 16 must not need 16 times the memory.
    width = max(1, block // max(1, batch))
    for start in range(0, positions, width):
        yield slice(start, min(start + width, positions))


def _attention(query_NDB: Tensor, key_NDP: Tensor) -> Tensor:
    """Softmax over keys of Q^T K / sqrt(D), shape N B P, for the queries of one block."""
    scale = query_NDB.shape[1] ** -0.5
    return torch.softmax(torch.bmm((query_NDB * scale).transpose(1, 2), key_NDP), dim=-1)


class _CrossAttend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query_NDP: Tensor, key_NDP: Tensor, rows_NMP: Tensor, block: int) -> tuple[Tensor, Tensor]:
        batch, _, positions = query_NDP.shape
        out_NMP = torch.empty_like(rows_NMP)
        column_NP = key_NDP.new_zeros(batch, key_NDP.shape[2])
        for part in _blocks(positions, batch, block):
            attention_NBP = _attention(query_NDP[:, :, part], key_NDP)
            out_NMP[:, :, part] = torch.bmm(rows_NMP, attention_NBP.transpose(1, 2))
            column_NP += attention_NBP.sum(dim=1)
        column_NP /= positions
        ctx.save_for_backward(query_NDP, key_NDP, rows_NMP, out_NMP)
        ctx.block = block
        return out_NMP, column_NP

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out_NMP: Tensor, grad_column_NP: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query_NDP, key_NDP, rows_NMP, out_NMP = ctx.saved_tensors
        batch, dim, positions = query_NDP.shape
        scale = dim**-0.5
        grad_query = torch.empty_like(query_NDP)
        grad_key = torch.zeros_like(key_NDP)
        grad_rows = torch.zeros_like(rows_NMP)
        column_share_N1P = (grad_column_NP / positions).unsqueeze(1)
        # sum_k A[q, k] dA[q, k], of which the rows' part is known without A.
        row_dot_NP = (grad_out_NMP * out_NMP).sum(dim=1)
        for part in _blocks(positions, batch, ctx.block):
            attention_NBP = _attention(query_NDP[:, :, part], key_NDP)
            grad_block_NMB = grad_out_NMP[:, :, part]
            grad_rows += torch.bmm(grad_block_NMB, attention_NBP)
            column_dot_NB1 = torch.bmm(attention_NBP, column_share_N1P.transpose(1, 2))
            # Softmax backward, in place: dS = A (dA - sum_k A dA), dA = G^T R + g / P.
            grad_score = torch.bmm(grad_block_NMB.transpose(1, 2), rows_NMP).add_(column_share_N1P)
            grad_score.sub_(row_dot_NP[:, part].unsqueeze(2) + column_dot_NB1).mul_(attention_NBP)
            grad_query[:, :, part] = torch.bmm(key_NDP, grad_score.transpose(1, 2)) * scale
            grad_key += torch.bmm(query_NDP[:, :, part] * scale, grad_score)
        return grad_query, grad_key, grad_rows, None


def cross_attend(query_NDP: Tensor, key_NDP: Tensor, rows_NMP: Tensor, *, block: int = 1024) -> tuple[Tensor, Tensor]:
    """Rows carried through A = softmax_keys(Q^T K / sqrt(D)), and the column means of A.

    Args:
        query_NDP: queries, one a position.
        key_NDP: keys, one a position, as many as queries.
        rows_NMP: M values a key; M may be 0.
        block: queries per block, counted over the batch; memory is block x P.

    Returns:
        (rows A^T, N M P; column means of A, N P, which sum to 1 over P).

    Source: ACAM-KD (arXiv 2503.06307), the attention of STCA-FF.
    """
    out, column = _CrossAttend.apply(query_NDP, key_NDP, rows_NMP, block)  # type: ignore[no-untyped-call]
    return out, column
