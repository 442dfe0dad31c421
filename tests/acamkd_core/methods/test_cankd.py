"""CanKD against loops in float64 that form the whole matrix of positions: value, gradients, what it starts as."""

import numpy as np
import pytest
import torch

from tests.acamkd_core.methods import layers_reference as layers
from tests.acamkd_core.methods.competitors_reference import slope
from tests.acamkd_core.methods.helpers import context, method, pair, randomise


def maps(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def pool(maps_):
    """The largest of 2 x 2 positions; what is left over at an odd edge is dropped; a side of one is kept."""
    count, channels, height, width = maps_.shape
    rows, columns = max(1, height // 2), max(1, width // 2)
    down, across = min(2, height), min(2, width)
    out = np.zeros((count, channels, rows, columns))
    for y in range(rows):
        for x in range(columns):
            square = maps_[:, :, y * down : (y + 1) * down, x * across : (x + 1) * across]
            out[:, :, y, x] = square.reshape(count, channels, -1).max(axis=2)
    return out


def cankd(student, teacher, block):
    queries = layers.convolve(student, block.query)
    keys, values = (pool(layers.convolve(teacher, ask)) for ask in (block.key, block.value))
    count, inner, height, width = queries.shape
    q, k, v = (one.reshape(count, inner, -1) for one in (queries, keys, values))
    found = np.zeros((count, inner, height * width))
    for n in range(count):
        for p in range(height * width):
            for j in range(k.shape[2]):
                score = sum(q[n, d, p] * k[n, d, j] for d in range(inner)) / k.shape[2]
                for d in range(inner):
                    found[n, d, p] += score * v[n, d, j]
    moved = layers.convolve(found.reshape(count, inner, height, width), block.out)
    fused = student + layers.batch_norm(moved, block.norm)
    return ((layers.instance_norm(fused) - layers.instance_norm(teacher)) ** 2).mean() / 2


@pytest.mark.parametrize("shape", [(2, 4, 2, 4), (2, 3, 3, 5), (1, 1, 4, 2), (2, 4, 1, 4)])
def test_value_and_gradient_equal_the_loops(shape):
    student, teacher = maps(*shape).requires_grad_(), 2 * maps(*shape) + 1
    built = method("cankd", [pair(shape[1], shape[1])], weight=3.0).double()
    randomise(built)
    block = built.levels[0].block

    def wanted(array):
        return 3.0 * cankd(array, teacher.numpy(), block)

    value = built(context(student, teacher))["cankd"]
    value.backward()
    array = student.detach().numpy().copy()
    assert value.item() == pytest.approx(wanted(array), rel=1e-10)
    np.testing.assert_allclose(student.grad.numpy(), slope(wanted, array), rtol=1e-4, atol=1e-8)
    for name, parameter in block.named_parameters():
        flat, got = parameter.data.view(-1), parameter.grad.view(-1)
        kept = flat[0].item()
        sides = []
        for step in (1e-5, -1e-5):
            flat[0] = kept + step
            sides.append(wanted(array))
        flat[0] = kept
        assert got[0].item() == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4, abs=1e-7), name


def test_it_starts_as_a_normalised_mse_that_ignores_scale_and_offset():
    student, teacher = maps(2, 4, 3, 4), maps(2, 4, 3, 4)
    built = method("cankd", [pair(4, 4)]).double()
    once = built(context(student, teacher))["cankd"].item()
    s, t = (layers.instance_norm(one.numpy()) for one in (student, teacher))
    assert once == pytest.approx(2.5 * ((s - t) ** 2).mean(), rel=1e-12)
    moved = 3 * student + maps(2, 4, 1, 1)
    assert built(context(moved, teacher))["cankd"].item() == pytest.approx(once, rel=1e-4)
    assert built(context(teacher, teacher))["cankd"].item() == 0.0


def test_keys_have_no_places_but_the_students_have():
    """Permuting 2 x 2 squares of the teacher as keys changes nothing of what a student's position finds."""
    block = method("cankd", [pair(4, 4)]).levels[0].block.double()
    randomise(block)
    student, teacher = maps(2, 4, 4, 4), maps(2, 4, 4, 4)
    swapped = teacher[:, :, [2, 3, 0, 1]]
    torch.testing.assert_close(block(student, teacher), block(student, swapped))


def test_a_map_of_one_position_teaches_nothing_and_breaks_nothing():
    built = method("cankd", [pair(4, 4)])
    student = torch.randn(1, 4, 1, 1, requires_grad=True)
    value = built(context(student, torch.randn(1, 4, 1, 1)))["cankd"]
    value.backward()
    assert value.item() == 0.0
    assert float(student.grad.abs().sum()) == 0.0
    assert all(float(p.grad.abs().sum()) == 0.0 for p in built.parameters()), "and nothing is left without a gradient"


def test_channels_are_adapted_levels_added_and_half_precision_widened():
    built = method("cankd", [pair(4, 6, "a"), pair(3, 3, "b")])
    student = {"a": torch.randn(2, 4, 3, 4), "b": torch.randn(2, 3, 3, 4)}
    teacher = {"a": torch.randn(2, 6, 6, 8), "b": torch.randn(2, 3, 3, 4)}
    both = built(context(student, teacher))["cankd"].item()
    alone = [level(context(student, teacher)).item() for level in built.levels]
    assert both == pytest.approx(5 * sum(alone), rel=1e-6)
    low = {name: one.bfloat16() for name, one in student.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = built(context(low, {name: one.bfloat16() for name, one in teacher.items()}))["cankd"]
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(both, rel=0.02)
