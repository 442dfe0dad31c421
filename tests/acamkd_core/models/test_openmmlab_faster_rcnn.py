"""mmdetection's Faster R-CNN files: a network under its names, with its RoIAlign and its order of classes, and ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from acamkd_core.models.base import TaskModel
from acamkd_core.models.faster_rcnn import FasterRCNN
from acamkd_core.models.weights import load_weights
from acamkd_core.spec.errors import CoreError
from acamkd_core.tasks.detection_decode import Detections, select
from tests.acamkd_core.models.faster_rcnn_reference import MMFasterRCNN
from tests.acamkd_core.models.test_openmmlab import build, carried, other_classes

SIZE = (480, 512)  # large enough for regions of every level
INSIDE = [SIZE, (400, 470)]  # the second image is padded
OWN = {"roi_aligned": True, "roi_sampling_ratio": 0}
FIELDS: dict[str, Any] = {
    "family": "faster_rcnn", "backbone": "resnet50", "fpn_channels": 32, "head_channels": 64, **OWN,
}  # fmt: skip


def lively(theirs: MMFasterRCNN, images: Tensor) -> None:
    """Scores and boxes of random weights, scaled so that proposals leave their anchors and some classes are likely."""
    head = theirs.roi_head.bbox_head
    with torch.no_grad():
        _, scores, offsets = theirs(images)
        for layer, maps, wanted in ((theirs.rpn_head.rpn_cls, scores, 2.0), (theirs.rpn_head.rpn_reg, offsets, 0.4)):
            layer.weight.mul_(wanted / maps[0].std())
        levels, scores, offsets = theirs(images)
        boxes = theirs.proposals([one[0] for one in scores], [one[0] for one in offsets], SIZE)
        found = theirs.regions([one[0] for one in levels[:4]], boxes[::10])
        for layer, values, wanted in zip((head.fc_cls, head.fc_reg), found, (2.0, 1.5), strict=True):
            factor = wanted / values.std(dim=0)
            layer.weight.mul_(factor[:, None])
            layer.bias.copy_((layer.bias - values.mean(dim=0)) * factor)  # no class and no side wins everywhere


def detected(ours: TaskModel, images: Tensor) -> list[Detections]:
    assert isinstance(ours, FasterRCNN)
    with torch.no_grad():
        scores, boxes = ours.candidates(ours(images), SIZE, INSIDE)
    return [select(s, b, ours.counts(SIZE), ours.selection) for s, b in zip(scores, boxes, strict=True)]


def test_maps_and_detections_are_mmdetections(tmp_path: Path) -> None:
    theirs, ours = MMFasterRCNN(32, 64, 5), build(5, **FIELDS)
    images = torch.rand(2, 3, *SIZE)
    carried(theirs, ours, tmp_path)
    lively(theirs, images)  # behind the scrambling of batch norm
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    report = load_weights(ours, tmp_path / "x.pth", strict=True)
    assert (report.layout, report.missing, report.unexpected, report.mismatched) == ("mmdet", [], [], {})
    with torch.no_grad():
        (levels, scores, offsets), out = theirs(images), ours(images)
        expected = theirs.detections(images, INSIDE)
        proposals = theirs.proposals([one[0] for one in scores], [one[0] for one in offsets], SIZE)
    sides = (proposals[:, 2:] - proposals[:, :2]).prod(dim=1).sqrt()
    assert len(proposals) == 1000
    assert all(low < side < high for (low, high), side in zip(((0, 112), (448, 512)), sides.aminmax(), strict=True))
    found = ([out.features[f"p{n}"] for n in range(2, 7)], out.raw.proposals.objectness, out.raw.proposals.offsets)
    for maps, others in zip(found, (levels, scores, offsets), strict=True):
        for one, other in zip(maps, others, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    for one, (boxes, marks, numbers) in zip(detected(ours, images), expected, strict=True):
        assert len(one) == len(boxes) > 50
        assert len(numbers.unique()) >= 3
        torch.testing.assert_close(one.scores, marks, rtol=1e-4, atol=1e-5)
        # Scores that differ in their last bits only may be in another order: each box is held against its nearest.
        apart = (one.boxes[:, None] - boxes[None]).abs().amax(dim=2)
        apart[one.labels[:, None] != numbers] = torch.inf
        nearest = apart.min(dim=1)
        assert nearest.values.max() < 5e-3
        assert len(nearest.indices.unique()) == len(one)
    # Each of the two fields counts: without it the numbers are others.
    for field in OWN:
        left_out = {name: value for name, value in FIELDS.items() if name != field}
        other = build(5, **left_out)
        load_weights(other, tmp_path / "x.pth", strict=True)
        for one, (_, marks, _) in zip(detected(other, images), expected, strict=True):
            both = min(len(one), len(marks))
            assert (one.scores[:both] - marks[:both]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("built", "fields"),
    [
        ({"caffe": True}, {"resnet_style": "caffe"}),
        ({"depth": 101, "groups": 32}, {"backbone": "resnext101_32x4d"}),
    ],
    ids=["caffe", "resnext"],
)
def test_other_backbones(built: dict[str, Any], fields: dict[str, Any], tmp_path: Path) -> None:
    theirs, ours = MMFasterRCNN(8, 8, 3, **built), build(3, **FIELDS | {"fpn_channels": 8, "head_channels": 8} | fields)
    report = carried(theirs, ours, tmp_path, strict=True)
    assert (report.layout, report.missing, report.unexpected, report.mismatched) == ("mmdet", [], [], {})
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        levels, found = theirs(images)[0], ours(images).features
    for number, level in enumerate(levels, 2):
        torch.testing.assert_close(found[f"p{number}"], level, rtol=1e-4, atol=1e-4)


def test_files_of_other_networks_are_refused(tmp_path: Path) -> None:
    """Other classes, version 1's names and order, and boxes that no class has to itself."""
    theirs, ours = MMFasterRCNN(8, 8, 5), build(5, **FIELDS | {"fpn_channels": 8, "head_channels": 8})
    report = carried(theirs, ours, tmp_path, strict=True)
    assert report.mismatched == {}
    assert other_classes(tmp_path, FIELDS | {"fpn_channels": 8, "head_channels": 8}) == 5
    state = theirs.state_dict()
    old = {name.removeprefix("roi_head."): tensor for name, tensor in state.items()}
    old |= {f"bbox_head.fc_reg.{name}": torch.zeros(24, *end) for name, end in (("weight", (8,)), ("bias", ()))}
    agnostic = state | {name: state[name][:4] for name in state if ".fc_reg." in name}
    for other, named in ((old, "box_head.roi.fc6.weight"), (agnostic, "box_head.roi.bbox_pred.weight")):
        torch.save({"state_dict": other}, tmp_path / "other.pth")
        with pytest.raises(CoreError) as error:
            load_weights(ours, tmp_path / "other.pth", strict=True)
        assert error.value.code == "weights.incomplete"
        assert named in (error.value.info.hint or "")
