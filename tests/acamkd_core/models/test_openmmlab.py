"""Files of mmsegmentation, mmdetection and mmpretrain: a network built under their names and ours compute the same."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from acamkd_core.models.base import TaskModel
from acamkd_core.models.fcos import FCOS
from acamkd_core.models.registry import build_model
from acamkd_core.models.reppoints import RepPoints
from acamkd_core.models.retinanet import RetinaNet
from acamkd_core.models.segmenter import ContextSegmenter
from acamkd_core.models.weights import LoadReport, load_weights
from acamkd_core.spec.archs import Arch
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.models import Preprocess
from tests.acamkd_core.models.conftest import scramble
from tests.acamkd_core.models.openmmlab_reference import (
    MMFCOS,
    ASPPHead,
    MMClassifier,
    MMRetinaNet,
    MMSegmenter,
    PSPHead,
)
from tests.acamkd_core.models.reppoints_reference import MMRepPoints, moment_box

ARCH: TypeAdapter[Arch] = TypeAdapter(Arch)
RAW = Preprocess(mean=(0, 0, 0), std=(1, 1, 1))
MMSEG = {"style": "mmseg", "deep_stem": True, "output_stride": 8, "aux_head": True}


def build(num_classes: int, **fields: Any) -> TaskModel:
    return build_model(ARCH.validate_python(fields), num_classes=num_classes, preprocess=RAW).eval()


def carried(theirs: nn.Module, ours: TaskModel, folder: Path, **options: Any) -> LoadReport:
    """The weights as a training run of OpenMMLab saves them, loaded into ours."""
    scramble(theirs.eval())
    torch.save({"meta": {"epoch": 1}, "state_dict": theirs.state_dict()}, folder / "x.pth")
    return load_weights(ours, folder / "x.pth", **options)


@pytest.mark.parametrize(
    ("family", "depth", "wide"), [("deeplabv3", 18, 32), ("deeplabv3", 50, 32), ("pspnet", 18, 128)]
)
def test_mmseg(family: str, depth: int, wide: int, tmp_path: Path) -> None:
    own = {"psp_channels": wide} if family == "pspnet" else {"aspp_channels": wide, "aspp_rates": (12, 24, 36)}
    theirs = MMSegmenter(depth, PSPHead if family == "pspnet" else ASPPHead, wide, 6)
    ours = build(6, family=family, backbone=f"resnet{depth}", **MMSEG, **own)
    report = carried(theirs, ours, tmp_path, strict=True)
    assert (report.layout, report.missing, report.unexpected, report.mismatched) == ("mmseg", [], [], {})
    assert isinstance(ours, ContextSegmenter)
    images = torch.rand(1, 3, 65, 97)
    with torch.no_grad():
        (scores, auxiliary), out = theirs(images), ours(images)
        torch.testing.assert_close(out.raw, scores, rtol=1e-4, atol=1e-5)
        assert ours.aux_head is not None
        torch.testing.assert_close(ours.aux_head(out.features["c4"]), auxiliary, rtol=1e-4, atol=1e-5)


def test_mmpretrain_mobilenet_v2_as_backbone(tmp_path: Path) -> None:
    theirs = MMClassifier()
    ours = build(5, family="deeplabv3", output_stride=32, aspp_channels=16)
    report = carried(theirs, ours, tmp_path, backbone_only=True)
    assert (report.layout, report.missing, report.unexpected, report.mismatched) == ("mmseg", [], [], {})
    images = torch.rand(1, 3, 65, 97)
    with torch.no_grad():
        torch.testing.assert_close(ours(images).features["c5"], theirs(images), rtol=1e-5, atol=1e-5)


def loud(head: nn.Module) -> None:
    """Fresh detection heads are nearly silent: differences in them would go unnoticed."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)


def test_mmdet_retinanet(tmp_path: Path) -> None:
    theirs = MMRetinaNet(32, 2, 5)
    loud(theirs.bbox_head)
    fields = {"backbone": "resnet50", "fpn_channels": 32, "head_depth": 2, "p7_relu": False}
    ours = build(5, family="retinanet", **fields)
    report = carried(theirs, ours, tmp_path, strict=True)
    assert (report.layout, report.missing, report.unexpected, report.mismatched) == ("mmdet", [], [], {})
    assert isinstance(ours, RetinaNet)
    images = torch.rand(2, 3, 128, 192)
    with torch.no_grad():
        (classes, offsets), out = theirs(images), ours(images)
        scores, boxes = ours.candidates(out, (10_000, 10_000))  # not cut: the anchors are compared too
    for found, expected in ((out.raw.classes, classes), (out.raw.offsets, offsets)):
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    number = 0
    for level, (cls, reg) in enumerate(zip(classes, offsets, strict=True)):
        for y in range(cls.shape[2]):
            for x in range(cls.shape[3]):
                for anchor in range(9):
                    expected = retina_box(reg[1, 4 * anchor : 4 * anchor + 4, y, x], level, anchor, x, y)
                    if min(expected) > 0:
                        torch.testing.assert_close(boxes[1, number], torch.tensor(expected), rtol=1e-3, atol=1e-2)
                    if not number % 40:
                        logits = cls[1, 5 * anchor : 5 * anchor + 5, y, x]
                        torch.testing.assert_close(scores[1, number], logits.sigmoid(), rtol=1e-4, atol=1e-5)
                    number += 1
    assert number == len(boxes[1])
    assert other_classes(tmp_path, {**fields, "family": "retinanet"}) == 5
    with pytest.raises(CoreError) as error:
        load_weights(ours, tmp_path / "x.pth", layout="mmseg")
    assert error.value.code == "weights.other_layout"
    assert "layout: mmdet" in (error.value.info.hint or "")


