"""CWD, PKD and MGD against loops in float64: values, gradients, and what each method promises not to care about."""

import numpy as np
import pytest
import torch

from acamkd_core.methods.mgd import keep_mask
from acamkd_core.spec.errors import CoreError
from tests.acamkd_core.methods import competitors_reference as reference
from tests.acamkd_core.methods.helpers import context, method, pair


def maps(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def check(built, name, student, teacher, wanted, ctx=context):
    """Value and gradient of one term against a function of a NumPy student."""
    value = built(ctx(student, teacher))[name]
    value.backward()
    array = student.detach().numpy().copy()
    assert value.item() == pytest.approx(wanted(array), rel=1e-10)
    np.testing.assert_allclose(student.grad.numpy(), reference.slope(wanted, array), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_cwd_equals_the_loops(temperature):
    student, teacher = maps(2, 3, 2, 4).requires_grad_(), 3 * maps(2, 3, 2, 4)
    built = method("cwd", [pair(3, 3)], temperature=temperature, weight=0.5)
    check(built, "cwd", student, teacher, lambda s: 0.5 * reference.cwd(s, teacher.numpy(), temperature))


def test_cwd_ignores_a_channels_offset_and_is_zero_for_the_teacher():
    student, teacher = maps(2, 3, 2, 4), maps(2, 3, 2, 4)
    built = method("cwd", [pair(3, 3)])
    once = built(context(student, teacher))["cwd"].item()
    assert once > 0
    moved = student + maps(2, 3, 1, 1)
    assert built(context(moved, teacher))["cwd"].item() == pytest.approx(once, rel=1e-10)
    assert built(context(teacher + 1, teacher))["cwd"].item() == pytest.approx(0, abs=1e-12)


def test_pkd_equals_one_minus_pearson():
    student, teacher = maps(2, 3, 2, 4).requires_grad_(), 3 * maps(2, 3, 2, 4) + 1
    built = method("pkd", [pair(3, 3)], weight=0.5, eps=0.0)
    check(built, "pkd", student, teacher, lambda s: 0.5 * reference.pkd(s, teacher.numpy()))


def test_pkd_ignores_scale_and_offset_and_bears_constant_channels():
    student, teacher = maps(2, 3, 2, 4), maps(2, 3, 2, 4)
    built = method("pkd", [pair(3, 3)], eps=0.0)
    once = built(context(student, teacher))["pkd"].item()
    scale, offset = maps(1, 3, 1, 1).abs() + 0.1, maps(1, 3, 1, 1)
    assert built(context(student * scale + offset, teacher))["pkd"].item() == pytest.approx(once, rel=1e-9)
    # A flat channel becomes 0: what is left is half the teacher's variance, which is 1.
    flat = torch.full((2, 3, 2, 4), 7.0, requires_grad=True)
    value = method("pkd", [pair(3, 3)])(context(flat, teacher.float()))["pkd"]
    value.backward()
    assert value.item() == pytest.approx(6 * 0.5, rel=1e-4)
    assert bool(torch.isfinite(flat.grad).all())


def mgd_context(student, teacher):
    return context(student, teacher, generator=torch.Generator().manual_seed(7))


def test_mgd_equals_the_loops():
    student, teacher = maps(2, 3, 3, 4).requires_grad_(), maps(2, 3, 3, 4)
    built = method("mgd", [pair(3, 3)], weight=0.5, mask_ratio=0.4).double()
    first, second = (
        (layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in built.levels[0].generate[::2]
    )
    keep = keep_mask(teacher.shape, 0.4, torch.Generator().manual_seed(7)).numpy()[:, 0]
    assert 0 < keep.sum() < keep.size, "some positions are hidden, some are not"
    check(
        built,
        "mgd",
        student,
        teacher,
        lambda s: 0.5 * reference.mgd(s, teacher.numpy(), keep, first, second),
        ctx=mgd_context,
    )
    hidden = torch.from_numpy(keep == 0).unsqueeze(1).expand_as(student)
    assert float(student.grad[hidden].abs().max()) == 0.0, "a hidden position teaches nothing"
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in built.parameters())


def test_mgd_hides_the_asked_share_from_the_steps_generator_alone():
    shape = torch.Size((8, 3, 50, 50))
    keep = keep_mask(shape, 0.75, torch.Generator().manual_seed(0))
    # 20,000 draws: the standard error of the share is 0.003.
    assert float(keep.mean()) == pytest.approx(0.25, abs=0.012)
    assert keep_mask(shape, 0.0, torch.Generator()).min() == 1
    built = method("mgd", [pair(3, 3)], weight=1.0)
    student, teacher = maps(2, 3, 6, 6).float(), maps(2, 3, 6, 6).float()
    values = []
    for seed, noise in ((7, 1), (7, 2), (8, 1)):
        torch.manual_seed(noise)
        values.append(built(context(student, teacher, generator=torch.Generator().manual_seed(seed)))["mgd"].item())
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("name", ["cwd", "pkd", "mgd"])
def test_they_adapt_channels_resize_and_refuse_far_sizes(name):
    built = method(name, [pair(4, 6, "a"), pair(3, 3, "b")], weight=1.0)
    assert built.state_dict().keys() >= {
        f"{'levels.0.align' if name == 'mgd' else 'align.0'}.adapter.{part}" for part in ("weight", "bias")
    }
    student = {"a": torch.randn(2, 4, 3, 4, requires_grad=True), "b": torch.randn(2, 3, 3, 4, requires_grad=True)}
    teacher = {"a": torch.randn(2, 6, 6, 8, requires_grad=True), "b": torch.randn(2, 3, 3, 4)}
    built(context(student, teacher, generator=torch.Generator().manual_seed(1)))[name].backward()
    assert all(float(one.grad.abs().sum()) > 0 for one in student.values())
    assert teacher["a"].grad is None
    with pytest.raises(CoreError) as error:
        method(name, [pair(3, 3)])(context(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 9)))
    assert error.value.code == "method.size_mismatch"


@pytest.mark.parametrize("name", ["cwd", "pkd"])
def test_levels_are_added(name):
    student, teacher = ({"a": maps(2, 3, 2, 4), "b": maps(2, 5, 3, 3)} for _ in range(2))
    both = method(name, [pair(3, 3, "a"), pair(5, 5, "b")])(context(student, teacher))[name].item()
    alone = [
        method(name, [pair(c, c, level)])(context(student, teacher))[name].item() for c, level in ((3, "a"), (5, "b"))
    ]
    assert both == pytest.approx(sum(alone), rel=1e-12)


@pytest.mark.parametrize("name", ["cwd", "pkd", "mgd"])
def test_bfloat16_under_autocast_is_computed_in_full_precision(name):
    student, teacher = torch.randn(2, 5, 6, 8).bfloat16(), torch.randn(2, 5, 6, 8).bfloat16()
    torch.manual_seed(1)
    built = method(name, [pair(5, 5)])
    generators = (torch.Generator().manual_seed(3), torch.Generator().manual_seed(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = built(context(student, teacher, generator=generators[0]))[name]
    wanted = built.double()(context(student.double(), teacher.double(), generator=generators[1]))[name]
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(wanted.item(), rel=1e-4)
