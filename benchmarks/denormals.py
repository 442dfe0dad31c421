"""What numbers below 1e-38 cost a CPU: a matrix product of ACAM-KD's backward pass, with and without them: `python -m benchmarks.denormals`.

Prints the processor time of one product over that of the same product with ordinary numbers.
"""

from __future__ import annotations

import time

import torch

BATCH, CHANNELS, POSITIONS, QUERIES = 8, 64, 1200, 128  # p3 of a 240x320 image, one block of queries
ROUNDS = 5


def seconds(query: torch.Tensor, gradient: torch.Tensor) -> float:
    """Processor time of a product."""
    torch.bmm(query, gradient)
    start = time.process_time()
    for _ in range(ROUNDS):
        torch.bmm(query, gradient)
    return (time.process_time() - start) / ROUNDS


def slowdown(*, flush: bool) -> float:
    """How many times as long the product takes when half of the gradient's numbers are denormal."""
    before = torch.tensor([1e-40]).mul(1.0).item() == 0.0
    torch.set_flush_denormal(flush)
    try:
        torch.manual_seed(0)
        query = torch.randn(BATCH, CHANNELS, QUERIES)
        ordinary = torch.randn(BATCH, QUERIES, POSITIONS) * 1e-5
        tiny = torch.where(torch.rand_like(ordinary) < 0.5, ordinary * 1e-36, ordinary)
        return seconds(query, tiny) / seconds(query, ordinary)
    finally:
        torch.set_flush_denormal(before)


def main() -> None:
    """Prints both factors."""
    torch.set_num_threads(1)
    print(f"kept: {slowdown(flush=False):.0f} times as long; flushed to zero: {slowdown(flush=True):.1f}")


if __name__ == "__main__":
    main()
