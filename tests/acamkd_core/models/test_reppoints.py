"""RepPoints against loops in float64: assignment, boxes of points, losses, decoding; its count, and what gradients reach."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from acamkd_core.engine.profile import count_macs
from acamkd_core.models.base import ModelOutput
from acamkd_core.models.matching import match_boxes, match_nearest
from acamkd_core.models.pyramid import grid_points
from acamkd_core.models.registry import build_model
from acamkd_core.models.reppoints import PointSetHead, PointSets, RepPoints
from acamkd_core.spec.archs import Arch, RepPointsArch
from tests.acamkd_core.models.reppoints_reference import (
    STRIDES,
    deformed,
    focal,
    iou,
    moment_box,
    nearest,
    overlapping,
    smooth_l1,
)

SIZE = (96, 128)
CLASSES = 4


def build(**fields: Any) -> RepPoints:
    small = {"backbone": "mobilenet_v2", "width": 0.35, "fpn_channels": 64, "head_depth": 1}
    model = build_model(RepPointsArch(family="reppoints", **{**small, **fields}), num_classes=CLASSES)
    assert isinstance(model, RepPoints)
    return model


def full(arch: Arch) -> torch.nn.Module:
    with torch.device("meta"):
        return build_model(arch, num_classes=80)


def test_the_papers_network_has_mmdetections_count() -> None:
    """36.62M there, where the frozen stem and first stage are left out."""
    model = full(RepPointsArch(family="reppoints", backbone="resnet50"))
    count = sum(parameter.numel() for parameter in model.parameters())
    frozen = sum(
        p.numel() for name, p in model.named_parameters() if name.startswith(("backbone.stem", "backbone.layer1"))
    )
    assert (count, count - frozen) == (36_849_078, 36_623_734)


def test_deformable_convolutions_count_as_ordinary_ones() -> None:
    model = full(RepPointsArch(family="reppoints", backbone="resnet50"))
    assert isinstance(model, RepPoints)
    channels, positions = 256, sum(model.counts((256, 384)))
    tower = 3 * 9 * channels**2
    head = 2 * tower + 3 * 9 * channels**2 + channels * (18 + 18 + 80)
    trunk = torch.nn.Sequential(model.normalise, model.backbone)

    class Neck(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.neck = trunk, model.neck

        def forward(self, images: Tensor) -> Any:
            return self.neck(self.trunk(images))

    assert count_macs(model, 256, 384) - count_macs(Neck(), 256, 384) == positions * head


def points_of(model: RepPoints) -> list[tuple[int, int, int]]:
    """(column, row, stride) of every position, level by level."""
    maps = [(stride, -(-SIZE[0] // stride), -(-SIZE[1] // stride)) for stride in STRIDES]
    return [(x, y, stride) for stride, rows, columns in maps for y in range(rows) for x in range(columns)]


def raw_output(seed: int = 0) -> PointSets:
    """Random scores and points, some of whose first boxes are as large as objects; two images."""
    generator = torch.Generator().manual_seed(seed)
    parts: tuple[list[Tensor], ...] = ([], [], [])
    for stride in STRIDES:
        rows, columns = -(-SIZE[0] // stride), -(-SIZE[1] // stride)
        for kind, channels in zip(parts, (CLASSES, 18, 18), strict=True):
            one = torch.randn(2, channels, rows, columns, generator=generator, dtype=torch.float64)
            kind.append((one * (1.0 if kind is parts[0] else 1.5)).requires_grad_())
    return PointSets((0, 1, 2, 3, 4), *parts)


def flat(maps: list[Tensor], image: int) -> list[list[float]]:
    return [one[image, :, y, x].tolist() for one in maps for y in range(one.shape[2]) for x in range(one.shape[3])]


# One inside another, a thin one, one smaller than a cell, one as large as the image.
BOXES = [
    [[8.0, 10.0, 70.0, 60.0], [20.0, 22.0, 44.0, 50.0], [90.0, 4.0, 99.0, 80.0], [60.6, 60.6, 63.2, 63.1]],
    [[1.0, 2.0, 127.0, 95.0], [35.0, 30.0, 59.0, 57.0]],
]
LABELS = [[0, 3, 1, 1], [2, 0]]
INSIDE = (70, 100)  # of the second image, when some of it is padding


@pytest.mark.parametrize("padded", [False, True])
def test_losses_are_those_of_the_loops_and_reach_whom_they_should(padded: bool) -> None:
    model = build().double()
    with torch.no_grad():
        model.box_head.moment_transfer.copy_(torch.tensor([0.5, -0.25]))
    raw = raw_output()
    sizes = [None, INSIDE] if padded else None
    boxes = [torch.tensor(one, dtype=torch.float64) for one in BOXES]
    found = model.loss(ModelOutput({}, raw=raw), [0, 1], boxes, [torch.tensor(one) for one in LABELS], sizes)

    weights, mass = model.head.assign(raw, ("p3", "p4", "p5", "p6", "p7"), boxes, sizes or [None, None])
    positions, transfer = points_of(model), (0.5, -0.25)
    sums, first_positives, positives = {"class": 0.0, "initial": 0.0, "box": 0.0}, 0, 0
    owners = set()
    for image in range(2):
        height, width = INSIDE if padded and image == 1 else SIZE
        real = [n for n, (x, y, s) in enumerate(positions) if x * s < width and y * s < height]
        assert (len(real) < len(positions)) == (padded and image == 1)
        logits, initial, refined = (flat(kind, image) for kind in (raw.classes, raw.initial, raw.refined))
        at = [(x * s, y * s, s) for x, y, s in (positions[n] for n in real)]
        firsts = [moment_box(initial[n], transfer, positions[n][2], *positions[n][:2]) for n in real]
        stages = nearest(at, BOXES[image]), overlapping(firsts, BOXES[image])
        for stage, (name, points) in enumerate((("initial", initial), ("box", refined))):
            for index, n in enumerate(real):
                owner = stages[stage][index]
                if stage:
                    owners.add(min(owner, 0))
                    for label, logit in enumerate(logits[n]):
                        if owner != -2:
                            sums["class"] += focal(logit, owner >= 0 and LABELS[image][owner] == label)
                if owner >= 0:
                    x, y, stride = positions[n]
                    box = moment_box(points[n], transfer, stride, x, y)
                    apart = [(a - b) / (4 * stride) for a, b in zip(box, BOXES[image][owner], strict=True)]
                    sums[name] += (1.0 if stage else 0.5) * sum(smooth_l1(one) for one in apart)
        everywhere = torch.zeros(len(positions))
        everywhere[real] = torch.tensor([float(one != -2) for one in stages[1]])
        assert torch.equal(weights[image], everywhere), "CrossKD and logit see what the loss counts"
        first_positives += max(1, sum(one >= 0 for one in stages[0]))
        positives += max(1, sum(one >= 0 for one in stages[1]))
    assert owners == {-2, -1, 0}, "objects, background, and what counts as neither"
    assert positives > first_positives >= 5
    assert mass == positives
    for name, value in sums.items():
        expected = value / (first_positives if name == "initial" else positives)
        assert found[name].item() == pytest.approx(expected, rel=1e-9), name

    # The moment's factors learn a hundredth; the first boxes hear of the second stage through their assignment only.
    (transfer_gradient,) = torch.autograd.grad(
        found["initial"] + found["box"], model.box_head.moment_transfer, retain_graph=True
    )
    step, held = 1e-6, model.box_head.moment_transfer
    with torch.no_grad():
        for axis in range(2):
            values = []
            for sign in (1, -1):
                held[axis] += sign * step
                again = model.loss(
                    ModelOutput({}, raw=raw), [0, 1], boxes, [torch.tensor(one) for one in LABELS], sizes
                )
                values.append((again["initial"] + again["box"]).item())
                held[axis] -= sign * step
            slope = (values[0] - values[1]) / (2 * step)
            assert transfer_gradient[axis].item() == pytest.approx(0.01 * slope, rel=1e-4)
    assert torch.autograd.grad(found["box"], raw.initial, retain_graph=True)[0].abs().sum() == 0
    assert torch.autograd.grad(found["initial"], raw.initial)[0].abs().sum() > 0


def test_both_assignments_are_those_of_the_loops() -> None:
    """Also where one position is the nearest of two objects, one box the best of two, and an object meets no box."""
    generator = torch.Generator().manual_seed(3)
    points, strides = grid_points((0, 1, 2), [(12, 16), (6, 8), (3, 4)], torch.device("cpu"))
    at = [(x, y, int(s)) for (x, y), s in zip(points.tolist(), strides.tolist(), strict=True)]
    seen: set[str] = set()
    for _ in range(40):
        corner = torch.rand(7, 2, generator=generator) * 60
        objects = torch.cat([corner, corner + 2 + 60 * torch.rand(7, 2, generator=generator) ** 3], dim=1)
        objects[1] = objects[0] + torch.rand(4, generator=generator) * 2
        objects[6] = torch.tensor([300.0, 300, 310, 305])
        side = 4 * strides[:, None] * torch.rand(len(points), 2, generator=generator)
        found = torch.cat([points - side / 2, points + side / 2], dim=1)
        one, two = match_nearest(objects, points, strides, 4), match_boxes(objects, found, 0.5, 0.4)
        assert one.tolist() == nearest(at, objects.tolist())
        assert two.tolist() == overlapping(found.double().tolist(), objects.double().tolist())
        seen |= {"shared"} if len(set(one.tolist()) - {-1}) < 7 else set()
        best = [
            max(range(len(found)), key=lambda n, g=g: iou(found[n].tolist(), objects[g].tolist())) for g in range(6)
        ]  # type: ignore[misc]
        seen |= {"contested"} if len(set(best)) < 6 else set()
        assert 6 not in two.tolist()
    assert seen == {"shared", "contested"}
    nothing = torch.zeros(0, 4)
    assert (
        set(match_nearest(nothing, points, strides, 4).tolist())
        == set(match_boxes(nothing, found, 0.5, 0.4).tolist())
        == {-1}
    )


def test_decoding_is_that_of_the_loops() -> None:
    model, raw = build().double(), raw_output(1)
    with torch.no_grad():
        model.box_head.moment_transfer.copy_(torch.tensor([-0.25, 0.5]))
        scores, boxes = model.candidates(ModelOutput({}, raw=raw), SIZE, [None, INSIDE])
    positions = points_of(model)
    assert model.counts(SIZE) == [sum(s == stride for *_, s in positions) for stride in STRIDES]
    logits_NAK, uncut = model.head.predictions(raw, ("p4", "p5"))
    first, number = model.counts(SIZE)[0], logits_NAK.shape[1]
    assert number == sum(model.counts(SIZE)[1:3])
    torch.testing.assert_close(logits_NAK.sigmoid(), scores[:, first : first + number])
    limits = torch.tensor([128.0, 96, 128, 96])
    torch.testing.assert_close(uncut[0].clamp(min=0).minimum(limits), boxes[0, first : first + number])
    for image, (height, width) in enumerate((SIZE, INSIDE)):
        logits, refined = flat(raw.classes, image), flat(raw.refined, image)
        for n, (x, y, stride) in enumerate(positions):
            box = moment_box(refined[n], (-0.25, 0.5), stride, x, y)
            cut = [min(max(one, 0.0), limit) for one, limit in zip(box, (width, height) * 2, strict=True)]
            assert boxes[image, n].tolist() == pytest.approx(cut, rel=1e-9, abs=1e-9)
            assert scores[image, n].tolist() == pytest.approx([1 / (1 + math.exp(-one)) for one in logits[n]])


def test_a_tenth_of_the_gradient_reaches_the_first_points_through_what_is_read_there() -> None:
    torch.manual_seed(0)
    head = PointSetHead(32, 1, CLASSES).double()
    for module in (head.class_conv, head.refined_conv, head.initial_points, head.initial_conv, head.cls_logits):
        torch.nn.init.normal_(module.weight, std=0.3)  # type: ignore[arg-type]
    level = torch.randn(1, 32, 3, 4, dtype=torch.float64)
    raw = head({"p4": level})
    assert raw.levels == (1,)
    ends = []
    for tower in head.towers():
        value = level
        for stage in tower:
            value = F.relu(stage(value))
        ends.append([value])
    for name, again in vars(head.finish(["p4"], *ends)).items():
        assert name == "levels" or torch.equal(again[0], getattr(raw, name)[0]), name
    (found,) = torch.autograd.grad(raw.classes[0].square().sum(), head.initial_points.bias, retain_graph=True)  # type: ignore[arg-type]
    base = torch.tensor([part for dy in (-1, 0, 1) for dx in (-1, 0, 1) for part in (dy, dx)]).view(1, 18, 1, 1)
    points = raw.initial[0].detach().requires_grad_()
    features = head.class_tower(level)
    scores = head.cls_logits(F.relu(deformed(features, points - base, head.class_conv.weight)))
    torch.testing.assert_close(raw.classes[0], scores)
    (full_gradient,) = torch.autograd.grad(scores.square().sum(), points)
    torch.testing.assert_close(found, 0.1 * full_gradient.sum(dim=(0, 2, 3)))
    # Refined points start from the first ones, which do not learn by them but through what is read.
    moved = head.refined_points(F.relu(deformed(head.box_tower(level), points - base, head.refined_conv.weight)))
    torch.testing.assert_close(raw.refined[0], moved + points)
    (found,) = torch.autograd.grad(raw.refined[0].square().sum(), head.initial_points.bias)  # type: ignore[arg-type]
    (full_gradient,) = torch.autograd.grad(((moved + points.detach()) ** 2).sum(), points)
    torch.testing.assert_close(found, 0.1 * full_gradient.sum(dim=(0, 2, 3)))


def test_images_without_objects_or_labels_leave_a_graph() -> None:
    model = build()
    out = model(torch.rand(2, 3, 64, 96))
    empty = model.loss(out, [0], [torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.long)])
    assert empty["class"].item() > 0
    assert empty["initial"].item() == empty["box"].item() == 0
    nothing = model.loss(out, [], [], [])
    assert [value.item() for value in nothing.values()] == [0, 0, 0]
    sum(nothing.values()).backward()  # type: ignore[union-attr]
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, _ in model.named_parameters()}


def test_levels_that_some_methods_enter_alone_are_enough() -> None:
    model = build().eval()
    with torch.no_grad():
        out = model(torch.rand(1, 3, *SIZE))
        (one,) = model.onward({name: out.features[name] for name in ("p3", "p5")})
        boxes, labels = [torch.tensor(BOXES[0])], [torch.tensor(LABELS[0])]
        assert all(value.isfinite() for value in model.loss(one, [0], boxes, labels).values())
        (whole,) = model.onward({name: out.features[name] for name in ("p3", "p4", "p5", "p6", "p7")})
    assert one.raw.levels == (0, 2)
    for found, expected in zip(one.raw.refined, (out.raw.refined[0], out.raw.refined[2]), strict=True):
        assert torch.equal(found, expected)
    assert all(torch.equal(*pair) for pair in zip(whole.raw.classes, out.raw.classes, strict=True))
