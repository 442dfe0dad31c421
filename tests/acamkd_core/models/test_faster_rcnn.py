"""Faster R-CNN against torchvision's own network, on equal weights, inputs and draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from acamkd_core.engine.profile import count_macs
from acamkd_core.models.base import ModelOutput
from acamkd_core.models.faster_rcnn import FasterRCNN
from acamkd_core.models.proposals import TEST_LIMIT, TRAIN_LIMIT
from acamkd_core.models.registry import build_model
from acamkd_core.models.weights import inherit, load_weights
from acamkd_core.spec.archs import FasterRCNNArch
from acamkd_core.spec.catalog import levels_of
from acamkd_core.spec.errors import CoreError
from acamkd_core.tasks.detection_decode import select
from acamkd_core.torchvision_compat import torchvision

# isort: split
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights, fasterrcnn_resnet50_fpn
from torchvision.models.detection.image_list import ImageList

SIZE = (128, 256)  # torchvision takes strides from sizes: only multiples of 64 give its p6 the nominal one
TINY: dict[str, Any] = {
    "family": "faster_rcnn", "backbone": "mobilenet_v2", "width": 0.35, "fpn_channels": 16, "head_channels": 16,
}  # fmt: skip
BOXES = [
    torch.tensor([[10.0, 12, 60, 70], [100, 20, 180, 110], [200, 90, 214, 101]]),
    torch.tensor([[30.0, 30, 90, 120]]),
]
LABELS = [torch.tensor([0, 3, 1]), torch.tensor([2])]


def build(classes: int = 4, **fields: Any) -> FasterRCNN:
    model = build_model(FasterRCNNArch(**{**TINY, **fields}), num_classes=classes)
    assert isinstance(model, FasterRCNN)
    return model


def test_parameters_are_torchvisions() -> None:
    """41.76M: 90 classes and the background; torchvision's count leaves batch norm out, which is frozen there."""
    with torch.device("meta"):
        model = build(90, backbone="resnet50", width=1.0, fpn_channels=256, head_channels=1024)
    norms = sum(p.numel() for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters())
    published = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta
    assert sum(p.numel() for p in model.parameters()) - norms == published["num_params"] == 41_755_286
    # Its multiply-adds are those of an 800 x 800 image; 1000 regions are part of them.
    assert count_macs(model, 800, 800) / 1e9 == pytest.approx(published["_ops"], abs=0.01)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[FasterRCNN, Any, Tensor]:
    """Ours and torchvision's with the same weights (carried over by the importer), and a batch of images."""
    torch.manual_seed(0)
    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=5).eval()
    with torch.no_grad():  # so that proposals and detections differ from anchors and from each other
        for layer in (theirs.rpn.head.cls_logits, theirs.rpn.head.bbox_pred):
            torch.nn.init.normal_(layer.weight, std=0.03)
        theirs.roi_heads.box_predictor.cls_score.weight.mul_(5)
        theirs.roi_heads.box_predictor.bbox_pred.weight.mul_(5)
    path = tmp_path_factory.mktemp("weights") / "faster_rcnn.pth"
    torch.save(theirs.state_dict(), path)
    ours = build(backbone="resnet50", width=1.0, fpn_channels=256, head_channels=1024, anchor_rounding=True)
    report = load_weights(ours, path, layout="torchvision", strict=True)
    assert not report.unexpected
    assert not report.missing
    return ours.eval(), theirs, torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def torchvision_features(theirs: Any, images: Tensor) -> tuple[ImageList, dict[str, Tensor]]:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (images - mean[:, None, None]) / std[:, None, None]
    return ImageList(normalised, [SIZE] * len(images)), theirs.backbone(normalised)


def test_features_are_torchvisions_under_their_names(pair: tuple[FasterRCNN, Any, Tensor]) -> None:
    ours, theirs, images = pair
    with torch.no_grad():
        _, features = torchvision_features(theirs, images)
        found = ours(images).features
    for name, expected in zip(("p2", "p3", "p4", "p5", "p6"), features.values(), strict=True):
        torch.testing.assert_close(found[name], expected)
        assert SIZE[0] // found[name].shape[2] == ours.levels[name].stride
    facts = {level.name: (level.channels, level.stride) for level in levels_of(FasterRCNNArch(**TINY), 4)}
    assert facts == {name: (level.channels, level.stride) for name, level in build().levels.items()}


