"""A network around which images are resized, against the network itself on images that were resized by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from acamkd_core.models.base import Detector, TaskModel
from acamkd_core.models.mapped import mapped
from acamkd_core.models.resized import Resized, ResizedDetector, resized
from acamkd_core.spec.sizes import seen_by_teacher
from tests.acamkd_core.contract.tiny import Tiny, tiny
from tests.acamkd_core.models.conftest import scramble

FAMILIES = ("deeplabv3", "retinanet", "ssdlite", "faster_rcnn", "resnet")


def pair(family: str, own: tuple[int, int]) -> tuple[Tiny, TaskModel, Resized]:
    """A batch, its teacher, and the teacher around which images are resized from the batch's size to `own`."""
    world = tiny(family)
    scramble(world.teacher)
    frame = (world.images.shape[-2], world.images.shape[-1])
    return world, world.teacher, resized(world.teacher, own, frame)


def by_hand(images: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=size[0] < images.shape[-2])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_it_is_the_network_on_resized_images(family: str, factor: float) -> None:
    side = int(160 * factor) if family in ("retinanet", "ssdlite", "faster_rcnn") else int(64 * factor)
    world, inner, outer = pair(family, (side, side))
    images = by_hand(world.images, (side, side))
    with torch.no_grad():
        found, wanted = outer(world.images), inner(images)
        assert found.features.keys() == wanted.features.keys()
        for name, level in wanted.features.items():
            assert torch.equal(found.features[name], level), name
        size = (world.images.shape[-2], world.images.shape[-1])
        if isinstance(inner, Detector):
            assert isinstance(outer, ResizedDetector)
            scores, boxes = outer.candidates(found, size, [None, None])
            own_scores, own_boxes = inner.candidates(wanted, (side, side))
            assert torch.equal(scores, own_scores)
            torch.testing.assert_close(boxes, own_boxes / factor)
            assert float(boxes.max()) <= 160
            assert outer.counts(size) == inner.counts((side, side))
            assert sum(outer.counts(size)) == scores.shape[1]
            assert outer.selection == inner.selection
        else:
            assert torch.equal(found.raw, wanted.raw)
            expected = world.task.decode(inner, wanted, size)
            assert torch.equal(world.task.decode(outer, found, size), expected)


def test_boxes_of_a_view_of_another_shape() -> None:
    """Height and width have a factor each, also for images that are not of the training samples' size."""
    _, inner, outer = pair("retinanet", (320, 240))
    images = torch.rand(1, 3, 96, 128)
    assert isinstance(inner, Detector)
    assert isinstance(outer, ResizedDetector)
    with torch.no_grad():
        scores, boxes = outer.candidates(outer(images), (96, 128))
        own_scores, own_boxes = inner.candidates(inner(by_hand(images, (192, 192))), (192, 192))
    assert torch.equal(scores, own_scores)
    torch.testing.assert_close(boxes, own_boxes * torch.tensor([128 / 192, 0.5, 128 / 192, 0.5]))


def test_sizes_and_strides_in_the_jobs_pixels() -> None:
    assert seen_by_teacher((1024, 2048), (256, 512), (512, 1024)) == (512, 1024)
    assert seen_by_teacher((33, 1), (50, 100), (100, 1000)) == (16, 1)
    _, inner, outer = pair("retinanet", (320, 320))
    strides = {name: (level.stride, outer.levels[name].stride) for name, level in inner.levels.items()}
    assert strides["c2"] == (4, 2)
    assert strides["p3"] == (8, 4)
    assert strides["p7"] == (128, 64)
    assert [level.channels for level in outer.levels.values()] == [level.channels for level in inner.levels.values()]
    one_position = pair("resnet", (128, 128))[2]
    assert one_position.levels["logits"].stride == 0
    images = torch.rand(1, 3, 64, 64)
    assert pair("resnet", (64, 64))[2].resize(images) is images


def test_its_own_loss_is_that_of_boxes_in_its_own_pixels() -> None:
    """What MasKD's tokens learn from."""
    world, inner, outer = pair("retinanet", (320, 320))
    assert isinstance(inner, Detector)
    boxes, labels = [t.boxes for t in world.targets], [t.labels for t in world.targets]
    found = world.task.loss(outer, outer(world.images), world.targets)
    out = inner(by_hand(world.images, (320, 320)))
    wanted = inner.loss(out, [0, 1], [2 * one for one in boxes], labels)
    assert {name.removeprefix("task/"): float(value) for name, value in found.items()} == {
        name: pytest.approx(float(value)) for name, value in wanted.items()
    }
    levels = {name: out.features[name] for name in ("p3", "p4")}
    [again], [expected] = outer.onward(levels), inner.onward(levels)
    assert all(torch.equal(a, b) for a, b in zip(again.raw.classes, expected.raw.classes, strict=True))


def test_around_a_teacher_of_other_classes() -> None:
    world = tiny("retinanet")
    inner = mapped(world.teacher, [(1,), (0, 2)])
    outer = resized(inner, (320, 320), (160, 160))
    assert isinstance(outer, ResizedDetector)
    with torch.no_grad():
        scores, boxes = outer.candidates(outer(world.images), (160, 160))
        wanted, doubled = inner.candidates(inner(by_hand(world.images, (320, 320))), (320, 320))
    assert torch.equal(scores, wanted)
    torch.testing.assert_close(boxes, doubled / 2)
    assert outer.head is world.teacher.head
    assert outer.part("neck") is world.teacher.part("neck")
