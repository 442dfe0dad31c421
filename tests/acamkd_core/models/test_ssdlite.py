"""SSDLite against the paper's count and torchvision's SSD, on equal outputs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from acamkd_core.models.matching import match_each
from acamkd_core.models.registry import build_model
from acamkd_core.models.ssdlite import SCALES, WEIGHTS, SSDLite
from acamkd_core.spec.archs import SSDLiteArch
from acamkd_core.spec.catalog import levels_of
from acamkd_core.tasks.detection_decode import select
from acamkd_core.torchvision_compat import torchvision

# isort: split
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

SIZE = (160, 224)
BOXES = [
    torch.tensor([[10.0, 12, 60, 70], [100, 20, 180, 110], [150, 90, 171, 120]]),
    torch.tensor([[30.0, 30, 90, 120]]),
]
LABELS = [torch.tensor([0, 3, 1]), torch.tensor([2])]


def build(width: float = 0.35, classes: int = 4) -> SSDLite:
    torch.manual_seed(0)
    model = build_model(SSDLiteArch(family="ssdlite", width=width), num_classes=classes)
    assert isinstance(model, SSDLite)
    return model


def test_the_papers_size() -> None:
    with torch.device("meta"):
        model = build(1.0, 80)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 4.3
    assert [level.channels for name, level in model.levels.items() if name[0] == "m"] == [576, 1280, 512, 256]


def test_multiply_adds_are_the_papers() -> None:
    from acamkd_core.engine.profile import count_macs

    with torch.device("meta"):
        model = build(1.0, 80)
    assert round(count_macs(model, 320, 320) / 1e9, 1) == 0.8


@pytest.mark.parametrize("width", [0.35, 0.5, 1.0])
def test_levels_are_what_the_catalog_says(width: float) -> None:
    model = build(width).eval()
    facts = levels_of(SSDLiteArch(family="ssdlite", width=width), 4)
    assert [(f.name, f.channels, f.stride) for f in facts] == [
        (n, v.channels, v.stride) for n, v in model.levels.items()
    ]
    with torch.no_grad():
        out = model(torch.rand(1, 3, *SIZE))
    for name, level in model.levels.items():
        assert out.features[name].shape[1:] == (level.channels, *(-(-side // level.stride) for side in SIZE))
    assert [m.shape[-2:] for m in out.raw.classes] == model._sizes(SIZE)


def test_anchors_from_the_second_map_on_are_torchvisions() -> None:
    model = build()
    maps = [torch.zeros(1, 1, *size) for size in model._sizes(SIZE)]
    generator = DefaultBoxGenerator([[2, 3]] * 6, scales=list(SCALES))
    theirs = generator(ImageList(torch.zeros(1, 3, *SIZE), [SIZE]), maps)[0]
    ours, first = model.anchors(SIZE, torch.device("cpu")), model.counts(SIZE)[0]
    torch.testing.assert_close(ours[first:], theirs[maps[0].shape[2] * maps[0].shape[3] * 6 :], rtol=1e-5, atol=1e-3)
    # The first map by hand: a square of a tenth of the input, and 2:1 and 1:2 of a fifth.
    sides = (ours[:3, 2:] - ours[:3, :2]) / torch.tensor([SIZE[1], SIZE[0]])
    torch.testing.assert_close(
        sides, torch.tensor([[0.1, 0.1], [0.2 * 2**0.5, 0.2 / 2**0.5], [0.2 / 2**0.5, 0.2 * 2**0.5]])
    )
    torch.testing.assert_close((ours[0, :2] + ours[0, 2:]) / 2, torch.tensor([8.0, 8.0]))


def outputs(model: SSDLite) -> tuple[Any, dict[str, torch.Tensor]]:
    out = model(torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1)))
    logits, offsets = model._flat(out.raw)
    return out, {"cls_logits": logits, "bbox_regression": offsets}


def test_losses_are_torchvisions() -> None:
    model = build()
    out, head = outputs(model)
    anchors = model.anchors(SIZE, torch.device("cpu"))
    matches = [SSDMatcher(0.5)(torchvision.ops.box_iou(boxes, anchors)) for boxes in BOXES]
    for boxes, wanted in zip(BOXES, matches, strict=True):
        assert torch.equal(match_each(boxes, anchors, 0.5), wanted)
    targets = [{"boxes": b, "labels": label + 1} for b, label in zip(BOXES, LABELS, strict=True)]
    holder = SimpleNamespace(box_coder=BoxCoder(WEIGHTS), neg_to_pos_ratio=3)
    expected = SSD.compute_loss(holder, targets, head, [anchors] * 2, matches)
    found = model.loss(out, [0, 1], BOXES, LABELS)
    torch.testing.assert_close(found["class"], expected["classification"])
    torch.testing.assert_close(found["box"], expected["bbox_regression"])
    nothing = model.loss(out, [0], [torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.long)])
    assert [value.item() for value in nothing.values()] == [0, 0]


def test_detections_are_torchvisions() -> None:
    """torchvision keeps the best of each class, ours the best of each map: the same while neither limit bites."""
    model = build().eval()
    with torch.no_grad():
        for block in model.box_head.classification:  # fresh heads score everything alike
            block[1].weight *= 40  # type: ignore[index,operator]
        out, head = outputs(model)
        anchors = model.anchors(SIZE, torch.device("cpu"))
        holder = SimpleNamespace(
            box_coder=BoxCoder(WEIGHTS),
            score_thresh=0.01,
            topk_candidates=100_000,
            nms_thresh=0.45,
            detections_per_img=100,
        )
        expected = SSD.postprocess_detections(holder, head, [anchors] * 2, [SIZE] * 2)
        scores, boxes = model.candidates(out, SIZE)
    for image in range(2):
        found = select(
            scores[image], boxes[image], model.counts(SIZE), model.selection.__class__(0.01, 100_000, 0.45, 100)
        )
        torch.testing.assert_close(found.scores, expected[image]["scores"])
        # An untrained network scores many anchors alike: their order, and who is cut off at the limit, may differ.
        same = torchvision.ops.box_iou(found.boxes, expected[image]["boxes"]) > 0.999
        same &= found.labels[:, None] + 1 == expected[image]["labels"][None, :]
        assert same.any(dim=1).sum() >= 97
