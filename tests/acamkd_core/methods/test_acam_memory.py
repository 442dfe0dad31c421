"""ACAM-KD's memory is linear in the number of positions, and no P x P tensor ever exists."""

import math

import pytest
import torch

from tests.acamkd_core.methods.helpers import context, method, pair
from tests.acamkd_core.methods.memory import StoragePeak


def measure(channels, height, width, block):
    """(peak bytes, elements of the largest tensor) of one forward and backward pass at batch 2, everything trained."""
    name = "logits" if channels == 19 else "p3"
    built = method("acam", [pair(channels, channels, name)], num_classes=19, mask_gradient="all", block=block)
    student = torch.randn(2, channels, height, width, requires_grad=True)
    teacher = torch.randn(2, channels, height, width)
    with StoragePeak() as watch:
        sum(built(context({name: student}, {name: teacher})).values()).backward()
    assert torch.isfinite(student.grad).all()
    return watch.peak, watch.largest


def slope(ladder, peaks):
    xs, ys = [math.log(p) for p in ladder], [math.log(b) for b in peaks]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def check(channels, sizes, block):
    peaks = []
    for height, width in sizes:
        positions = height * width
        peak, largest = measure(channels, height, width, block)
        assert largest < positions**2, f"a tensor of P x P = {positions**2} elements appeared"
        assert largest <= max(block * positions, 2 * channels * positions)
        peaks.append(peak)
    found = slope([h * w for h, w in sizes], peaks)
    assert 0.8 < found <= 1.1, (channels, peaks)


def test_the_measure_sees_a_square():
    """The probe itself: the naive formula must fail what the method passes."""
    query = torch.randn(1, 4, 256, requires_grad=True)
    with StoragePeak() as watch:
        torch.softmax(query.transpose(1, 2) @ query, dim=-1).sum().backward()
    assert watch.largest == 256 * 256
    assert watch.peak >= 2 * 4 * 256 * 256
    assert watch.alive < watch.peak


@pytest.mark.parametrize("channels", [19, 256])
def test_memory_is_linear(channels):
    check(channels, [(32, 32), (32, 64), (64, 64)], block=256)


@pytest.mark.long
@pytest.mark.parametrize("channels", [19, 256])
def test_memory_is_linear_up_to_sixteen_thousand_positions(channels):
    check(channels, [(32, 32), (64, 64), (128, 128)], block=512)