@pytest.mark.parametrize("boxes", [BOXES, [BOXES[0], torch.zeros(0, 4)]])
def test_losses_and_gradients_are_torchvisions(pair: tuple[FasterRCNN, Any, Tensor], boxes: list[Tensor]) -> None:
    ours, theirs, images = pair
    labels = [one[: len(two)] for one, two in zip(LABELS, boxes, strict=True)]
    targets = [{"boxes": one, "labels": two + 1} for one, two in zip(boxes, labels, strict=True)]
    listed, features = torchvision_features(theirs, images)
    for part in (theirs.rpn, theirs.roi_heads):
        part.train()
    torch.manual_seed(7)  # both draw anchors and regions
    proposals, expected = theirs.rpn(listed, features, targets)
    expected |= theirs.roi_heads(features, proposals, listed.image_sizes, targets)[1]
    theirs.eval()
    torch.manual_seed(7)
    found = ours.loss(ours(images), [0, 1], boxes, labels)
    names = {
        "objectness": "loss_objectness", "proposal_box": "loss_rpn_box_reg", "class": "loss_classifier",
        "box": "loss_box_reg",
    }  # fmt: skip
    for name, foreign in names.items():
        torch.testing.assert_close(found[name], expected[foreign], rtol=1e-4, atol=1e-6)
    assert found["box"] > 0
    (own,) = torch.autograd.grad(sum(found.values()), ours.get_parameter("neck.inner_blocks.1.0.weight"))  # type: ignore[arg-type]
    (foreign,) = torch.autograd.grad(
        sum(expected.values()), theirs.get_parameter("backbone.fpn.inner_blocks.1.0.weight")
    )
    torch.testing.assert_close(own, foreign, rtol=1e-3, atol=1e-5)


def test_detections_are_torchvisions(pair: tuple[FasterRCNN, Any, Tensor]) -> None:
    ours, theirs, images = pair
    with torch.no_grad():
        listed, features = torchvision_features(theirs, images)
        proposals, _ = theirs.rpn(listed, features)
        expected, _ = theirs.roi_heads(features, proposals, listed.image_sizes)
        scores, boxes = ours.candidates(ours(images), SIZE)
    assert scores.shape == (2, *ours.counts(SIZE), 4)
    assert boxes.shape == (2, *ours.counts(SIZE), 4, 4)
    for image in range(2):
        found = select(scores[image], boxes[image], ours.counts(SIZE), ours.selection)
        assert len(found) == len(expected[image]["scores"]) >= 10
        torch.testing.assert_close(found.scores, expected[image]["scores"], rtol=1e-4, atol=1e-5)
        assert torch.equal(found.labels + 1, expected[image]["labels"])
        # Scores that differ in their last bits only may be in another order: each box is held against its nearest.
        apart = (found.boxes[:, None] - expected[image]["boxes"][None]).abs().amax(dim=2)
        apart[found.labels[:, None] + 1 != expected[image]["labels"]] = torch.inf
        nearest = apart.min(dim=1)
        assert nearest.values.max() < 5e-3
        assert len(nearest.indices.unique()) == len(found)


