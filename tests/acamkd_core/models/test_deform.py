"""The deformable convolution against loops in float64, the ordinary convolution, and torchvision's operator where it loads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from acamkd_core.models.deform import DeformConv2d, DeformConv2dPack, deform_conv
from acamkd_core.torchvision_compat import torchvision
from tests.acamkd_core.models.reppoints_reference import TAPS, deformed

BASE = torch.tensor([part for tap in TAPS for part in tap], dtype=torch.float64).view(1, 18, 1, 1)


def case(height: int, width: int, spread: float) -> tuple[Tensor, Tensor, Tensor]:
    """Maps, offsets and a kernel. With a spread of some positions, places lie inside, across the border and far outside."""
    generator = torch.Generator().manual_seed(height * width)
    maps = torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64)
    offsets = torch.randn(2, 18, height, width, generator=generator, dtype=torch.float64) * spread
    weight = torch.randn(4, 3, 3, 3, generator=generator, dtype=torch.float64)
    return maps.requires_grad_(), offsets.requires_grad_(), weight.requires_grad_()


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 1), (1, 1)])
def test_values_and_gradients_are_those_of_the_loops(height: int, width: int) -> None:
    maps, offsets, weight = case(height, width, 2.0)
    places = (offsets + BASE).detach().unflatten(1, (9, 2))
    y = places[:, :, 0] + torch.arange(height)[:, None]
    assert ((y > -1) & (y < 0)).any(), "some places have two of four neighbours"
    assert ((y < -1) | (y > height)).any(), "and some none"
    ours, theirs = deform_conv(maps, offsets + BASE, weight), deformed(maps, offsets, weight)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    direction = torch.randn_like(ours)
    for name, own, other in zip(
        ("maps", "places", "kernel"),
        torch.autograd.grad((ours * direction).sum(), (maps, offsets, weight)),
        torch.autograd.grad((theirs * direction).sum(), (maps, offsets, weight)),
        strict=True,
    ):
        torch.testing.assert_close(own, other, rtol=1e-8, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")
        assert own.abs().sum() > 0, name


def test_half_a_position_outside_counts_half() -> None:
    maps = torch.full((1, 1, 2, 2), 3.0)
    places = torch.zeros(1, 2, 2, 2)
    places[0, 0, 0, 0], places[0, 0, 1, 0] = -0.5, 1.0
    assert deform_conv(maps, places, torch.ones(1, 1, 1, 1)).tolist() == [[[[1.5, 3.0], [0.0, 3.0]]]]


def test_taps_at_their_ordinary_places_are_the_ordinary_convolution() -> None:
    maps, offsets, weight = case(5, 7, 0.0)
    places = offsets + BASE
    torch.testing.assert_close(deform_conv(maps, places, weight), F.conv2d(maps, weight, padding=1))


def test_strides_and_groups_are_those_of_the_loops_and_of_the_ordinary_convolution() -> None:
    generator = torch.Generator().manual_seed(1)
    maps, weight = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((2, 4, 5, 7), (6, 2, 3, 3))
    )
    offsets = torch.randn(2, 18, 3, 4, generator=generator, dtype=torch.float64)
    found = deform_conv(maps, offsets + BASE, weight, stride=2, groups=2)
    torch.testing.assert_close(found, deformed(maps, offsets, weight, stride=2, groups=2), rtol=1e-9, atol=1e-9)
    plain = torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False)
    fresh = DeformConv2dPack(plain)
    assert [name for name, _ in fresh.named_parameters()] == ["weight", "conv_offset.weight", "conv_offset.bias"]
    torch.testing.assert_close(fresh(maps.float()), plain(maps.float()))


def test_torchvisions_operator() -> None:
    if not hasattr(torch.ops.torchvision, "deform_conv2d"):
        pytest.skip("torchvision's compiled operators do not load beside this torch")
    maps, offsets, weight = case(6, 8, 2.0)
    ours = deform_conv(maps, offsets + BASE, weight)
    theirs = torchvision.ops.deform_conv2d(maps, offsets, weight, padding=1)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)
    gradients = [torch.autograd.grad(one.square().sum(), (maps, offsets, weight)) for one in (ours, theirs)]
    for own, other in zip(*gradients, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-7, atol=1e-8)


def test_under_autocast_places_keep_their_digits() -> None:
    """bfloat16 has 8 bits: position 160.25 would be 160, and the value read there a neighbour's."""
    maps = torch.arange(200.0).expand(1, 1, 1, 200)
    places = torch.zeros(1, 2, 1, 200)
    places[:, 1] = 0.25
    conv = DeformConv2d(1, 1, kernel=1)
    torch.nn.init.ones_(conv.weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = conv(maps - 160, places)
    assert found.dtype == torch.bfloat16
    assert found[0, 0, 0, 160].item() == pytest.approx(0.25, abs=1e-3)
