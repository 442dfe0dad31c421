"""FGD against loops in float64: box weights, all four terms, gradients; where a job with it is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from acamkd_core.methods.fgd import box_weights
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.fit import misfit_of
from tests.acamkd_core.methods import fgd_reference as reference
from tests.acamkd_core.methods.competitors_reference import slope
from tests.acamkd_core.methods.helpers import TERM, context, method, pair, randomise

# In pixels of a 24 x 32 input whose cells are 8 x 8: overlapping, touching an edge exactly, tiny, and reaching outside.
BOXES = [
    [[1.0, 2.0, 20.0, 15.0], [9.0, 9.0, 14.0, 15.0], [16.0, 0.0, 24.0, 8.0]],
    [[30.0, 20.0, 30.5, 20.5], [-5.0, 12.0, 3.0, 40.0]],
]
WEIGHTS = {"foreground_weight": 0.5, "background_weight": 0.25, "attention_weight": 0.125, "global_weight": 0.0625}


def maps(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def boxed(student, teacher, boxes=BOXES):
    made = context(student, teacher)
    made.targets = [SimpleNamespace(boxes=torch.tensor(own).reshape(-1, 4)) for own in boxes]
    return made


def blocks(module):
    """A context block's weights as the reference wants them."""
    first, norm, _, last = module.transform
    parts = {"first": first, "norm": norm, "last": last}
    found = {name: (p.weight.detach().numpy(), p.bias.detach().numpy()) for name, p in parts.items()}
    return {**found, "key": (module.key.weight.detach().numpy()[0, :, 0, 0], module.key.bias.item())}


def test_box_weights_equal_the_definition():
    foreground, background = box_weights([torch.tensor(own) for own in BOXES], (3, 4), (8.0, 8.0))
    for n, own in enumerate(BOXES):
        inside = reference.scale_mask(own, 3, 4, 8)
        for y in range(3):
            for x in range(4):
                assert foreground[n, y, x].item() == pytest.approx(inside.get((y, x), 0.0))
                wanted = 0.0 if (y, x) in inside else 1 / (12 - len(inside))
                assert background[n, y, x].item() == pytest.approx(wanted)
    # By hand: the small box covers one cell of the large one (3 x 2 cells), and wins there.
    np.testing.assert_allclose(foreground[0, :2, :3], [[1 / 6, 1 / 6, 1.0], [1 / 6, 1.0, 1 / 6]])


def test_no_box_is_all_background_and_a_full_one_leaves_none():
    foreground, background = box_weights(
        [torch.zeros(0, 4), torch.tensor([[0.0, 0.0, 32.0, 24.0]])], (3, 4), (8.0, 8.0)
    )
    assert foreground[0].sum() == 0
    assert background[0].unique().tolist() == pytest.approx([1 / 12])
    assert foreground[1].unique().tolist() == pytest.approx([1 / 12])
    assert background[1].sum() == 0


def test_all_terms_and_gradients_equal_the_loops():
    student, teacher = maps(2, 4, 3, 4).requires_grad_(), maps(2, 4, 3, 4)
    built = method("fgd", [pair(4, 4)], weight=2.0, temperature=0.5, **WEIGHTS).double()
    randomise(built, 0.5)
    level = built.levels[0]

    def wanted(array):
        focal = reference.focal(array, teacher.numpy(), BOXES, 8, 0.5)
        whole = reference.global_loss(
            array, teacher.numpy(), blocks(level.student_context), blocks(level.teacher_context)
        )
        return [2.0 * factor * value for factor, value in zip(WEIGHTS.values(), [*focal, whole], strict=True)]

    terms = built(boxed(student, teacher))
    assert list(terms) == ["fgd/foreground", "fgd/background", "fgd/attention", "fgd/global"]
    array = student.detach().numpy().copy()
    np.testing.assert_allclose([value.item() for value in terms.values()], wanted(array), rtol=1e-10)
    sum(terms.values()).backward()
    gradient = slope(lambda values: sum(wanted(values)), array)
    np.testing.assert_allclose(student.grad.numpy(), gradient, rtol=1e-4, atol=1e-7)
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in built.parameters())


def test_a_fresh_context_block_changes_nothing():
    student, teacher = maps(2, 4, 3, 4), maps(2, 4, 3, 4)
    built = method("fgd", [pair(4, 4)], global_weight=1.0).double()
    value = built(boxed(student, teacher))["fgd/global"].item()
    assert value == pytest.approx(((teacher - student) ** 2).sum().item() / 2, rel=1e-12)


def test_cells_follow_the_students_input_when_the_teachers_map_is_finer():
    teacher, student = maps(2, 4, 6, 8), maps(2, 4, 3, 4)
    built = method("fgd", [pair(4, 4)], foreground_weight=1.0).double()
    resized = torch.nn.functional.interpolate(student, size=(6, 8), mode="bilinear")
    wanted = reference.focal(resized.numpy(), teacher.numpy(), BOXES, 4, 0.5)[0]
    assert built(boxed(student, teacher))["fgd/foreground"].item() == pytest.approx(wanted, rel=1e-10)


def test_it_is_refused_where_a_task_has_no_boxes():
    term = TERM.validate_python({"method": "fgd"})
    found = misfit_of(term, "semantic_segmentation")
    assert found is not None
    assert (found.code, found.field) == ("method.needs_boxes", "method")
    assert "maskd" in (found.hint or "")
    assert misfit_of(term, "detection") is None
    assert misfit_of(TERM.validate_python({"method": "cwd"}), "semantic_segmentation") is None
    built = method("fgd", [pair(4, 4)])  # the last door, for callers of the library
    with pytest.raises(CoreError, match="boxes"):
        built(context(maps(2, 4, 3, 4).float(), maps(2, 4, 3, 4).float()))