def test_the_published_files_older_names_are_known(pair: tuple[FasterRCNN, Any, Tensor], tmp_path: Path) -> None:
    """Files written before its blocks became sequences: torchvision renames them while loading, so do we."""
    ours, theirs, _ = pair
    state = {}
    for name, tensor in theirs.state_dict().items():
        if name.startswith(("backbone.fpn.inner_blocks", "backbone.fpn.layer_blocks")):
            name = name.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        state[name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")] = tensor
    torch.save(state, tmp_path / "old.pth")
    fresh = build(backbone="resnet50", width=1.0, fpn_channels=256, head_channels=1024)
    report = load_weights(fresh, tmp_path / "old.pth", strict=True)
    assert report.layout == "torchvision"
    assert not report.unexpected
    with pytest.raises(CoreError, match="are for 4 classes, but 6 are needed"):
        load_weights(
            build(6, backbone="resnet50", width=1.0, fpn_channels=256, head_channels=1024),
            tmp_path / "old.pth",
            strict=True,
        )
    assert torch.equal(fresh.neck.inner_blocks[0][0].weight, ours.neck.inner_blocks[0][0].weight)  # type: ignore[index,union-attr]


def test_padding_gives_no_proposals_and_is_not_drawn() -> None:
    torch.manual_seed(0)
    model = build().eval()
    images = torch.rand(1, 3, 128, 192)
    with torch.no_grad():
        out = model(images)
        found = model._proposer.propose(out.raw.proposals, (128, 192), [(60, 100)], TRAIN_LIMIT)
        inside = found.boxes[found.real]
        assert len(inside) > 10
        assert inside[:, 2].max() <= 100
        assert inside[:, 3].max() <= 60
        _, boxes = model.candidates(out, (128, 192), [(60, 100)])
        assert boxes[..., 2].max() <= 100
        # What the network says of the padding does not matter to the loss.
        wild = [one.clone() for one in out.raw.proposals.objectness]
        for one, stride in zip(wild, (4, 8, 16, 32, 64), strict=True):
            one[:, :, -(-60 // stride) :] = 50.0
        spoilt = ModelOutput({}, raw=type(out.raw)(out.raw.levels, out.raw.proposals, (128, 192)))
        spoilt.raw.proposals = type(out.raw.proposals)(out.raw.proposals.levels, wild, out.raw.proposals.offsets)
        terms = []
        for one in (out, spoilt):
            torch.manual_seed(3)
            terms.append(model.loss(one, [0], [torch.tensor([[8.0, 8, 40, 40]])], [torch.tensor([1])], [(60, 100)]))
        assert terms[0]["objectness"] == terms[1]["objectness"]


def test_a_batch_without_labels_has_zero_losses_with_a_graph() -> None:
    model = build().train()
    terms = model.loss(model(torch.rand(1, 3, 64, 64)), [], [], [])
    assert [float(value.detach()) for value in terms.values()] == [0.0] * 4
    torch.stack(list(terms.values())).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_odd_inputs_and_few_proposals() -> None:
    model = build().eval()
    size = (50, 70)
    with torch.no_grad():
        scores, boxes = model.candidates(model(torch.rand(2, 3, *size)), size)
    assert scores.shape[1:] == (*model.counts(size), 4)
    assert model.counts(size)[0] < TEST_LIMIT == model.counts((800, 800))[0]
    assert (boxes[..., 2] <= 70).all()
    assert (boxes[..., 3] <= 50).all()


def test_neck_and_heads_are_inherited_and_stages_frozen() -> None:
    torch.manual_seed(0)
    student, teacher = build(), build(backbone="resnet18", width=1.0)
    assert inherit(student, teacher, "head").startswith("14 of 14")
    # The 1x1 laterals depend on the backbone; the 3x3 convolutions do not.
    assert inherit(student, teacher, "neck").startswith("12 of 16")
    student.freeze(2, norm=True)
    student.train()
    torch.manual_seed(1)
    terms = student.loss(
        student(torch.rand(1, 3, 96, 96)), [0], [torch.tensor([[8.0, 8, 60, 60]])], [torch.tensor([1])]
    )
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None for p in student.backbone.stages()[1].parameters())
    assert all(p.grad is not None for p in student.box_head.parameters())
    assert not any(m.training for m in student.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_torchvision_stays_what_this_was_compared_with() -> None:
    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=5)
    assert (theirs.rpn._pre_nms_top_n, theirs.rpn._post_nms_top_n) == (
        {"training": TRAIN_LIMIT, "testing": TEST_LIMIT}, {"training": TRAIN_LIMIT, "testing": TEST_LIMIT},
    )  # fmt: skip
    assert torchvision.ops.nms is not None
