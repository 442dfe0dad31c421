"""Logit distillation of detectors: every candidate's probabilities against loops, and what a job is refused for."""

import math
from types import SimpleNamespace

import pytest
import torch

from acamkd_core.methods.base import LevelPair, StepContext
from acamkd_core.models.base import ModelOutput
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.fit import misfit_of, other_head
from acamkd_core.spec.job import JobSpec
from tests.acamkd_core.methods.competitors_reference import sigmoid
from tests.acamkd_core.methods.helpers import TERM, method
from tests.acamkd_core.methods.test_crosskd import ARCH, BOXES, anchors, arch, heads, iou, pyramid

NAMES = ("p3", "p4")


def step(student, teacher, own, other, boxes=BOXES):
    targets = [SimpleNamespace(boxes=torch.tensor(one).reshape(-1, 4)) for one in boxes]
    with torch.no_grad():
        raw = teacher.head(other)
    return StepContext(
        ModelOutput(other, raw), ModelOutput(own, student.head(own)), teacher.head, student.head, targets, 0, 100
    )


def term(student, teacher, **options):
    pairs = [LevelPair(name, name, student.levels[name], teacher.levels[name]) for name in NAMES]
    return method("logit", pairs, num_classes=2, **options)


def divergence(s, t, temperature):
    p, q = sigmoid(t / temperature), sigmoid(s / temperature)
    return temperature**2 * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_retinanet_sums_over_anchors_that_count_and_divides_by_the_positive_ones(temperature):
    student, teacher = heads()
    own, other = pyramid(8), pyramid(8)
    made = step(student, teacher, own, other)
    found = term(student, teacher, temperature=temperature, weight=0.5)(made)
    assert list(found) == ["logit"]

    places = [place for name in NAMES for place in anchors(name, *other[name].shape[2:])]
    total, positives = 0.0, 0
    for n, boxes in enumerate(BOXES):
        rows = [[], []]
        for raw, into in ((made.student.raw, rows[0]), (made.teacher.raw, rows[1])):
            for level in raw.classes:
                for y in range(level.shape[2]):
                    for x in range(level.shape[3]):
                        values = level[n, :, y, x].tolist()
                        into += [values[2 * b : 2 * b + 2] for b in range(9)]
        table = [[iou(anchor, box) for box in boxes] for anchor in places]
        best = [max(row[g] for row in table) for g in range(len(boxes))]
        for row, mine, theirs in zip(table, *rows, strict=True):
            top = max(row, default=0.0)
            positive = top >= 0.5 or any(row[g] > best[g] - 1e-6 for g in range(len(boxes)))
            positives += positive
            if positive or top < 0.4:
                total += sum(divergence(s, t, temperature) for s, t in zip(mine, theirs, strict=True))
    assert positives > 1
    assert found["logit"].item() == pytest.approx(0.5 * total / positives, rel=1e-9)


def test_fcos_divides_by_the_centreness_of_its_positives():
    student, teacher = heads("fcos", widths=(64, 64))
    own, other = pyramid(64, sizes=((5, 5), (3, 3))), pyramid(64, sizes=((5, 5), (3, 3)))
    made = step(student, teacher, own, other, boxes=[[[0.0, 0.0, 32.0, 32.0]], []])
    total = sum(
        divergence(s, t, 1.0)
        for mine, theirs in zip(made.student.raw.classes, made.teacher.raw.classes, strict=True)
        for s, t in zip(mine.flatten().tolist(), theirs.flatten().tolist(), strict=True)
    )
    mass = 0.0
    for y in range(5):
        for x in range(5):
            left, top, right, bottom = 8 * x, 8 * y, 32 - 8 * x, 32 - 8 * y
            if min(left, top, right, bottom) > 0 and max(abs(8 * x - 16), abs(8 * y - 16)) < 12:
                mass += math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))
    assert mass > 1
    assert term(student, teacher)(made)["logit"].item() == pytest.approx(total / mass, rel=1e-6)  # anchors are fp32


