"""The options of ACAM-KD beside the formula's own forms: number of masks, eps, blocks, sizes, start, ablations."""

import pytest
import torch

from tests.acamkd_core.methods import reference
from tests.acamkd_core.methods.helpers import context, method, pair, randomise
from tests.acamkd_core.methods.test_acam_reference import BATCH, CHANNELS, HEIGHT, STUDENT, WIDTH, expected, listed

PLAIN = {"query": "teacher", "mask_norm": "sum_sq", "diversity": "pairs", "centre": True}
DTYPES = [(torch.float64, 1e-9), (torch.float32, 1e-5)]


def maps(dtype, student=STUDENT, size=(HEIGHT, WIDTH)):
    return torch.randn(BATCH, student, *size, dtype=dtype), torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH, dtype=dtype)


def build(dtype, student=STUDENT, **options):
    built = method("acam", [pair(student, CHANNELS)], **{"masks": 3, **options})
    randomise(built)
    return built.to(dtype)


def agree(built, student, teacher, options, tolerance, **more):
    wanted = expected(built, teacher, student, {**PLAIN, **options}, **more)
    got = built(context(student, teacher))
    for term, value in wanted.items():
        assert got[f"acam/{term}"].item() == pytest.approx(value, rel=tolerance, abs=tolerance), (term, options)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("masks", [1, 2, 7])
@pytest.mark.parametrize("form", ["pairs", "printed"])
def test_any_number_of_masks(dtype, tolerance, masks, form):
    agree(build(dtype, masks=masks, diversity=form), *maps(dtype), {"diversity": form}, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("eps", [0.0, 1e-6, 0.5])
@pytest.mark.parametrize("norm", ["sum", "sum_sq"])
def test_eps_is_added_once_to_each_whole_denominator(dtype, tolerance, eps, norm):
    agree(build(dtype, eps=eps, mask_norm=norm), *maps(dtype), {"eps": eps, "mask_norm": norm}, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_a_student_map_of_another_size_is_brought_to_the_teachers(dtype, tolerance):
    """One row, spread bilinearly over two, is that row twice: the loops get it so."""
    built = build(dtype)
    narrow, teacher = maps(dtype, size=(1, WIDTH))
    wanted = expected(built, teacher, narrow.expand(-1, -1, HEIGHT, -1), PLAIN)
    got = built(context(narrow, teacher))
    for term, value in wanted.items():
        assert got[f"acam/{term}"].item() == pytest.approx(value, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("query", ["teacher", "student"])
@pytest.mark.parametrize("gradient", ["all", "units", "diversity_only"])
def test_blocks_change_neither_values_nor_gradients(query, gradient):
    """35 positions in blocks of 8, 50 and all queries an image, the last one incomplete."""
    student, teacher = torch.randn(2, 5, 5, 7).double(), torch.randn(2, 5, 5, 7).double()
    found = []
    for block in (16, 100, 4096):
        torch.manual_seed(3)
        built = method("acam", [pair(5, 5)], masks=3, query=query, mask_gradient=gradient, block=block).double()
        randomise(built)
        seen = student.clone().requires_grad_()
        terms = built(context(seen, teacher))
        sum(terms.values()).backward()
        grads = {name: p.grad for name, p in built.named_parameters()}
        found.append((terms, {"student": seen.grad, **grads}))
    for terms, gradients in found[1:]:
        for name, value in terms.items():
            torch.testing.assert_close(value, found[0][0][name], rtol=1e-12, atol=1e-13)
        for name, gradient_of in gradients.items():
            torch.testing.assert_close(gradient_of, found[0][1][name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("ablation", ["frozen", "teacher_only", "shuffle_positions", "shuffle_images", "noise"])
def test_ablations_are_the_same_loss_with_other_masks(dtype, tolerance, ablation):
    built = build(dtype, CHANNELS, ablation=ablation, weight=1.5, diversity_weight=0.25)
    student, teacher = maps(dtype, CHANNELS)
    if ablation in ("frozen", "teacher_only"):
        more = {"fusion_student": listed(teacher.flatten(2))} if ablation == "teacher_only" else {}
        wanted = expected(built, teacher, student, PLAIN, **more)
    else:
        used = built.masks(context(student, teacher))["logits"]
        spatial, channel = listed(used.spatial.flatten(2)), listed(used.channel)
        flat_teacher, flat_student = listed(teacher.flatten(2)), listed(student.flatten(2))
        wanted = dict.fromkeys(("spatial", "channel", "diversity"), 0.0)
        for n in range(BATCH):
            pairs = (flat_teacher[n], flat_student[n], "sum_sq", 1e-6)
            wanted["spatial"] += reference.spatial_loss(spatial[n], *pairs) / BATCH
            wanted["channel"] += reference.channel_loss(channel[n], *pairs) / BATCH
            for masks in (spatial[n], channel[n]):
                wanted["diversity"] += reference.diversity(masks, "pairs", 1e-6) / BATCH
        if ablation != "noise":  # what only moves masks leaves their overlap as it was
            learnt = expected(built, teacher, student, PLAIN)["diversity"]
            assert wanted["diversity"] == pytest.approx(learnt, rel=max(tolerance, 1e-9))
    got = built(context(student, teacher))
    for term, factor in (("spatial", 1.5), ("channel", 1.5), ("diversity", 0.25)):
        value = factor * wanted[term]
        assert got[f"acam/{term}"].item() == pytest.approx(value, rel=tolerance, abs=tolerance), term


def test_units_start_at_the_deviation_that_was_asked_for():
    for deviation in (0.0, 0.01, 2.0):
        units = method("acam", [pair(64, 64)], masks=64, unit_init=deviation).levels[0].units
        assert units.spatial_units.std().item() == pytest.approx(deviation, rel=0.05, abs=1e-12)
        assert units.channel_units.shape == (64, 1)
        assert units.query.weight.shape == units.key.weight.shape == (32, 64)
        assert units.key.bias is None


def test_one_channel_is_enough():
    """C_q is at least 1."""
    built = method("acam", [pair(1, 1)], masks=2).double()
    randomise(built)
    student, teacher = torch.randn(2, 1, 2, 3).double(), torch.randn(2, 1, 2, 3).double()
    wanted = expected(built, teacher, student, PLAIN)
    got = built(context(student, teacher))
    for term, value in wanted.items():
        assert got[f"acam/{term}"].item() == pytest.approx(value, rel=1e-9)
