"""Logit KD, feature MSE, alignment and the registry, against NumPy and closed forms."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from acamkd_core.methods import registry
from acamkd_core.methods.feature_mse import FeatureMSE, interpolate_ratio
from acamkd_core.spec.errors import CoreError
from tests.acamkd_core.methods.helpers import context, method, pair


def maps(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_logit_equals_numpy_and_its_gradient_the_closed_form(temperature):
    student, teacher = maps(2, 5, 3, 4).requires_grad_(), 3 * maps(2, 5, 3, 4)
    built = method("logit", [pair(5, 5)], temperature=temperature, weight=0.5)
    value = built(context(student, teacher))["logit"]
    value.backward()

    def softmax(x):
        e = np.exp(x / temperature - (x / temperature).max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    p, q = softmax(teacher.numpy()), softmax(student.detach().numpy())
    wanted = 0.5 * temperature**2 * (p * np.log(p / q)).sum(axis=1).mean()
    assert value.item() == pytest.approx(wanted, rel=1e-12)
    # d/ds of tau^2 KL is tau (q - p), over N H W of the mean.
    np.testing.assert_allclose(student.grad.numpy(), 0.5 * temperature * (q - p) / 24, rtol=1e-10, atol=1e-14)


def test_logit_does_not_grow_with_the_number_of_positions():
    student, teacher = maps(2, 5, 3, 4), maps(2, 5, 3, 4)
    built = method("logit", [pair(5, 5)])
    once = built(context(student, teacher))["logit"].item()
    twice = built(context(student.repeat(1, 1, 2, 2), teacher.repeat(1, 1, 2, 2)))["logit"].item()
    assert twice == pytest.approx(once, rel=1e-12)


def test_logit_refuses_other_classes():
    with pytest.raises(CoreError) as error:
        method("logit", [pair(5, 7)])
    assert error.value.code == "method.classes_differ"


def test_feature_mse_equals_numpy_with_and_without_an_adapter():
    student, teacher = maps(2, 4, 3, 4), maps(2, 5, 3, 4)
    built = method("feature_mse", [pair(4, 5)], weight=2.0).double()
    adapter = built.align[0].adapter
    moved = np.einsum("oi,nihw->nohw", adapter.weight.detach()[:, :, 0, 0].numpy(), student.numpy())
    moved += adapter.bias.detach().numpy()[None, :, None, None]
    wanted = 2 * ((teacher.numpy() - moved) ** 2).mean()
    assert built(context(student, teacher))["feature_mse"].item() == pytest.approx(wanted, rel=1e-12)

    equal = method("feature_mse", [pair(5, 5)])
    assert list(equal.parameters()) == []
    other = maps(2, 5, 3, 4)
    wanted = ((teacher.numpy() - other.numpy()) ** 2).mean()
    assert equal(context(other, teacher))["feature_mse"].item() == pytest.approx(wanted, rel=1e-12)


def test_levels_are_added():
    pairs = [pair(5, 5, "a"), pair(5, 5, "b")]
    student, teacher = ({"a": maps(1, 5, 2, 2), "b": maps(1, 5, 4, 4)} for _ in range(2))
    value = method("feature_mse", pairs)(context(student, teacher))["feature_mse"].item()
    assert value == pytest.approx(sum(((teacher[k] - student[k]) ** 2).mean().item() for k in "ab"), rel=1e-12)


def test_matched_scale_follows_the_recorded_series():
    ratio = ((10, 2.0), (20, 1.0), (40, 3.0))
    for step, wanted in ((0, 2.0), (10, 2.0), (15, 1.5), (20, 1.0), (25, 1.5), (40, 3.0), (99, 3.0)):
        assert interpolate_ratio(ratio, step) == wanted
    student, teacher = maps(1, 5, 2, 2), maps(1, 5, 2, 2)
    built = method("feature_mse_matched", [pair(5, 5)], ratio=ratio, weight=0.5)
    got = built(context(student, teacher, step=30))["feature_mse_matched"].item()
    assert got == pytest.approx(0.5 * 2.0 * ((teacher - student) ** 2).mean().item(), rel=1e-12)
    assert built.diagnose(context(student, teacher, step=30)).scalars == {"kd/mse_ratio": 1.0}


def test_matched_needs_a_series():
    with pytest.raises(CoreError) as error:
        method("feature_mse_matched", [pair(5, 5)], ratio_from="job:acam-0")
    assert error.value.info.field == "ratio_from"
    for wrong in ((), ((5, 1.0), (5, 2.0)), ((0, float("nan")),), ((0, -1.0),)):
        with pytest.raises(ValidationError):
            method("feature_mse_matched", [pair(5, 5)], ratio=wrong)


def test_student_maps_are_resized_and_other_levels_refused():
    ramp = torch.arange(4, dtype=torch.float64).view(1, 1, 1, 4).expand(1, 5, 2, 4)
    teacher = torch.zeros(1, 5, 4, 8, dtype=torch.float64)
    got = method("feature_mse", [pair(5, 5)])(context(ramp, teacher))["feature_mse"].item()
    # Bilinear, half-pixel centres: output i lies at (i + 0.5) / 2 - 0.5, clamped to the map.
    where = np.clip((np.arange(8) + 0.5) / 2 - 0.5, 0, 3)
    assert got == pytest.approx((where**2).mean(), rel=1e-12)
    for name in ("feature_mse", "logit", "acam"):
        with pytest.raises(CoreError) as error:
            method(name, [pair(5, 5)])(context(torch.zeros(1, 5, 2, 2), torch.zeros(1, 5, 2, 9)))
        assert error.value.code == "method.size_mismatch"


def test_registering_twice_is_an_error():
    assert {"acam", "logit", "feature_mse", "feature_mse_matched"} <= set(registry.METHODS)
    with pytest.raises(ValueError, match="twice"):
        registry.register(FeatureMSE)