@pytest.mark.parametrize("family", ["retinanet", "fcos", "reppoints"])
def test_the_teacher_itself_has_nothing_to_learn_and_the_gradient_is_that_of_probabilities(family):
    student, teacher = heads(family, widths=(64, 64))
    own, other = pyramid(64), pyramid(64)
    made = step(student, teacher, own, other)
    made.student.raw.classes = [one.detach().requires_grad_() for one in made.student.raw.classes]
    term(student, teacher, temperature=2.0)(made)["logit"].backward()
    weights, mass = teacher.head.assign(made.teacher.raw, list(NAMES), made.boxes(), [None, None])
    student_scores, teacher_scores = (
        head.predictions(out.raw, list(NAMES))[0]
        for head, out in ((student.head, made.student), (teacher.head, made.teacher))
    )
    # d/ds of tau^2 KL is tau (q - p), candidate by candidate.
    wanted = 2.0 * ((student_scores / 2).sigmoid() - (teacher_scores / 2).sigmoid()) * weights.unsqueeze(2) / mass
    grads = type(made.student.raw)(
        made.student.raw.levels,
        [one.grad for one in made.student.raw.classes],
        *list(vars(made.student.raw).values())[2:],
    )
    torch.testing.assert_close(student.head.predictions(grads, list(NAMES))[0], wanted, rtol=1e-6, atol=1e-9)

    same = StepContext(made.teacher, made.teacher, teacher.head, teacher.head, made.targets, 0, 100)
    assert term(teacher, teacher)(same)["logit"].item() == pytest.approx(0.0, abs=1e-12)


def test_what_does_not_fit_is_refused_with_what_would():
    plain = TERM.validate_python({"method": "logit"})
    levels = {"method": "logit", "at": ["p3", "p4"]}
    assert misfit_of(TERM.validate_python(levels), "detection") is None
    assert other_head(TERM.validate_python(levels), arch(), arch()) is None
    segmenter = ARCH.validate_python({"family": "deeplabv3"})
    assert other_head(plain, segmenter, segmenter) is None
    for student, teacher, more, field, hint in (
        (arch("fcos", fpn_channels=64), arch(), {}, "method", "a student of family retinanet"),
        (arch(), ARCH.validate_python({"family": "ssdlite"}), {}, "method", "retinanet, fcos and reppoints teachers"),
        (arch(), None, {}, "method", "retinanet, fcos and reppoints teachers"),
        (arch(), arch(), {"at": ["p3", "c5"]}, "at", "take p3, p4"),
        (arch(), arch(), {"teacher_at": ["p4", "p5"]}, "teacher_at", "leave teacher_at out"),
    ):
        found = other_head(TERM.validate_python({**levels, **more}), student, teacher)
        assert found is not None
        assert (found.code, found.field) == ("method.other_head", field)
        assert hint in (found.hint or "")


def test_other_candidates_are_refused():
    student, teacher = heads()
    made = step(student, teacher, pyramid(8), pyramid(8))
    made.student.raw = student.head(pyramid(8, sizes=((3, 3), (1, 2))))
    with pytest.raises(CoreError) as error:
        term(student, teacher)(made)
    assert (error.value.code, "99 candidates" in str(error.value)) == ("method.other_candidates", True)


def test_a_detectors_logits_look_at_its_pyramid_and_no_cache_holds_them():
    job = {
        "dataset": {"format": "scenes"},
        "student": {"arch": {"family": "retinanet", "backbone": "mobilenet_v2", "width": 0.35}},
        "teacher": {"arch": "retinanet-r50-fpn", "weights": "job:x"},
        "distill": "logit",
    }
    assert JobSpec.model_validate(job).distill[0].at == ("p3", "p4", "p5", "p6", "p7")
    still = {"augment": {"flip": 0, "scale": [1, 1], "size": [64, 64]}, "train": {"cache_teacher": 1}}
    with pytest.raises(ValueError, match="a detector's logit read"):
        JobSpec.model_validate(job | still)
