"""Dilated depthwise convolutions, phase by phase, against PyTorch's own operator."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from acamkd_core.models import dilated
from acamkd_core.models.backbones import build_backbone
from acamkd_core.models.dilated import DilatedDepthwise, phase_conv, replace_dilated


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 3), c=st.integers(1, 4), h=st.integers(1, 9), w=st.integers(1, 9), d=st.integers(1, 5),
    kernel=st.sampled_from([3, 5]), last=st.booleans(),
)  # fmt: skip
def test_values_and_gradients_are_the_operators(
    n: int, c: int, h: int, w: int, d: int, kernel: int, last: bool
) -> None:
    torch.manual_seed(0)
    layout = torch.channels_last if last else torch.contiguous_format
    x = torch.randn(n, c, h, w, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    weight = torch.randn(c, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    ours = phase_conv(x, weight, d)
    theirs = F.conv2d(x, weight, padding=d * (kernel // 2), dilation=d, groups=c)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    seed = torch.randn_like(theirs)
    for mine, torchs in zip(
        torch.autograd.grad(ours, (x, weight), seed), torch.autograd.grad(theirs, (x, weight), seed), strict=True
    ):
        torch.testing.assert_close(mine, torchs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "output_stride", "count"), [("mobilenet_v2", 16, 3), ("mobilenet_v2", 8, 10), ("mobilenet_v3_large", 16, 3)])  # fmt: skip
def test_a_backbone_learns_the_same(name: str, output_stride: int, count: int) -> None:
    torch.manual_seed(0)
    ours = build_backbone(name, output_stride=output_stride).double()
    plain = copy.deepcopy(ours)
    found = [module for module in ours.modules() if isinstance(module, DilatedDepthwise)]
    assert len(found) == count
    for module in plain.modules():
        if isinstance(module, DilatedDepthwise):
            module.__class__ = nn.Conv2d  # type: ignore[assignment]
    assert list(ours.state_dict()) == list(plain.state_dict())
    images = torch.randn(2, 3, 70, 50, dtype=torch.float64)
    for network in (ours, plain):
        sum(level.square().sum() for level in network(images).values()).backward()  # type: ignore[union-attr]
    for (key, one), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), key
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-8, atol=1e-8, msg=lambda text, key=key: f"{key}: {text}")  # fmt: skip


def test_without_a_gradient_it_is_the_plain_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is exported, evaluated and counted must not be cut into phases."""
    network = nn.Sequential(nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, bias=False))
    weight = network[0].weight
    replace_dilated(network)
    assert isinstance(network[0], DilatedDepthwise)
    assert network[0].weight is weight

    def refused(*_: object) -> torch.Tensor:
        raise AssertionError("in phases")

    monkeypatch.setattr(dilated, "phase_conv", refused)
    images = torch.randn(1, 4, 7, 6)
    with torch.no_grad():
        network(images)
    weight.requires_grad_(False)
    network(images)
    with pytest.raises(AssertionError, match="in phases"):
        network(images.requires_grad_())


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, bias=False),
        nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, stride=2, bias=False),
        nn.Conv2d(4, 4, 3, padding=1, dilation=2, groups=4, bias=False),
        nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4, bias=False),
    ],
    ids=["dense", "undilated", "bias", "stride", "valid", "multiplier"],
)
def test_other_convolutions_stay_as_they_are(conv: nn.Conv2d) -> None:
    network = nn.Sequential(conv)
    replace_dilated(network)
    assert network[0] is conv


def test_under_autocast_it_has_autocasts_type() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, bias=False))
    replace_dilated(network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(torch.randn(1, 4, 7, 6)).dtype == torch.bfloat16
