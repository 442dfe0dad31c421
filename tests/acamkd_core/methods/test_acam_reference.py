"""ACAM-KD's values and gradients against loops over Python floats, for all options."""

import itertools

import pytest
import torch

from tests.acamkd_core.methods import reference
from tests.acamkd_core.methods.helpers import context, method, pair, randomise

BATCH, STUDENT, CHANNELS, HEIGHT, WIDTH, MASKS = 2, 4, 5, 2, 3, 3
VALUES = {
    "query": ("teacher", "student"),
    "sets": ((True, True), (True, False), (False, True)),
    "mask_norm": ("sum", "sum_sq"),
    "diversity": ("pairs", "printed"),
    "projection_bias": (True, False),
    "centre": (True, False),
}
ALL = [dict(zip(VALUES, row, strict=True)) for row in itertools.product(*VALUES.values())]


def build(options, student_channels, dtype, **more):
    chosen = dict(options)
    spatial, channel = chosen.pop("sets")
    built = method(
        "acam", [pair(student_channels, CHANNELS)], masks=MASKS, spatial=spatial, channel=channel, **chosen, **more
    )
    randomise(built)
    return built.to(dtype)


def listed(tensor):
    return None if tensor is None else tensor.detach().double().tolist()


def parameters_of(built):
    units = built.levels[0].units
    return {
        "wq": listed(units.query.weight),
        "bq": listed(units.query.bias),
        "wk": listed(units.key.weight),
        "wv": listed(units.value.weight),
        "bv": listed(units.value.bias),
        "ms": listed(units.spatial_units),
        "mc": listed(units.channel_units),
    }


def aligned(built, student):
    adapter = built.levels[0].align.adapter
    flat = listed(student.flatten(2))
    if adapter is None:
        return flat
    weight, bias = listed(adapter.weight.flatten(1)), listed(adapter.bias)
    return [reference.project(weight, bias, image) for image in flat]


def expected(built, teacher, student, options, **more):
    return reference.losses(
        parameters_of(built), listed(teacher.flatten(2)), aligned(built, student), {"eps": 1e-6, **options}, **more
    )


def test_options_cover_everything():
    assert len(ALL) == 96
    assert CHANNELS // 2 == 2, "an odd number of channels: C_q is the floor"


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_values_equal_the_loops(dtype, tolerance):
    for number, options in enumerate(ALL):
        torch.manual_seed(number)
        student_channels = STUDENT if number % 2 else CHANNELS
        built = build(options, student_channels, dtype, weight=1.5, diversity_weight=0.25)
        teacher = torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH, dtype=dtype)
        student = torch.randn(BATCH, student_channels, HEIGHT, WIDTH, dtype=dtype)
        wanted = expected(built, teacher, student, options)
        spatial, channel = options["sets"]
        names = ["acam/diversity"] + ["acam/spatial"] * spatial + ["acam/channel"] * channel
        for gradient in ("all", "units", "diversity_only"):  # who learns from what changes no value
            built.levels[0].options.mask_gradient = gradient
            got = built(context(student, teacher))
            assert sorted(got) == sorted(names)
            for name, value in got.items():
                term = name.removeprefix("acam/")
                factor = 0.25 if term == "diversity" else 1.5
                error = abs(value.item() - factor * wanted[term]) / max(1.0, abs(factor * wanted[term]))
                assert error < tolerance, (options, gradient, name, value.item(), factor * wanted[term])


def test_levels_add_up_and_average():
    maps = {name: torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH).double() for name in ("p3", "p4")}
    others = {name: torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH).double() for name in ("p3", "p4")}
    pairs = [pair(CHANNELS, CHANNELS, name) for name in maps]
    options = {"query": "teacher", "mask_norm": "sum_sq", "diversity": "pairs", "centre": True}
    for levels, factor in (("sum", 1.0), ("mean", 0.5)):
        built = method("acam", pairs, levels=levels).double()
        assert [level.units.spatial_units.shape[0] for level in built.levels] == [6, 6]
        randomise(built)
        total = dict.fromkeys(("spatial", "channel", "diversity"), 0.0)
        for level, name in zip(built.levels, maps, strict=True):
            holder = torch.nn.Module()
            holder.levels = [level]
            for term, value in expected(holder, others[name], maps[name], options).items():
                total[term] += factor * value
        got = built(context(maps, others))
        for term, value in total.items():
            assert got[f"acam/{term}"].item() == pytest.approx(value, rel=1e-9)


GRADIENTS = list(
    itertools.product(
        ("all", "units", "diversity_only"),
        ("teacher", "student"),
        ("sum", "sum_sq"),
        ("pairs", "printed"),
        (True, False),
    )
)


@pytest.mark.parametrize("mask_gradient", ["all", "units", "diversity_only"])
def test_gradients_equal_difference_quotients(mask_gradient):
    """Every tensor along a random direction, by central differences through the loops with the right things held fixed."""
    step = 1e-5
    for number, (gradient, query, norm, form, centre) in enumerate(GRADIENTS):
        if gradient != mask_gradient:
            continue
        torch.manual_seed(number)
        sets = VALUES["sets"][number % 3]
        options = {"query": query, "mask_norm": norm, "diversity": form, "centre": centre, "sets": sets}
        built = build(
            {**options, "projection_bias": bool(number // 3 % 2)},
            STUDENT,
            torch.float64,
            mask_gradient=gradient,
            weight=1.5,
            diversity_weight=2.0,
        )
        teacher = torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH).double()
        student = torch.randn(BATCH, STUDENT, HEIGHT, WIDTH).double().requires_grad_()
        sum(built(context(student, teacher)).values()).backward()

        start = aligned(built, student)
        held = {} if gradient == "all" else {"fusion_student": start}
        flat_teacher = listed(teacher.flatten(2))
        if gradient == "diversity_only":
            fixed = parameters_of(built)
            held["kd_masks"] = [
                reference.masks_of(fixed, flat_teacher[n], start[n], query, centre) for n in range(BATCH)
            ]

        def total(built=built, teacher=teacher, student=student, options=options, held=held):
            terms = expected(built, teacher, student, options, **held)
            return 1.5 * (terms["spatial"] + terms["channel"]) + 2.0 * terms["diversity"]

        tensors = {"student": student, **dict(built.named_parameters())}
        for name, tensor in tensors.items():
            direction = torch.randn_like(tensor)
            analytic = 0.0 if tensor.grad is None else float((tensor.grad * direction).sum())
            with torch.no_grad():
                tensor += step * direction
                above = total()
                tensor -= 2 * step * direction
                below = total()
                tensor += step * direction
            numeric = (above - below) / (2 * step)
            assert analytic == pytest.approx(numeric, rel=1e-5, abs=1e-7), (name, gradient, options)


def test_gradcheck_of_the_attention_in_blocks():
    from acamkd_core.methods.acam_attention import cross_attend

    query, key = (torch.randn(2, 3, 7).double().requires_grad_() for _ in range(2))
    rows = torch.randn(2, 4, 7).double().requires_grad_()
    for block in (2, 6, 1000):  # 1, 3 and all queries an image
        assert torch.autograd.gradcheck(lambda q, k, r, b=block: cross_attend(q, k, r, block=b), (query, key, rows))
    dense = torch.softmax(query.transpose(1, 2) @ key / 3**0.5, dim=2)
    out, column = cross_attend(query, key, rows, block=6)
    torch.testing.assert_close(out, rows @ dense.transpose(1, 2), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(column, dense.mean(dim=1), rtol=1e-12, atol=1e-12)
