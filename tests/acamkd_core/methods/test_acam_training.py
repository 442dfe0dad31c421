"""The default lives through 2,000 steps; the letter does not. Low precision, placebos, alarms, inference mode."""

import pytest
import torch
from torch.nn import functional as F

from acamkd_core.methods.base import MaskSet
from acamkd_core.methods.mask_stats import collapsed_share, effective_rank, set_statistics
from acamkd_core.spec.errors import CoreError
from tests.acamkd_core.methods.helpers import context, method, pair, randomise


def smooth(*shape):
    count, channels, height, width = shape
    return F.interpolate(torch.randn(count, channels, height // 2, width // 2), size=(height, width), mode="bilinear")


def train(steps, **options):
    """Masks on fixed features (class scores with rare classes), with the optimizer of the paper's segmentation runs."""
    torch.manual_seed(0)
    classes, shape = 11, (2, 11, 6, 8)
    teacher = 4 * smooth(*shape) + torch.linspace(-6, 4, classes).view(1, -1, 1, 1)
    student = 0.6 * teacher + 0.4 * smooth(*shape) * teacher.std()
    built = method("acam", [pair(classes, classes)], num_classes=classes, **options)
    optimizer = torch.optim.SGD(built.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    alarms, scalars = set(), {}
    for step in range(steps):
        if step % 100 == 0 or step == steps - 1:
            found = built.diagnose(context(student, teacher, step))
            alarms |= set(found.alarms)
            scalars = found.scalars
        terms = built(context(student, teacher, step))
        optimizer.zero_grad(set_to_none=True)
        sum(terms.values()).backward()
        optimizer.step()
    return alarms, scalars


def test_two_thousand_steps_of_the_default_raise_no_alarm():
    alarms, scalars = train(2000)
    assert alarms == set()
    for kind in ("spatial", "channel"):
        assert scalars[f"mask/logits/{kind}/mean_min"] > 0.02
        assert scalars[f"mask/logits/{kind}/mean_max"] < 0.98
    # Not the trivial survival of masks that stayed at one half: they differ from each other and over positions.
    assert scalars["mask/logits/spatial/deviation"] > 0.1
    assert scalars["mask/logits/spatial/effective_rank"] > 1.2
    assert scalars["kd/mse_ratio"] > 1.0


@pytest.mark.parametrize(
    "options",
    [{"mask_norm": "sum", "mask_gradient": "all"}, {"mask_norm": "sum_sq", "mask_gradient": "diversity_only"}],
)
def test_the_letter_collapses_and_so_does_half_of_the_cure(options):
    alarms, _ = train(300, diversity="printed", centre=False, **options)
    assert "masks.collapsed" in alarms


def test_vanished_kd_terms_alarm_against_their_start():
    built = method("acam", [pair(5, 5)], mask_norm="sum", centre=False)
    student, teacher = smooth(2, 5, 6, 8), smooth(2, 5, 6, 8)
    first = built.diagnose(context(student, teacher))
    assert first.alarms == {}
    start = first.scalars["kd/mse_ratio"]
    assert start == pytest.approx(1.0, rel=0.05), "near-zero units: the sum norm gives the plain MSE"
    units = built.levels[0].units
    with torch.no_grad():
        units.value.weight.zero_()
        units.value.bias.fill_(-1.0)
        units.spatial_units.fill_(1.0)
        units.channel_units.fill_(5.0)
    later = built.diagnose(context(student, teacher, 10))
    assert set(later.alarms) == {"masks.collapsed", "kd.vanished"}
    resumed = method("acam", [pair(5, 5)], mask_norm="sum", centre=False)
    resumed.load_state_dict(built.state_dict())
    assert "kd.vanished" in resumed.diagnose(context(student, teacher, 10)).alarms, "the start survives a resume"


def test_matched_mse_has_the_loss_of_the_run_it_copies():
    built = method("acam", [pair(4, 4)], weight=3.0, levels="mean")
    student, teacher = smooth(2, 4, 6, 8), smooth(2, 4, 6, 8)
    randomise(built)
    terms = built(context(student, teacher))
    ratio = built.diagnose(context(student, teacher)).scalars["kd/mse_ratio"]
    control = method("feature_mse_matched", [pair(4, 4)], ratio=((0, ratio),))
    value = control(context(student, teacher))["feature_mse_matched"].item()
    assert value == pytest.approx((terms["acam/spatial"] + terms["acam/channel"]).item(), rel=1e-5)


@pytest.mark.parametrize("query", ["teacher", "student"])
@pytest.mark.parametrize("side", [64, pytest.param(128, marks=pytest.mark.long)])
def test_bfloat16_stays_close_to_float64_at_many_positions(query, side):
    """Under autocast, with bfloat16 maps of up to 16,384 positions: the only loss is the rounding of the inputs."""
    built = method("acam", [pair(19, 19)], num_classes=19, query=query, mask_gradient="all")
    randomise(built, 0.3)
    student, teacher = torch.randn(1, 19, side, side), torch.randn(1, 19, side, side)
    low = student.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = built(context(low, teacher.bfloat16()))
    sum(got.values()).backward()
    exact = student.double().requires_grad_()
    wanted = built.double()(context(exact, teacher.double()))
    sum(wanted.values()).backward()
    for name, value in wanted.items():
        assert got[name].dtype == torch.float32
        assert got[name].item() == pytest.approx(value.item(), rel=2e-3)
    assert F.cosine_similarity(low.grad.double().flatten(), exact.grad.flatten(), dim=0) > 0.999


def test_half_precision_does_not_overflow():
    built = method("acam", [pair(5, 5)])
    student = (300 * torch.randn(1, 5, 8, 8)).half().requires_grad_()
    terms = built(context(student, (300 * torch.randn(1, 5, 8, 8)).half()))
    assert all(torch.isfinite(value) for value in terms.values())
    assert terms["acam/spatial"].item() > torch.finfo(torch.float16).max


@pytest.mark.parametrize("name", ["acam", "logit", "feature_mse"])
def test_a_teacher_in_inference_mode_can_be_learnt_from(name):
    channels = 4 if name != "logit" else 5
    built = method(name, [pair(channels, 5)])
    student = torch.randn(2, channels, 4, 4, requires_grad=True)
    with torch.inference_mode():
        teacher = torch.randn(2, 5, 4, 4)
    sum(built(context(student, teacher)).values()).backward()
    assert student.grad.abs().max() > 0


@pytest.mark.parametrize("ablation", ["frozen", "shuffle_positions", "shuffle_images", "noise", "teacher_only"])
def test_placebos_do_what_they_say(ablation):
    torch.manual_seed(1)
    built, control = (method("acam", [pair(5, 5)], ablation=kind, mask_gradient="all") for kind in (ablation, "none"))
    randomise(built)
    control.load_state_dict(built.state_dict())
    student, teacher = torch.randn(3, 5, 4, 6, requires_grad=True), torch.randn(3, 5, 4, 6)
    plain = control.masks(context(student, teacher))["logits"].spatial
    used = built.masks(context(student, teacher, 7))["logits"].spatial
    again = built.masks(context(student, teacher, 7))["logits"].spatial
    other = built.masks(context(torch.randn_like(student), teacher, 7))["logits"].spatial
    torch.testing.assert_close(used, again, msg="a step's draw is a function of the step")
    sum(built(context(student, teacher, 7)).values()).backward()
    learns = [item.grad is not None for item in built.levels[0].units.parameters()]
    if ablation == "frozen":
        torch.testing.assert_close(used, plain)
        assert not any(learns)
    elif ablation == "shuffle_positions":
        assert not torch.allclose(used, plain)
        torch.testing.assert_close(used.flatten(2).sort(dim=2).values, plain.flatten(2).sort(dim=2).values)
        assert all(learns)
    elif ablation == "shuffle_images":
        assert all(
            not torch.allclose(used[n], plain[n]) and any(torch.allclose(used[n], plain[k]) for k in range(3))
            for n in range(3)
        )
    elif ablation == "noise":
        torch.testing.assert_close(used, other)
        assert not any(learns)
        apart = (used[..., 1:] - used[..., :-1]).abs().mean()
        assert apart < 0.8 * (used - used.flip(1)).abs().mean(), "neighbours are more alike than masks"
        assert not torch.allclose(used, built.masks(context(student, teacher, 8))["logits"].spatial)
    else:
        torch.testing.assert_close(used, other)
        assert not torch.allclose(used, plain)
        assert all(learns)


def test_statistics_of_known_masks():
    halves = torch.zeros(1, 2, 8)
    halves[0, 0, :4] = 1
    halves[0, 1, 4:] = 1
    stats = set_statistics(halves)
    assert stats["mean"] == 0.5
    assert stats["deviation"] == pytest.approx(0.5)
    assert stats["entropy"] == pytest.approx(0.0, abs=1e-5)
    assert stats["dice"] == 0.0
    assert stats["effective_rank"] == pytest.approx(2.0)
    assert stats["collapsed"] == 0.0
    assert set_statistics(torch.full((1, 2, 8), 0.5))["entropy"] == pytest.approx(1.0)
    assert effective_rank(torch.full((1, 4, 8), 0.5)) == pytest.approx(1.0)
    assert collapsed_share(torch.tensor([[[0.0, 0.0], [1.0, 1.0], [0.5, 0.5], [0.019, 0.019]]])) == 0.75
    assert collapsed_share(torch.full((1, 2, 2), float("nan"))) == 1.0


def test_number_of_masks_and_their_shapes():
    pairs = [pair(7, 7), pair(8, 6, "c5", "layer4")]
    built = method("acam", pairs, num_classes=7)
    student = {"logits": torch.randn(2, 7, 4, 6), "c5": torch.randn(2, 8, 2, 3)}
    teacher = {"logits": torch.randn(2, 7, 4, 6), "layer4": torch.randn(2, 6, 4, 6)}
    found = built.masks(context(student, teacher))
    assert isinstance(found["logits"], MaskSet)
    assert found["logits"].spatial.shape == (2, 7, 4, 6)
    assert found["logits"].channel.shape == (2, 7, 7)
    assert found["c5"].spatial.shape == (2, 6, 4, 6)
    assert found["c5"].channel.shape == (2, 6, 6)
    only = method("acam", [pair(7, 7)], num_classes=7, spatial=False, masks=2)
    got = only.masks(context(student, teacher))["logits"]
    assert got.spatial is None
    assert got.channel.shape == (2, 2, 7)
    with pytest.raises(CoreError, match="no loss"):
        method("acam", [pair(7, 7)], spatial=False, channel=False)
