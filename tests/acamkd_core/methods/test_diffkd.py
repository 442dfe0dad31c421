"""DiffKD against loops in float64: the schedule, every network, all three losses, who learns from what."""

import math

import numpy as np
import pytest
import torch

from acamkd_core.methods.diffkd import denoising_times
from acamkd_core.spec.errors import CoreError
from tests.acamkd_core.methods import layers_reference as layers
from tests.acamkd_core.methods.competitors_reference import slope
from tests.acamkd_core.methods.helpers import context, method, pair, randomise

TIMES = 1000


def maps(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def alpha_at(time):
    product = 1.0
    for t in range(time + 1):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * t / (TIMES - 1))
    return product


def sequence(value, block):
    for layer in block:
        if isinstance(layer, torch.nn.Conv2d):
            value = layers.convolve(value, layer)
        elif isinstance(layer, torch.nn.BatchNorm2d):
            value = layers.batch_norm(value, layer)
        elif isinstance(layer, torch.nn.ReLU):
            value = np.maximum(value, 0)
        else:
            value = value + sequence(value, layer.block)
    return value


def predict_noise(noisy, times, model):
    moved = noisy.copy()
    for n, time in enumerate(times):
        moved[n] += model.time.weight[time].detach().numpy()[:, None, None]
    return sequence(moved, model.predict)


def draws(teacher, latent):
    """What the step's generator gives, in order: noise on the student, times, noise on the teacher."""
    generator = torch.Generator().manual_seed(7)
    shape = (teacher.shape[0], latent, *teacher.shape[2:])
    first = torch.randn(shape, generator=generator).double().numpy()
    times = torch.randint(TIMES, (teacher.shape[0],), generator=generator).tolist()
    return first, times, torch.randn(shape, generator=generator).double().numpy()


