"""Going on from a level with the network's own values on it gives what the whole network gives, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.acamkd_core.models.conftest import scramble
from tests.acamkd_core.models.test_families import VARIANTS, build


@pytest.mark.parametrize(
    "fields", [VARIANTS[0], VARIANTS[4], VARIANTS[5], *VARIANTS[-6:-2]], ids=lambda f: str(f["family"])
)
def test_every_level_leads_on_to_the_same_scores(fields: dict[str, object]) -> None:
    model = build(fields).eval()
    scramble(model)
    out = model(torch.rand(2, 3, 64, 96))
    assert all(level.onward for level in model.levels.values())
    for name, entered in zip(out.features, model.onward(out.features), strict=True):
        assert torch.equal(entered.raw, out.raw), name
    changed = model.onward({name: value + 1 for name, value in out.features.items()})
    assert not any(torch.equal(entered.raw, out.raw) for entered in changed)


def test_a_frozen_network_passes_gradients_back_to_the_level_it_was_entered_at() -> None:
    model = build(VARIANTS[0]).eval().requires_grad_(False)
    with torch.no_grad():
        features = model(torch.rand(2, 3, 64, 64)).features
    for name, value in features.items():
        leaf = nn.Parameter(value.clone())
        model.onward({name: leaf})[0].raw.square().sum().backward()
        assert leaf.grad is not None
        assert float(leaf.grad.abs().sum()) > 0, name