def other_classes(folder: Path, fields: dict[str, Any]) -> Any:
    """For how many classes a refused file is, as the refusal says."""
    with pytest.raises(CoreError) as error:
        load_weights(build(7, **fields), folder / "x.pth", strict=True)
    assert error.value.code == "weights.other_classes"
    return error.value.info.value


def retina_box(offsets: Tensor, level: int, anchor: int, x: int, y: int) -> list[float]:
    """mmdetection's anchor and box coder, number by number: three ratios, three octaves in each, centred on the corner."""
    dx, dy, dw, dh = offsets.tolist()
    stride, ratio, scale = 8 * 2**level, (0.5, 1.0, 2.0)[anchor // 3], 4 * 2 ** (anchor % 3 / 3)
    width, height = stride * scale / math.sqrt(ratio), stride * scale * math.sqrt(ratio)
    limit = abs(math.log(16 / 1000))
    centre_x, centre_y = x * stride + dx * width, y * stride + dy * height
    width, height = width * math.exp(min(dw, limit)), height * math.exp(min(dh, limit))
    return [centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2]


def test_mmdet_fcos_with_a_caffe_backbone_and_level_scales(tmp_path: Path) -> None:
    theirs = MMFCOS(64, 2, 5)
    loud(theirs.bbox_head)
    fields = {
        "backbone": "resnet50",
        "fpn_channels": 64,
        "head_depth": 2,
        "level_scales": True,
        "resnet_style": "caffe",
    }
    ours = build(5, family="fcos", **fields)
    report = carried(theirs, ours, tmp_path, strict=True)
    assert (report.layout, report.missing, report.unexpected, report.mismatched) == ("mmdet", [], [], {})
    assert isinstance(ours, FCOS)
    images = torch.rand(1, 3, 128, 160)
    with torch.no_grad():
        (classes, sides, centres), out = theirs(images), ours(images)
    for level, stride in enumerate((8, 16, 32, 64, 128)):
        torch.testing.assert_close(out.raw.classes[level], classes[level], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(out.raw.sides[level] * stride, sides[level], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(out.raw.centres[level], centres[level], rtol=1e-4, atol=1e-4)
    assert other_classes(tmp_path, {**fields, "family": "fcos"}) == 5


@pytest.mark.parametrize("deformable", [False, True])
def test_mmdet_reppoints(tmp_path: Path, deformable: bool) -> None:
    theirs = MMRepPoints(64, 1, 5, deformable=deformable)
    loud(theirs.bbox_head)
    torch.nn.init.normal_(theirs.bbox_head.reppoints_pts_init_out.weight, std=0.3)  # type: ignore[union-attr, arg-type]
    fields = {"family": "reppoints", "backbone": "resnet50", "fpn_channels": 64, "head_depth": 1}
    fields |= {"deformable": deformable}
    ours = build(5, **fields)
    report = carried(theirs, ours, tmp_path, strict=True)
    assert (report.layout, report.missing, report.unexpected, report.mismatched) == ("mmdet", [], [], {})
    assert isinstance(ours, RepPoints)
    images = torch.rand(1, 3, 96, 128)
    with torch.no_grad():
        expected, out = theirs(images), ours(images)
        _, boxes = ours.candidates(out, (10_000, 10_000))
    outside = 0
    for level, maps in enumerate(expected):
        found = (out.raw.classes[level], out.raw.initial[level], out.raw.refined[level])
        for one, other in zip(found, maps, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
        outside += int((maps[1].abs() > 2).sum())
    assert outside > 100, "points leave their neighbourhood"
    _, _, refined = expected[1]  # p4, whose positions follow the 12 x 16 of p3
    row, column = 3, 5
    box = moment_box(refined[0, :, row, column].tolist(), (0.3, -0.2), 16, column, row)
    cut = [max(0.0, one) for one in box]
    assert boxes[0, 12 * 16 + row * 8 + column].tolist() == pytest.approx(cut, rel=1e-3, abs=1e-2)
    assert other_classes(tmp_path, fields) == 5


def test_caffe_strides_and_deformable_convolutions_belong_to_bottlenecks() -> None:
    for field, value in (("resnet_style", "caffe"), ("deformable", True)):
        with pytest.raises(ValidationError, match=f"{field} belongs to ResNets with bottlenecks"):
            ARCH.validate_python({"family": "reppoints", "backbone": "resnet18", field: value})