def diffkd(student, teacher, level, steps):
    """(kd, diffusion, autoencoder)"""
    found = [0.0, 0.0, 0.0]
    target = teacher
    if level.encode is not None:
        target = sequence(teacher, level.encode)
        found[2] = ((teacher - layers.convolve(target, level.decode)) ** 2).mean()
    noise, times, other_noise = draws(teacher, target.shape[1])
    own = layers.convolve(student, level.enter)
    adapted = own + sequence(own, level.adapter.block)
    noisy = np.zeros_like(own)
    weight, bias = level.keep.weight.detach().numpy(), level.keep.bias.detach().numpy()
    for n in range(len(own)):
        mean = adapted[n].mean(axis=(1, 2))
        scores = [sum(w * m for w, m in zip(row, mean, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        share = math.exp(scores[0]) / (math.exp(scores[0]) + math.exp(scores[1]))
        noisy[n] = share * own[n] + (1 - share) * noise[n]
    stride = TIMES // (2 * steps)
    for step in reversed(range(steps)):
        now, after = alpha_at(step * stride), 1.0 if step == 0 else alpha_at((step - 1) * stride)
        predicted = predict_noise(noisy, [step * stride] * len(noisy), level.noise)
        clean = (noisy - math.sqrt(1 - now) * predicted) / math.sqrt(now)
        noisy = math.sqrt(after) * clean + math.sqrt(1 - after) * predicted
    found[0] = ((target - layers.convolve(noisy, level.leave)) ** 2).mean()
    mixed = np.zeros_like(target)
    for n, time in enumerate(times):
        mixed[n] = math.sqrt(alpha_at(time)) * target[n] + math.sqrt(1 - alpha_at(time)) * other_noise[n]
    found[1] = ((other_noise - predict_noise(mixed, times, level.noise)) ** 2).mean()
    return found


def seeded(student, teacher):
    return context(student, teacher, generator=torch.Generator().manual_seed(7))


WEIGHTS = {"weight": 2.0, "diffusion_weight": 0.5, "autoencoder_weight": 0.25}


@pytest.mark.parametrize(
    ("channels", "latent", "steps", "size"), [((3, 8), 4, 2, (2, 3)), ((4, 4), None, 1, (2, 2)), ((2, 2), 3, 3, (1, 3))]
)
def test_all_losses_and_the_students_gradient_equal_the_loops(channels, latent, steps, size):
    student, teacher = maps(2, channels[0], *size).requires_grad_(), maps(2, channels[1], *size)
    built = method("diffkd", [pair(*channels)], latent=latent, steps=steps, **WEIGHTS).double()
    randomise(built, 0.5)
    level = built.levels[0]
    terms = built(seeded(student, teacher))
    names = ["diffkd", "diffkd/diffusion", *(["diffkd/autoencoder"] if latent else [])]
    assert list(terms) == names
    array = student.detach().numpy().copy()

    def wanted(values):
        return [f * v for f, v in zip(WEIGHTS.values(), diffkd(values, teacher.numpy(), level, steps), strict=True)]

    np.testing.assert_allclose([terms[name].item() for name in names], wanted(array)[: len(names)], rtol=1e-9)
    sum(terms.values()).backward()
    gradient = slope(lambda values: wanted(values)[0], array)
    np.testing.assert_allclose(student.grad.numpy(), gradient, rtol=1e-4, atol=1e-7)


def test_the_authors_times():
    assert denoising_times(5) == [400, 300, 200, 100, 0]
    assert denoising_times(1) == [0]


def test_who_learns_from_what():
    """The diffusion loss and the autoencoder's never reach the student; only its own loss trains the autoencoder."""
    built = method("diffkd", [pair(3, 4)], latent=2)
    student, teacher = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 4, 4, 4)
    reached = {}
    for name in ("diffkd", "diffkd/diffusion", "diffkd/autoencoder"):
        built.zero_grad(set_to_none=True)
        student.grad = None
        built(seeded(student, teacher))[name].backward()
        parts = {key.split(".")[2] for key, p in built.named_parameters() if p.grad is not None}
        reached[name] = parts | ({"student"} if student.grad is not None else set())
    assert reached["diffkd"] == {"enter", "noise", "adapter", "keep", "leave", "student"}
    assert reached["diffkd/diffusion"] == {"noise"}
    assert reached["diffkd/autoencoder"] == {"encode", "decode"}


def test_latent_channels_follow_the_level_unless_given():
    features = method("diffkd", [pair(3, 8, "c5")])
    assert features.levels[0].encode[0].weight.shape == (4, 8, 1, 1)
    assert method("diffkd", [pair(5, 5)]).levels[0].encode is None
    assert method("diffkd", [pair(5, 5)], latent=2).levels[0].encode[0].weight.shape[0] == 2


def test_noise_comes_from_the_steps_generator_alone():
    built = method("diffkd", [pair(4, 4)])
    student, teacher = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 4, 4)
    values = []
    for seed, noise in ((7, 1), (7, 2), (8, 1)):
        torch.manual_seed(noise)
        made = context(student, teacher, generator=torch.Generator().manual_seed(seed))
        values.append([value.item() for value in built(made).values()])
    assert values[0] == values[1]
    assert values[0] != values[2]


def test_a_single_value_is_refused_and_bfloat16_widened():
    built = method("diffkd", [pair(4, 4)])
    with pytest.raises(CoreError) as error:
        built(seeded(torch.randn(1, 4, 1, 1), torch.randn(1, 4, 1, 1)))
    assert (error.value.code, error.value.info.field) == ("method.one_value", "at")
    student, teacher = torch.randn(2, 4, 6, 8).bfloat16(), torch.randn(2, 4, 6, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = built(seeded(student, teacher))
    wanted = built(seeded(student.float(), teacher.float()))
    assert all(value.dtype == torch.float32 for value in got.values())
    assert [value.item() for value in got.values()] == pytest.approx(
        [value.item() for value in wanted.values()], rel=1e-5
    )


def test_the_diffusion_model_learns_to_see_noise():
    """Its loss starts near the noise's variance (1) or above, and falls: the teacher's maps have a pattern to learn."""
    built = method("diffkd", [pair(4, 4)])
    teacher = torch.linspace(-1, 1, 64).view(1, 1, 8, 8) * torch.tensor([1.0, -2.0, 3.0, -4.0]).view(1, 4, 1, 1)
    teacher, optimizer = teacher.expand(8, 4, 8, 8), torch.optim.SGD(built.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for step in range(120):
        made = context(torch.zeros(8, 4, 8, 8), teacher, generator=torch.Generator().manual_seed(step))
        terms = built(made)
        optimizer.zero_grad(set_to_none=True)
        terms["diffkd/diffusion"].backward()
        optimizer.step()
        losses.append(terms["diffkd/diffusion"].item())
    assert sum(losses[-20:]) < 0.7 * sum(losses[:20])
