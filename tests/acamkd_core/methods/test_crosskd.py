"""CrossKD against loops in float64 that walk through RetinaNet's towers themselves; FCOS; what a job is refused for."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from acamkd_core.methods.base import LevelPair, StepContext
from acamkd_core.models.base import ModelOutput
from acamkd_core.models.registry import build_model
from acamkd_core.spec.archs import Arch
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.fit import misfit_of, other_head
from tests.acamkd_core.methods import layers_reference as layers
from tests.acamkd_core.methods.competitors_reference import sigmoid
from tests.acamkd_core.methods.helpers import TERM, method, randomise

ARCH: TypeAdapter[Arch] = TypeAdapter(Arch)
# No box fits into an anchor: those of one area would be its best ones together, up to rounding.
BOXES = [[[-12.7, -9.1, 33.3, 21.2], [10.4, -14.2, 52.9, 30.6]], []]


def arch(family="retinanet", **fields):
    return ARCH.validate_python(
        {"family": family, "backbone": "mobilenet_v2", "width": 0.35, "head_depth": 2, **fields}
    )


def heads(family="retinanet", widths=(8, 8), classes=2, depth=2):
    torch.manual_seed(0)
    made = [build_model(arch(family, fpn_channels=width, head_depth=depth), num_classes=classes) for width in widths]
    for model in made:
        randomise(model.head, 0.3)
        if family == "reppoints":
            continue
        last = model.head.bbox_reg if family == "fcos" else model.head.regression_head.bbox_reg
        with torch.no_grad():  # boxes of a sensible size: one without area has no IoU with itself
            last.weight.mul_(0.02)
            last.bias.fill_(1.0 if family == "fcos" else 0.0)
    student, teacher = (model.double() for model in made)
    teacher.eval().requires_grad_(False)
    return student, teacher


def stepped(student, teacher, own, other, boxes=BOXES):
    """A step whose pyramids are `own` and `other`, the teacher's output its head's."""
    targets = [SimpleNamespace(boxes=torch.tensor(one).reshape(-1, 4)) for one in boxes]
    with torch.no_grad():
        raw = teacher.head(other)
    return StepContext(ModelOutput(other, raw), ModelOutput(own, None), teacher.head, student.head, targets, 0, 100)


def pyramid(channels, sizes=((2, 3), (1, 2)), count=2):
    names = ("p3", "p4")
    return {n: torch.randn(count, channels, *size, dtype=torch.float64) for n, size in zip(names, sizes, strict=False)}


def crossing(student, teacher, names=("p3", "p4"), **options):
    pairs = [LevelPair(name, name, student.levels[name], teacher.levels[name]) for name in names]
    return method("crosskd", pairs, num_classes=2, **options).double()


def scaled(own, other):
    out = np.zeros_like(own)
    for c in range(own.shape[1]):
        s, t = own[:, c], other[:, c]
        out[:, c] = (s - s.mean()) / math.sqrt(((s - s.mean()) ** 2).mean()) * math.sqrt(((t - t.mean()) ** 2).mean())
        out[:, c] += t.mean()
    return out


def through(tower, value, start, stop):
    """ReLU(conv) of the stages from start to stop, the last without its ReLU."""
    for number in range(start, stop):
        value = layers.convolve(value, tower.conv[number][0])
        if number < stop - 1:
            value = np.maximum(value, 0)
    return value


def giou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    tiny = 1e-7  # torchvision's, for boxes without area
    return both / (union + tiny) - (hull - union) / (hull + tiny)


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height)


def anchors(level, height, width):
    stride = {"p3": 8, "p4": 16}[level]
    found = []
    for y in range(height):
        for x in range(width):
            for ratio in (0.5, 1.0, 2.0):
                for octave in range(3):
                    side = 4 * stride * 2 ** (octave / 3)
                    h, w = side * math.sqrt(ratio), side / math.sqrt(ratio)
                    found.append([x * stride - w / 2, y * stride - h / 2, x * stride + w / 2, y * stride + h / 2])
    return found


def moved(anchor, offsets):
    w, h = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x, y = anchor[0] + w / 2 + offsets[0] * w, anchor[1] + h / 2 + offsets[1] * h
    w, h = w * math.exp(offsets[2]), h * math.exp(offsets[3])
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def crosskd(own, other, student, teacher, stage, adapters, beta, names=("p3", "p4")):
    """(class, box) of a batch; the anchors' fates by the definition of RetinaNet's assignment."""
    places, fates = [], [[] for _ in BOXES]
    for name in names:
        places += anchors(name, *other[name].shape[2:])
    for n, boxes in enumerate(BOXES):
        table = [[iou(anchor, box) for box in boxes] for anchor in places]
        best = [max((row[g] for row in table), default=0.0) for g in range(len(boxes))]
        for row in table:
            top = max(row, default=0.0)
            kept = any(
                row[g] > best[g] - 1e-6 for g in range(len(boxes))
            )  # anchors are fp32: equal ones differ by less
            fates[n].append("object" if top >= 0.5 or kept else "background" if top < 0.4 else "neither")
    mass = max(1, sum(fate == "object" for image in fates for fate in image))
    towers = [(net.head.classification_head, net.head.regression_head) for net in (student, teacher)]
    predictions = {"crossed": [[], []], "teacher": [[], []]}
    for index, last in enumerate(("cls_logits", "bbox_reg")):
        mine, theirs = towers[0][index], towers[1][index]
        values = {"crossed": [], "teacher": []}
        for name in names:
            inside = through(mine, own[name], 0, stage)
            if adapters is not None:
                inside = layers.convolve(inside, adapters[index])
            inside = scaled(inside, through(theirs, other[name], 0, stage))
            inside = np.maximum(inside, 0) if stage else inside
            for key, start, value in (("crossed", stage, inside), ("teacher", 0, other[name])):
                value = through(theirs, value, start, 2)
                value = np.maximum(value, 0) if start < 2 else value
                raw = layers.convolve(value, getattr(theirs, last))
                per = raw.shape[1] // 9
                values[key].append(raw.reshape(len(raw), 9, per, -1).transpose(0, 3, 1, 2).reshape(len(raw), -1, per))
        for key, found in values.items():
            predictions[key][index] = np.concatenate(found, axis=1)
    sums = [0.0, 0.0]
    for n, image in enumerate(fates):
        for a, fate in enumerate(image):
            if fate == "neither":
                continue
            wanted = [sigmoid(v) for v in predictions["teacher"][0][n, a]]
            for value, target in zip(predictions["crossed"][0][n, a], wanted, strict=True):
                p = sigmoid(value)
                sums[0] -= abs(p - target) ** beta * (target * math.log(p) + (1 - target) * math.log(1 - p))
            found, goal = (moved(places[a], predictions[key][1][n, a]) for key in ("crossed", "teacher"))
            sums[1] += max(wanted) * (1 - giou(found, goal))
    return [value / mass for value in sums]


@pytest.mark.parametrize(("stage", "widths", "beta"), [(1, (8, 8), 1.0), (2, (8, 9), 2.0), (0, (8, 8), 1.0)])
def test_both_terms_equal_the_loops_and_so_does_the_gradient(stage, widths, beta):
    student, teacher = heads(widths=widths)
    own, other = pyramid(widths[0]), pyramid(widths[1])
    own = {name: one.requires_grad_() for name, one in own.items()}
    built = crossing(student, teacher, stage=stage, beta=beta, weight=2.0, class_weight=0.5, box_weight=0.25)
    arrays = {name: one.detach().numpy().copy() for name, one in own.items()}
    others = {name: one.numpy() for name, one in other.items()}
    adapters = list(built.adapters) or None

    def wanted(values):
        found = crosskd(values, others, student, teacher, stage, adapters, beta)
        return [2.0 * factor * value for factor, value in zip((0.5, 0.25), found, strict=True)]

    terms = built(stepped(student, teacher, own, other))
    assert list(terms) == ["crosskd/class", "crosskd/box"]
    np.testing.assert_allclose([value.item() for value in terms.values()], wanted(arrays), rtol=1e-6)
    sum(terms.values()).backward()
    # Along a few directions: each needs the whole network in loops twice.
    rng = np.random.default_rng(0)
    for _ in range(3):
        direction = {name: rng.normal(size=one.shape) for name, one in arrays.items()}
        sides = [sum(wanted({n: one + h * direction[n] for n, one in arrays.items()})) for h in (1e-6, -1e-6)]
        slope = sum(float((one.grad.numpy() * direction[name]).sum()) for name, one in own.items())
        assert slope == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-4)
    assert all(p.grad is None for p in teacher.parameters())
    early = [p.grad is not None for p in student.head.classification_head.conv[:stage].parameters()]
    late = [p.grad is not None for p in student.head.classification_head.conv[stage:].parameters()]
    assert all(early)
    assert not any(late)


@pytest.mark.parametrize("family", ["retinanet", "fcos", "reppoints"])
def test_a_student_that_is_the_teacher_costs_nothing(family):
    student, teacher = heads(family, widths=(64, 64))
    student.head.load_state_dict(teacher.head.state_dict())
    other = pyramid(64)
    own = {name: one.clone().requires_grad_() for name, one in other.items()}
    terms = crossing(student, teacher, stage=1)(stepped(student, teacher, own, other))
    assert terms["crosskd/class"].item() == pytest.approx(0, abs=1e-9)
    assert terms["crosskd/box"].item() == pytest.approx(0, abs=1e-6)


def test_fcos_crosses_its_towers_group_norms_and_all():
    """Against the head's own modules put together by hand, and the boxes of its positions. No object is of p4's size: the
    divisor is 1."""
    student, teacher = heads("fcos", widths=(64, 64))
    own, other = (pyramid(64, sizes=((4, 6), (2, 3))) for _ in range(2))
    terms = crossing(student, teacher, names=("p4",), stage=1)(stepped(student, teacher, own, other))
    mine, theirs, f = student.head, teacher.head, torch.nn.functional
    raws = []
    for tower, own_tower in ((theirs.class_tower, mine.class_tower), (theirs.box_tower, mine.box_tower)):
        inside = torch.from_numpy(scaled(own_tower[:2](own["p4"]).detach().numpy(), tower[:2](other["p4"]).numpy()))
        raws.append((tower[3:](f.relu(inside)), tower(other["p4"])))
    crossed, plain = ((theirs.cls_logits(c), f.relu(theirs.bbox_reg(b))) for c, b in zip(*raws, strict=True))
    sums = [0.0, 0.0]
    for n in range(2):
        for y in range(2):
            for x in range(3):
                wanted = [sigmoid(v) for v in plain[0][n, :, y, x].tolist()]
                for value, target in zip(crossed[0][n, :, y, x].tolist(), wanted, strict=True):
                    p = sigmoid(value)
                    sums[0] -= abs(p - target) * (target * math.log(p) + (1 - target) * math.log(1 - p))
                found, goal = (
                    [x * 16 - 16 * left, y * 16 - 16 * top, x * 16 + 16 * right, y * 16 + 16 * bottom]
                    for left, top, right, bottom in (one[1][n, :, y, x].tolist() for one in (crossed, plain))
                )
                sums[1] += max(wanted) * (1 - giou(found, goal))
    assert terms["crosskd/class"].item() == pytest.approx(sums[0], rel=1e-8)
    assert terms["crosskd/box"].item() == pytest.approx(sums[1], rel=1e-6)


def test_fcos_divides_by_the_centreness_of_its_positives():
    _, teacher = heads("fcos", widths=(64, 64))
    other = pyramid(64, sizes=((5, 5),))
    raw = teacher.head(other)
    weights, mass = teacher.head.assign(raw, ["p3"], [torch.tensor([[0.0, 0.0, 32.0, 32.0]])], [(16, 40)])
    total = 0.0
    for y in range(5):
        for x in range(5):
            left, top, right, bottom = 8 * x, 8 * y, 32 - 8 * x, 32 - 8 * y
            if min(left, top, right, bottom) > 0 and max(abs(8 * x - 16), abs(8 * y - 16)) < 12:
                total += math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))
    assert mass == pytest.approx(total)
    assert weights.unique().tolist() == [1.0], "as in its loss, padding is background"


def test_retinanet_leaves_out_anchors_of_the_padding():
    _, teacher = heads()
    other = pyramid(8, sizes=((4, 5), (2, 3)))
    raw, boxes = teacher.head(other), [torch.tensor(BOXES[0]), torch.zeros(0, 4)]
    whole, positives = teacher.head.assign(raw, ["p3", "p4"], boxes, [None, None])
    assert positives > 1
    cut, _ = teacher.head.assign(raw, ["p3", "p4"], boxes, [None, (16, 24)])
    assert torch.equal(cut[0], whole[0])
    fine, coarse = cut[1, : 4 * 5 * 9].view(4, 5, 9), cut[1, 4 * 5 * 9 :].view(2, 3, 9)
    assert (int(fine.sum()), int(fine[:2, :3].sum())) == (2 * 3 * 9, 2 * 3 * 9)
    assert (int(coarse.sum()), int(coarse[:1, :2].sum())) == (2 * 9, 2 * 9)
    assert int(whole[1].sum()) == whole.shape[1], "no object: all is background, and counts"


def test_the_automatic_stage_is_three_or_all_of_a_shallower_head():
    for depth, wanted in ((4, 3), (2, 2), (1, 1)):
        student, teacher = heads(widths=(8, 8), depth=depth)
        own, other = pyramid(8), pyramid(8)
        given = crossing(student, teacher, stage=wanted)(stepped(student, teacher, own, other))
        chosen = crossing(student, teacher)(stepped(student, teacher, own, other))
        assert [v.item() for v in given.values()] == [v.item() for v in chosen.values()]


def test_what_does_not_fit_is_refused_with_what_would():
    term = TERM.validate_python({"method": "crosskd"})
    assert other_head(term, arch(), arch()) is None
    assert other_head(term, arch("fcos", fpn_channels=64), arch("fcos", fpn_channels=96)) is None
    for student, teacher, more, field, hint in (
        (arch("fcos", fpn_channels=64), arch(), {}, "method", "a student of family retinanet"),
        (arch(), ARCH.validate_python({"family": "ssdlite"}), {}, "method", "retinanet, fcos and reppoints teachers"),
        (arch(), arch(), {"at": ["p3", "c5"]}, "at", "take p3, p4"),
        (arch(), arch(), {"at": ["p3"], "teacher_at": ["c3"]}, "teacher_at", "take p3, p4"),
        (arch(head_depth=4), arch(head_depth=1), {"stage": 2}, "stage", "0 to 1"),
    ):
        found = other_head(TERM.validate_python({"method": "crosskd", **more}), student, teacher)
        assert found is not None
        assert (found.code, found.field) == ("method.other_head", field)
        assert hint in (found.hint or "")
    assert misfit_of(term, "detection") is None
    refused = misfit_of(term, "semantic_segmentation")
    assert refused is not None
    assert "cankd" in (refused.hint or "")
    student, teacher = heads(widths=(8, 8))
    made = stepped(student, teacher, pyramid(8), pyramid(8))
    made.student_head = torch.nn.Identity()  # the last door, for callers of the library
    with pytest.raises(CoreError) as error:
        crossing(student, teacher)(made)
    assert error.value.code == "method.other_head"


def test_objects_are_in_the_pixels_of_the_teachers_input():
    """A teacher that sees the view at another size: its anchors are there."""
    student, teacher = heads()
    own, other = pyramid(8), pyramid(8)
    wanted = crossing(student, teacher)(stepped(student, teacher, own, other))
    small = [[[x1 / 2, y1 / 3, x2 / 2, y2 / 3] for x1, y1, x2, y2 in image] for image in BOXES]
    context = stepped(student, teacher, own, other, small)
    lost = crossing(student, teacher)(context)
    context.teacher_zoom = (3.0, 2.0)
    found = crossing(student, teacher)(context)
    assert {name: float(value) for name, value in found.items()} == {
        name: pytest.approx(float(value), rel=1e-6) for name, value in wanted.items()
    }
    assert float(lost["crosskd/class"]) != pytest.approx(float(wanted["crosskd/class"]), rel=1e-3)
