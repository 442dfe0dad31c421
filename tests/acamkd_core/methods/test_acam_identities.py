"""What must hold for ACAM-KD whatever the weights: closed forms, symmetries, and MasKD as a special case."""

import pytest
import torch

from acamkd_core.methods.acam_losses import channel_loss, diversity_loss, spatial_loss
from acamkd_core.methods.acam_masks import SelectionUnits
from tests.acamkd_core.methods.helpers import context, method, pair, randomise

LOSSES = {"spatial": spatial_loss, "channel": channel_loss}


def maps(*shape, requires_grad=False):
    return torch.randn(*shape, dtype=torch.float64).requires_grad_(requires_grad)


def acam(channels=5, **options):
    built = method("acam", [pair(channels, channels)], num_classes=channels, **{"eps": 0.0, **options}).double()
    randomise(built)
    return built


@pytest.mark.parametrize("gradient", ["all", "units", "diversity_only"])
@pytest.mark.parametrize(("norm", "factor"), [("sum_sq", 2.0), ("sum", 1.0)])
def test_units_at_zero_are_plain_mse(norm, factor, gradient):
    student, teacher = maps(2, 5, 3, 4, requires_grad=True), maps(2, 5, 3, 4)
    for form, diversity in (("pairs", 1.0), ("printed", 4.0)):
        built = acam(unit_init=0.0, mask_norm=norm, mask_gradient=gradient, diversity=form)
        with torch.no_grad():
            built.levels[0].units.spatial_units.zero_()
            built.levels[0].units.channel_units.zero_()
        terms = built(context(student, teacher))
        kd = terms["acam/spatial"] + terms["acam/channel"]
        mse = ((teacher - student) ** 2).mean()
        assert kd.item() == pytest.approx(factor * mse.item(), rel=1e-12)
        assert terms["acam/diversity"].item() == pytest.approx(2 * diversity, rel=1e-12)
        (mine,) = torch.autograd.grad(kd, student, retain_graph=True)
        (plain,) = torch.autograd.grad(factor * mse, student)
        torch.testing.assert_close(mine, plain, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("gradient", ["all", "units", "diversity_only"])
def test_equal_features_have_no_loss_and_no_gradient(gradient):
    teacher = maps(2, 5, 3, 4)
    student = teacher.clone().requires_grad_()
    terms = acam(mask_gradient=gradient)(context(student, teacher))
    assert terms["acam/spatial"].item() == 0.0
    assert terms["acam/channel"].item() == 0.0
    (moved,) = torch.autograd.grad(sum(terms.values()), student)
    if gradient == "all":
        assert moved.abs().max() > 1e-6, "under `all` L_div reaches the student"
    else:
        assert moved.abs().max() == 0.0


@pytest.mark.parametrize("centre", [True, False])
def test_attention_has_no_positional_code(centre):
    built = acam(centre=centre)
    student, teacher = maps(2, 5, 3, 4), maps(2, 5, 3, 4)
    order = torch.randperm(12)

    def permuted(tensor):
        return tensor.flatten(2)[:, :, order].unflatten(2, (3, 4))

    base = built.masks(context(student, teacher))["logits"]
    alone = built.masks(context(permuted(student), teacher))["logits"]
    both = built.masks(context(permuted(student), permuted(teacher)))["logits"]
    close = {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(alone.spatial, base.spatial, **close)
    torch.testing.assert_close(alone.channel, base.channel, **close)
    torch.testing.assert_close(both.spatial, permuted(base.spatial), **close)
    torch.testing.assert_close(both.channel, base.channel, **close)
    before = built(context(student, teacher))
    after = built(context(permuted(student), permuted(teacher)))
    for name, value in before.items():
        assert after[name].item() == pytest.approx(value.item(), rel=1e-10)


@pytest.mark.parametrize("kind", ["spatial", "channel"])
def test_a_common_factor_on_all_masks(kind):
    masks, difference = torch.rand(2, 3, 12 if kind == "spatial" else 5).double(), maps(2, 5, 12)
    loss = LOSSES[kind]
    for factor in (0.5, 1e-3):
        for norm, expected in (("sum", factor), ("sum_sq", 1.0)):
            base = loss(masks, difference, norm=norm, eps=0.0)
            scaled = loss(factor * masks, difference, norm=norm, eps=0.0)
            assert (scaled / base).item() == pytest.approx(expected, rel=1e-10)
        for form in ("pairs", "printed"):
            ratio = diversity_loss(factor * masks, form=form, eps=0.0) / diversity_loss(masks, form=form, eps=0.0)
            assert ratio.item() == pytest.approx(1.0, rel=1e-10)


def test_with_identity_attention_and_a_teacher_value_it_is_maskd():
    """Huge orthogonal teacher columns make the softmax an exact identity; MasKD's loss is written out below."""
    positions, masks = 4, 3
    teacher = 40.0 * torch.eye(positions).double().unsqueeze(0)
    student = maps(1, positions, positions)
    units = SelectionUnits(positions, masks, centre=False).double()
    with torch.no_grad():
        # Full-rank keys need C_q = C, wider than the module's C / 2: projections of our own.
        units.query = torch.nn.Linear(positions, positions, bias=False).double()
        units.key = torch.nn.Linear(positions, positions, bias=False).double()
        for layer in (units.query, units.key, units.value):
            layer.weight.copy_(torch.eye(positions))
        units.value.bias.zero_()
        units.spatial_units.copy_(0.02 * torch.randn(masks, positions))
    got = units(teacher, teacher)
    tokens = units.spatial_units
    mask = torch.sigmoid(tokens @ teacher[0])
    torch.testing.assert_close(got.spatial[0], mask, rtol=1e-12, atol=1e-12)

    total = 0.0
    for m in range(masks):
        for c in range(positions):
            weighted = (mask[m] * (student[0, c] - teacher[0, c])) ** 2
            total += (weighted.sum() / mask[m].sum()).item()
    maskd = total / (masks * positions)
    loss = spatial_loss(got.spatial, teacher - student, norm="sum", eps=0.0)
    assert loss.item() == pytest.approx(maskd, rel=1e-12)


@pytest.mark.parametrize("form", ["pairs", "printed"])
def test_empty_masks_are_finite(form):
    masks = torch.zeros(2, 3, 12, requires_grad=True)
    total = diversity_loss(masks, form=form, eps=1e-6)
    for norm in ("sum", "sum_sq"):
        total = total + spatial_loss(masks, torch.randn(2, 5, 12), norm=norm, eps=1e-6)
    total.backward()
    assert total.item() == 0.0
    assert torch.isfinite(masks.grad).all()
    assert diversity_loss(torch.rand(2, 1, 12), form=form, eps=1e-6).item() == 0.0, "one mask has no pair"


def test_channel_masks_are_rank_one_before_the_sigmoid():
    found = acam(channels=9).masks(context(maps(2, 9, 3, 4), maps(2, 9, 3, 4)))["logits"]
    scores = torch.logit(found.channel)
    values = torch.linalg.svdvals(scores)
    assert (values[:, 1:] / values[:, :1]).max() < 1e-9


def test_masks_belong_to_one_image_alone():
    built, student, teacher = acam(), maps(3, 5, 3, 4), maps(3, 5, 3, 4)
    together = built.masks(context(student, teacher))["logits"]
    for n in range(3):
        alone = built.masks(context(student[n : n + 1], teacher[n : n + 1]))["logits"]
        torch.testing.assert_close(alone.spatial[0], together.spatial[n], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(alone.channel[0], together.channel[n], rtol=1e-12, atol=1e-12)


def test_centred_masks_cannot_be_constant_but_at_one_half():
    built = acam()
    with torch.no_grad():
        built.levels[0].units.value.bias.fill_(100.0)
    flat = torch.ones(2, 5, 3, 4).double()
    found = built.masks(context(flat, maps(2, 5, 3, 4)))["logits"]
    torch.testing.assert_close(found.spatial, torch.full_like(found.spatial, 0.5), rtol=1e-9, atol=1e-9)
