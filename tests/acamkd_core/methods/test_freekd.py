"""FreeKD against loops in float64: the Haar transform and its inverse, masks, both stages' losses, gradients."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from acamkd_core.methods import haar
from acamkd_core.models.base import ModelOutput
from acamkd_core.spec.errors import CoreError
from tests.acamkd_core.methods.competitors_reference import sigmoid, slope
from tests.acamkd_core.methods.helpers import context, method, pair

SIZES = [(8, 8), (5, 7), (1, 3), (2, 2), (1, 1)]


def maps(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def entered(student, teacher, name="logits"):
    made = pair(student, teacher, name)
    return dataclasses.replace(made, teacher=dataclasses.replace(made.teacher, onward=True))


def built_with_prompts(pairs, **options):
    built = method("freekd", pairs, **options).double()
    with torch.no_grad():
        for prompts in built.tokens:
            prompts.copy_(torch.randn_like(prompts))
    return built


def wavelets(image, scales):
    """Bands of one [channel][row][column], finest first, by inner products with the four Haar patterns."""
    bands = []
    for _ in range(scales):
        channels, height, width = image.shape
        rows, columns = math.ceil(height / 2), math.ceil(width / 2)
        whole = np.zeros((channels, 2 * rows, 2 * columns))
        whole[:, :height, :width] = image
        found = {}
        for name, down, across in (
            ("ll", (1, 1), (1, 1)),
            ("lh", (1, -1), (1, 1)),
            ("hl", (1, 1), (1, -1)),
            ("hh", (1, -1), (1, -1)),
        ):
            band = np.zeros((channels, rows, columns))
            for y in range(rows):
                for x in range(columns):
                    for dy in (0, 1):
                        for dx in (0, 1):
                            band[:, y, x] += down[dy] * across[dx] * whole[:, 2 * y + dy, 2 * x + dx] / 2
            found[name] = band
        bands += [found["lh"], found["hl"], found["hh"]]
        image = found["ll"]
    return [*bands, image]


def masks_of(prompts, band):
    """[prompt][row][column]"""
    channels, height, width = band.shape
    return np.array(
        [
            [[sigmoid(sum(e[c] * band[c, y, x] for c in range(channels))) for x in range(width)] for y in range(height)]
            for e in prompts
        ]
    )


def freekd(student, teacher, prompts, scales):
    total = 0.0
    for n in range(len(student)):
        pairs = zip(wavelets(student[n], scales), wavelets(teacher[n], scales), prompts, strict=True)
        for b, a, own in pairs:
            values = [np.abs(mask * a - mask * b).mean() for mask in masks_of(own, a)]
            total += sum(values) / len(values) / len(student)
    return total


def overlap(prompts, teacher, scales):
    total = 0.0
    for image in teacher:
        for own, band in zip(prompts, wavelets(image, scales), strict=True):
            masks = masks_of(own, band)
            for m in masks:
                for k in masks:
                    both = (m * k).sum()
                    total += both / ((m * m).sum() + (k * k).sum() - both) / len(masks) ** 2 / len(teacher)
    return total


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scales", [1, 3])
def test_the_transform_equals_inner_products_and_has_an_inverse(size, scales):
    whole = maps(2, 3, *size)
    bands = haar.split(whole, scales)
    assert [tuple(band.shape[2:]) for band in bands] == haar.shapes(size, scales)
    for n in range(2):
        for got, wanted in zip(bands, wavelets(whole[n].numpy(), scales), strict=True):
            np.testing.assert_allclose(got[n].numpy(), wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(haar.merge(bands, size), whole)
    energy = sum(float(band.square().sum()) for band in bands)
    assert energy == pytest.approx(float(whole.square().sum()), rel=1e-12), "orthonormal"


@pytest.mark.parametrize(("size", "scales", "tokens"), [((4, 8), 2, 3), ((3, 5), 1, 1), ((4, 4), 3, 2)])
def test_loss_and_gradient_equal_the_loops(size, scales, tokens):
    student, teacher = maps(2, 3, *size).requires_grad_(), maps(2, 3, *size)
    built = built_with_prompts([entered(3, 3)], weight=0.5, scales=scales, tokens=tokens)
    prompts = built.tokens[0].numpy()
    assert prompts.shape == (3 * scales + 1, tokens, 3)

    def wanted(array):
        return 0.5 * freekd(array, teacher.numpy(), prompts, scales)

    value = built(context(student, teacher))["freekd"]
    value.backward()
    array = student.detach().numpy().copy()
    assert value.item() == pytest.approx(wanted(array), rel=1e-10)
    np.testing.assert_allclose(student.grad.numpy(), slope(wanted, array), rtol=1e-5, atol=1e-9)
    scalars = built.diagnose(context(student, teacher)).scalars
    assert scalars["kd/mse_ratio"] == pytest.approx(value.item() / (teacher - student).square().mean().item(), rel=1e-9)


def test_what_the_prompts_learn_from_equals_the_loops():
    teacher = maps(2, 3, 4, 8)  # sides that need no padding: what is put there is cut off again
    built = built_with_prompts([entered(3, 3)], scales=2, diversity_weight=0.5)
    prompts = built.tokens[0].requires_grad_(True)
    prepared = built.prepare(ModelOutput({"logits": teacher}, teacher))
    array = prompts.detach().numpy().copy()

    def diversity(values):
        return 0.5 * overlap(values, teacher.numpy(), 2)

    value = prepared.terms["freekd/diversity"]
    assert value.item() == pytest.approx(diversity(array), rel=1e-10)
    value.backward(retain_graph=True)
    np.testing.assert_allclose(prompts.grad.numpy(), slope(diversity, array), rtol=1e-5, atol=1e-9)

    # The transform keeps energy, so that of the replaced map is that of the masked bands.
    prompts.grad = None
    prepared.replaced["logits"].square().sum().backward()

    def energy(values):
        total = 0.0
        for image in teacher.numpy():
            for own, band in zip(values, wavelets(image, 2), strict=True):
                total += ((band * masks_of(own, band).sum(axis=0)) ** 2).sum()
        return total

    assert prepared.replaced["logits"].square().sum().item() == pytest.approx(energy(array), rel=1e-10)
    np.testing.assert_allclose(prompts.grad.numpy(), slope(energy, array), rtol=1e-5, atol=1e-6)


def test_masks_are_shown_over_the_squares_that_they_mean():
    teacher = maps(1, 3, 5, 6)
    built = built_with_prompts([entered(3, 3)], scales=2)
    shown = built.masks(context(teacher.clone(), teacher))["logits"].spatial
    assert shown.shape == (1, 7 * 2, 5, 6)
    for index, (own, band) in enumerate(zip(built.tokens[0].numpy(), wavelets(teacher[0].numpy(), 2), strict=True)):
        side = 2 if index < 3 else 4
        for t, mask in enumerate(masks_of(own, band)):
            for y in range(5):
                for x in range(6):
                    assert shown[0, 2 * index + t, y, x].item() == pytest.approx(mask[y // side, x // side])


def test_equal_maps_cost_nothing_and_zero_prompts_halve():
    student, teacher = maps(2, 3, 4, 4), maps(2, 3, 4, 4)
    built = built_with_prompts([entered(3, 3)], scales=1)
    assert built(context(teacher.clone(), teacher))["freekd"].item() == 0.0
    with torch.no_grad():
        built.tokens[0].zero_()
    plain = sum(
        np.abs(a - b).mean()
        for n in range(2)
        for a, b in zip(wavelets(student[n].numpy(), 1), wavelets(teacher[n].numpy(), 1), strict=True)
    )
    assert built(context(student, teacher))["freekd"].item() == pytest.approx(0.5 * plain / 2, rel=1e-12)


def test_prompts_learn_in_their_stage_only_and_need_a_way_on():
    built = method("freekd", [entered(4, 5)])
    assert built.pre_stage.iterations == 10_000
    assert {name for name, p in built.named_parameters() if p.requires_grad} == {
        "align.0.adapter.weight",
        "align.0.adapter.bias",
    }
    assert "tokens.0" in built.state_dict()
    with pytest.raises(CoreError) as error:
        method("freekd", [pair(3, 3)])
    assert (error.value.code, error.value.info.field) == ("method.no_way_on", "at")
    assert "freekd" in error.value.info.message
