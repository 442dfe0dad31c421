"""torchvision's random transforms beside samples that are pure functions of their own generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's generator at a seed for a moment: torchvision's transforms draw from it and take no other.

    Only the CPU's: `torch.manual_seed` would move the generators of GPUs too, which nothing here gives back.
    """
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)
