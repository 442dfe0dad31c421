"""MasKD against loops in float64: masks, loss, gradient, the tokens' own losses; refusals; what it shows of its masks."""

import dataclasses

import numpy as np
import pytest
import torch

from acamkd_core.models.base import ModelOutput
from acamkd_core.spec.errors import CoreError
from tests.acamkd_core.methods import competitors_reference as reference
from tests.acamkd_core.methods.helpers import context, method, pair


def maps(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def entered(student, teacher, name="logits", teacher_name=None):
    """A pair whose teacher can go on from its level."""
    made = pair(student, teacher, name, teacher_name)
    return dataclasses.replace(made, teacher=dataclasses.replace(made.teacher, onward=True))


def built_with_tokens(pairs, **options):
    built = method("maskd", pairs, **options).double()
    with torch.no_grad():
        for tokens in built.tokens:
            tokens.copy_(torch.randn_like(tokens))
    return built


def test_loss_and_gradient_equal_the_loops():
    student, teacher = maps(2, 3, 2, 4).requires_grad_(), maps(2, 3, 2, 4)
    built = built_with_tokens([entered(3, 3)], weight=0.5, tokens=4, eps=0.1)
    masks = reference.token_masks(built.tokens[0].numpy(), teacher.numpy())
    shown = built.masks(context(student, teacher))["logits"]
    np.testing.assert_allclose(shown.spatial.flatten(2).numpy(), masks, rtol=1e-12)
    assert shown.spatial.shape == (2, 4, 2, 4)

    def wanted(array):
        return 0.5 * reference.maskd(array, teacher.numpy(), masks, 0.1)

    value = built(context(student, teacher))["maskd"]
    value.backward()
    array = student.detach().numpy().copy()
    assert value.item() == pytest.approx(wanted(array), rel=1e-10)
    np.testing.assert_allclose(student.grad.numpy(), reference.slope(wanted, array), rtol=1e-5, atol=1e-9)
    scalars = built.diagnose(context(student, teacher)).scalars
    assert scalars["kd/mse_ratio"] == pytest.approx(value.item() / (teacher - student).square().mean().item(), rel=1e-9)
    assert scalars["mask/logits/spatial/mean"] == pytest.approx(masks.mean(), rel=1e-9)


def test_what_the_tokens_learn_from_equals_the_loops():
    teacher = maps(2, 3, 2, 4)
    built = built_with_tokens([entered(3, 3)], tokens=4, diversity_weight=0.5, eps=0.1)
    tokens = built.tokens[0].requires_grad_(True)
    prepared = built.prepare(ModelOutput({"logits": teacher}, teacher))
    array = tokens.detach().numpy().copy()
    masks = reference.token_masks(array, teacher.numpy())
    total = masks.sum(axis=1).reshape(2, 1, 2, 4)
    np.testing.assert_allclose(prepared.replaced["logits"].detach().numpy(), teacher.numpy() * total, rtol=1e-12)

    def diversity(values):
        return 0.5 * reference.token_diversity(values, teacher.numpy(), 0.1)

    value = prepared.terms["maskd/diversity"]
    assert value.item() == pytest.approx(diversity(array), rel=1e-10)
    value.backward(retain_graph=True)
    np.testing.assert_allclose(tokens.grad.numpy(), reference.slope(diversity, array), rtol=1e-5, atol=1e-9)

    tokens.grad = None
    prepared.replaced["logits"].square().sum().backward()

    def energy(values):
        total = reference.token_masks(values, teacher.numpy()).sum(axis=1).reshape(2, 1, 2, 4)
        return ((teacher.numpy() * total) ** 2).sum()

    np.testing.assert_allclose(tokens.grad.numpy(), reference.slope(energy, array), rtol=1e-5, atol=1e-6)


def test_zero_tokens_give_half_the_mse():
    student, teacher = maps(2, 3, 2, 4), maps(2, 3, 2, 4)
    built = built_with_tokens([entered(3, 3)], weight=1.0, eps=0.0)
    with torch.no_grad():
        built.tokens[0].zero_()
    wanted = 0.5 * ((teacher - student) ** 2).mean().item()
    assert built(context(student, teacher))["maskd"].item() == pytest.approx(wanted, rel=1e-12)


def test_number_of_tokens_and_a_single_one():
    assert method("maskd", [entered(3, 3)]).tokens[0].shape == (8, 3)
    assert method("maskd", [entered(3, 5, "c4")]).tokens[0].shape == (6, 5)
    single = method("maskd", [entered(3, 3)], tokens=1)
    teacher = torch.randn(2, 3, 2, 4)
    assert single.prepare(ModelOutput({"logits": teacher}, teacher)).terms == {}


def test_tokens_learn_in_their_stage_only():
    built = method("maskd", [entered(4, 5)])
    assert built.pre_stage.iterations == 10_000
    assert {name for name, p in built.named_parameters() if p.requires_grad} == {
        "align.0.adapter.weight",
        "align.0.adapter.bias",
    }
    student, teacher = torch.randn(2, 4, 2, 4), torch.randn(2, 5, 2, 4)
    built(context(student, teacher))["maskd"].backward()
    assert built.tokens[0].grad is None
    assert "tokens.0" in built.state_dict()


def test_refusals():
    with pytest.raises(CoreError) as error:
        method("maskd", [pair(3, 3)])
    assert (error.value.code, error.value.info.field) == ("method.no_way_on", "at")
    with pytest.raises(CoreError) as error:
        method("maskd", [entered(3, 3, "c4", "c5"), entered(3, 3, "c5", "c5")])
    assert error.value.code == "method.level_twice"
