"""FCOS against torchvision's own network, on equal weights and inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from acamkd_core.models.fcos import FCOS
from acamkd_core.models.registry import build_model
from acamkd_core.models.weights import load_weights
from acamkd_core.spec.archs import FCOSArch
from acamkd_core.spec.errors import CoreError
from acamkd_core.tasks.detection_decode import select
from acamkd_core.torchvision_compat import torchvision  # noqa: F401

# isort: split
from torchvision.models.detection import fcos_resnet50_fpn
from torchvision.models.detection.image_list import ImageList

SIZE = (128, 256)  # torchvision takes strides from sizes: only multiples of 128 give its p7 the nominal one


def build(classes: int = 4, **fields: Any) -> FCOS:
    model = build_model(FCOSArch(family="fcos", **fields), num_classes=classes)
    assert isinstance(model, FCOS)
    return model


def test_parameter_count_is_torchvisions() -> None:
    with torch.device("meta"):
        ours, theirs = build(80), fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=80)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[FCOS, Any, Tensor]:
    """Ours and torchvision's with the same weights (carried over by the importer), and a batch of images."""
    torch.manual_seed(0)
    theirs = fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4).eval()
    torch.nn.init.normal_(theirs.head.classification_head.cls_logits.weight, std=0.05)
    torch.nn.init.constant_(theirs.head.classification_head.cls_logits.bias, -2.0)
    torch.nn.init.constant_(theirs.head.regression_head.bbox_reg.bias, 1.0)
    theirs.score_thresh = 0.05
    path = tmp_path_factory.mktemp("weights") / "fcos.pth"
    torch.save(theirs.state_dict(), path)
    ours = build()
    report = load_weights(ours, path, strict=True)
    assert report.layout == "torchvision"
    assert not report.unexpected
    assert not report.missing
    return ours.eval(), theirs, torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def torchvision_outputs(theirs: Any, images: Tensor) -> tuple[list[Tensor], dict[str, Tensor], list[Tensor]]:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (images - mean[:, None, None]) / std[:, None, None]
    features = list(theirs.backbone(normalised).values())
    anchors = theirs.anchor_generator(ImageList(normalised, [SIZE] * len(images)), features)
    return features, theirs.head(features), anchors


# One object inside another, a thin one, one for a coarse level; an image with one object.
BOXES = [
    torch.tensor([[10.0, 12, 61, 71], [20, 20, 44, 50], [100, 20, 240, 110], [200, 90, 214, 101]]),
    torch.tensor([[30.0, 30, 93, 121]]),
]
LABELS = [torch.tensor([0, 3, 1, 1]), torch.tensor([2])]


def test_losses_are_torchvisions(pair: tuple[FCOS, Any, Tensor]) -> None:
    ours, theirs, images = pair
    features, head, anchors = torchvision_outputs(theirs, images)
    targets = [{"boxes": b, "labels": label} for b, label in zip(BOXES, LABELS, strict=True)]
    expected = theirs.compute_loss(targets, head, anchors, [f.shape[2] * f.shape[3] for f in features])
    found = ours.loss(ours(images), [0, 1], BOXES, LABELS)
    torch.testing.assert_close(found["class"], expected["classification"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["box"], expected["bbox_regression"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["centre"], expected["bbox_ctrness"], rtol=1e-5, atol=1e-6)
    assert all(value.item() > 0 for value in found.values())
    empty = ours.loss(ours(images), [0], [torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.long)])
    assert empty["class"].item() > 0
    assert empty["box"].item() == empty["centre"].item() == 0


def test_detections_are_torchvisions(pair: tuple[FCOS, Any, Tensor]) -> None:
    ours, theirs, images = pair
    with torch.no_grad():
        features, head, anchors = torchvision_outputs(theirs, images)
        counts = [f.shape[2] * f.shape[3] for f in features]
        split = {name: list(value.split(counts, dim=1)) for name, value in head.items()}
        expected = theirs.postprocess_detections(split, [list(a.split(counts)) for a in anchors], [SIZE] * 2)
        scores, boxes = ours.candidates(ours(images), SIZE)
    assert ours.counts(SIZE) == counts
    for image in range(2):
        found = select(scores[image], boxes[image], counts, ours.selection)
        assert len(found) > 20
        torch.testing.assert_close(found.scores, expected[image]["scores"][:100])
        assert torch.equal(found.labels, expected[image]["labels"][:100])
        torch.testing.assert_close(found.boxes, expected[image]["boxes"][:100], rtol=1e-4, atol=1e-3)


def test_weights_of_other_classes_are_refused_with_both_numbers(pair: tuple[FCOS, Any, Tensor], tmp_path: Path) -> None:
    torch.save(pair[1].state_dict(), tmp_path / "fcos.pth")
    with pytest.raises(CoreError, match="are for 4 classes, but 7 are needed"):
        load_weights(build(7), tmp_path / "fcos.pth", strict=True)


def test_one_channel_a_group_is_refused() -> None:
    """Group norm over a single value (one channel on a 1x1 map) has no meaning: PyTorch refuses it at the first step."""
    with pytest.raises(ValidationError, match="greater than or equal to 64"):
        FCOSArch(family="fcos", fpn_channels=32)
    model = build(4, fpn_channels=64, backbone="mobilenet_v2", head_depth=1).train()
    assert model(torch.rand(1, 3, 128, 128)).features["p7"].shape == (1, 64, 1, 1)
