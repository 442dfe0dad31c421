"""RetinaNet against the papers' counts and torchvision's own network, on equal weights and inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from acamkd_core.models.anchors import decode, encode
from acamkd_core.models.base import ModelOutput
from acamkd_core.models.matching import match_anchors
from acamkd_core.models.registry import build_model
from acamkd_core.models.retinanet import AnchorMaps, RetinaNet
from acamkd_core.models.weights import inherit, load_weights
from acamkd_core.spec.archs import RetinaNetArch
from acamkd_core.spec.catalog import levels_of
from acamkd_core.spec.errors import CoreError
from acamkd_core.tasks.detection_decode import select
from acamkd_core.torchvision_compat import torchvision

# isort: split
from torchvision.models.detection import retinanet_resnet50_fpn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.image_list import ImageList

SIZE = (128, 256)  # torchvision takes strides from sizes: only multiples of 128 give its p7 the nominal one
TINY: dict[str, Any] = {
    "family": "retinanet",
    "backbone": "mobilenet_v2",
    "width": 0.35,
    "fpn_channels": 16,
    "head_depth": 1,
}


def build(classes: int = 4, **fields: Any) -> RetinaNet:
    model = build_model(RetinaNetArch(**{**TINY, **fields}), num_classes=classes)
    assert isinstance(model, RetinaNet)
    return model


def count(**fields: Any) -> int:
    with torch.device("meta"):
        model = build_model(RetinaNetArch(family="retinanet", **fields), num_classes=80)
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameter_counts() -> None:
    # The papers' RetinaNet-R50 (P6 from C5) and torchvision's, at COCO's 80 classes, batch norm counted.
    assert count(p6_from="c5") == 37_968_692
    assert count(p6_from="p5") == 33_839_924
    # What torchvision publishes is of 91 classes and counts no batch norm (it is frozen there).
    with torch.device("meta"):
        model = build_model(RetinaNetArch(family="retinanet", p6_from="p5"), num_classes=91)
    norms = sum(p.numel() for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters())
    assert sum(p.numel() for p in model.parameters()) - norms == 34_014_999


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[RetinaNet, Any, Tensor]:
    """Ours and torchvision's with the same weights (carried over by the importer), and a batch of images."""
    torch.manual_seed(0)
    theirs = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4).eval()
    torch.nn.init.normal_(theirs.head.classification_head.cls_logits.weight, std=0.05)  # so that something is found
    torch.nn.init.constant_(theirs.head.classification_head.cls_logits.bias, -2.0)
    path = tmp_path_factory.mktemp("weights") / "retinanet.pth"
    torch.save(theirs.state_dict(), path)
    ours = build(backbone="resnet50", width=1.0, fpn_channels=256, head_depth=4, p6_from="p5", anchor_rounding=True)
    report = load_weights(ours, path, layout="torchvision", strict=True)
    assert not report.unexpected
    assert not report.missing
    return ours.eval(), theirs, torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def torchvision_outputs(theirs: Any, images: Tensor) -> tuple[list[Tensor], dict[str, Tensor], list[Tensor]]:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (images - mean[:, None, None]) / std[:, None, None]
    features = list(theirs.backbone(normalised).values())
    anchors = theirs.anchor_generator(ImageList(normalised, [SIZE] * len(images)), features)
    return features, theirs.head(features), anchors


TARGETS = [
    {
        "boxes": torch.tensor([[10.0, 12, 60, 70], [100, 20, 180, 110], [200, 90, 214, 101]]),
        "labels": torch.tensor([0, 3, 1]),
    },
    {"boxes": torch.tensor([[30.0, 30, 90, 120]]), "labels": torch.tensor([2])},
]


def test_losses_and_gradients_are_torchvisions(pair: tuple[RetinaNet, Any, Tensor]) -> None:
    ours, theirs, images = pair
    _, head, anchors = torchvision_outputs(theirs, images)
    expected = theirs.compute_loss(TARGETS, head, anchors)
    found = ours.loss(ours(images), [0, 1], [t["boxes"] for t in TARGETS], [t["labels"] for t in TARGETS])
    torch.testing.assert_close(found["class"], expected["classification"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["box"], expected["bbox_regression"], rtol=1e-5, atol=1e-6)
    name = ("neck.extra_blocks.p6.weight", "backbone.fpn.extra_blocks.p6.weight")
    (own,) = torch.autograd.grad(sum(found.values()), ours.get_parameter(name[0]))  # type: ignore[arg-type]
    (foreign,) = torch.autograd.grad(sum(expected.values()), theirs.get_parameter(name[1]))
    torch.testing.assert_close(own, foreign, rtol=1e-3, atol=1e-6)


def test_detections_are_torchvisions(pair: tuple[RetinaNet, Any, Tensor]) -> None:
    ours, theirs, images = pair
    with torch.no_grad():
        features, head, anchors = torchvision_outputs(theirs, images)
        counts = [f.shape[2] * f.shape[3] * 9 for f in features]
        split = {name: list(value.split(counts, dim=1)) for name, value in head.items()}
        expected = theirs.postprocess_detections(split, [list(a.split(counts)) for a in anchors], [SIZE] * 2)
        scores, boxes = ours.candidates(ours(images), SIZE)
    assert ours.counts(SIZE) == counts
    for image in range(2):
        found = select(scores[image], boxes[image], counts, ours.selection)
        assert len(found) == 100
        torch.testing.assert_close(found.scores, expected[image]["scores"][:100])
        assert torch.equal(found.labels, expected[image]["labels"][:100])
        torch.testing.assert_close(found.boxes, expected[image]["boxes"][:100], rtol=1e-4, atol=1e-3)


def test_padding_is_neither_trained_on_nor_found(pair: tuple[RetinaNet, Any, Tensor]) -> None:
    """The loss of a padded batch is that of its maps without the padding's positions; no box reaches into it."""
    ours, _, images = pair
    boxes, labels = [t["boxes"] for t in TARGETS], [t["labels"] for t in TARGETS]
    with torch.no_grad():
        out = ours(torch.nn.functional.pad(images, (0, 128, 0, 128)))
        maps = [(SIZE[0] // stride, SIZE[1] // stride) for stride, _ in ours.grid]
        cut = [
            [one[:, :, :rows, :columns] for one, (rows, columns) in zip(kind, maps, strict=True)]
            for kind in (out.raw.classes, out.raw.offsets)
        ]
        bare = ModelOutput({}, raw=AnchorMaps(out.raw.levels, *cut))
        found = ours.loss(out, [0, 1], boxes, labels, [SIZE, SIZE])
        expected = ours.loss(bare, [0, 1], boxes, labels)
        unmasked = ours.loss(out, [0, 1], boxes, labels)
        input_size = (SIZE[0] + 128, SIZE[1] + 128)
        _, free = ours.candidates(out, input_size)
        _, kept = ours.candidates(out, input_size, [SIZE, None])
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    assert abs(float(unmasked["class"] - expected["class"])) > 1e-4
    assert free[0, :, 2].max() > SIZE[1]
    assert kept[0, :, 2].max() == SIZE[1]
    assert kept[0, :, 3].max() == SIZE[0]
    assert torch.equal(kept[1], free[1])


def test_offsets_are_torchvisions_and_decode_undoes_them() -> None:
    generator = torch.Generator().manual_seed(2)
    corner = torch.rand(2, 30, 2, generator=generator) * 50
    anchors, boxes = (torch.cat([one, one + 2 + 30 * torch.rand(30, 2, generator=generator)], 1) for one in corner)
    weights = (10.0, 10.0, 5.0, 5.0)
    coder = BoxCoder(weights)
    offsets = encode(boxes, anchors, weights)
    torch.testing.assert_close(offsets, coder.encode_single(boxes, anchors))
    torch.testing.assert_close(decode(offsets, anchors, weights), boxes, rtol=1e-4, atol=1e-3)
    wild = offsets * 30
    torch.testing.assert_close(decode(wild, anchors, weights), coder.decode_single(wild, anchors), rtol=1e-4, atol=1e-2)


def test_matching_is_torchvisions() -> None:
    anchors = build().anchors(range(5), [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)], torch.device("cpu"))
    boxes = torch.tensor([[3.0, 5, 30, 40], [50, 10, 95, 60], [2, 50, 8, 58], [0, 0, 1, 1]])
    wanted = Matcher(0.5, 0.4, allow_low_quality_matches=True)(torchvision.ops.box_iou(boxes, anchors))
    found = match_anchors(boxes, anchors, 0.5, 0.4)
    assert torch.equal(found, wanted)
    assert set(found.tolist()) >= {-1, 0, 1, 2}, "the case has all kinds"
    assert set(match_anchors(boxes[:0], anchors, 0.5, 0.4).tolist()) == {-1}


def test_images_without_objects_or_labels() -> None:
    model = build()
    out = model(torch.rand(2, 3, 64, 96))
    empty = model.loss(out, [0, 1], [torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.long)] * 2)
    assert empty["class"].item() > 0
    assert empty["box"].item() == 0
    nothing = model.loss(out, [], [], [])
    assert [value.item() for value in nothing.values()] == [0, 0]
    sum(nothing.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and not p.grad.any() for p in model.box_head.parameters())


@pytest.mark.parametrize("size", [(64, 96), (50, 70)])
def test_levels_are_what_they_say(size: tuple[int, int]) -> None:
    model = build().eval()
    facts = levels_of(RetinaNetArch(**TINY), 4)
    assert [(f.name, f.channels, f.stride) for f in facts] == [
        (n, v.channels, v.stride) for n, v in model.levels.items()
    ]
    with torch.no_grad():
        out = model(torch.rand(1, 3, *size))
        scores, boxes = model.candidates(out, size)
    for name, level in model.levels.items():
        assert out.features[name].shape[1:] == (level.channels, *(-(-side // level.stride) for side in size))
    assert scores.shape == (1, sum(model.counts(size)), 4)
    assert boxes.shape == (1, sum(model.counts(size)), 4)
    assert 0.005 < float(scores.mean()) < 0.02, "an untrained head gives every class its prior of 0.01"


def test_going_on_from_the_pyramid_is_the_network() -> None:
    model = build().eval()
    with torch.no_grad():
        out = model(torch.rand(1, 3, 64, 96))
        names = [name for name, level in model.levels.items() if level.onward]
        assert names == ["p3", "p4", "p5", "p6", "p7"]
        (entered,) = model.onward({name: out.features[name] for name in names})
        assert all(torch.equal(a, b) for a, b in zip(entered.raw.classes, out.raw.classes, strict=True))
        (some,) = model.onward({"p4": out.features["p4"]})
    terms = model.loss(ModelOutput({}, raw=some.raw), [0], [torch.tensor([[8.0, 8, 40, 40]])], [torch.tensor([1])])
    assert all(torch.isfinite(value) for value in terms.values())


def test_frozen_stages_and_norms_stay_as_they_are() -> None:
    model = build()
    model.freeze(2, norm=True)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    out = model(torch.rand(2, 3, 64, 64))
    sum(model.loss(out, [0], [torch.tensor([[8.0, 8, 40, 40]])], [torch.tensor([1])]).values()).backward()  # type: ignore[union-attr]
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    stages = [f"backbone.features.{index}." for index in range(7)]
    assert not [name for name in changed if name.startswith(tuple(stages))]
    assert not [name for name in changed if "running" in name]
    assert any(name.startswith("backbone.features.7.") for name in changed)


def test_neck_and_head_are_inherited_where_they_fit() -> None:
    teacher, student = build(width=0.5), build(width=0.35)
    said = inherit(student, teacher, "neck")
    own, theirs = student.neck.state_dict(), teacher.neck.state_dict()
    same = (
        [name for name, value in own.items() if torch.equal(value, theirs[name])] if own.keys() == theirs.keys() else []
    )
    assert "inner_blocks.1.0.weight" not in same  # other channels
    assert {"layer_blocks.0.0.weight", "extra_blocks.p7.weight"} <= set(same)
    assert said.startswith(f"{len([n for n in own if theirs[n].shape == own[n].shape])} of {len(own)}")
    inherit(student, teacher, "head")
    assert all(torch.equal(v, teacher.box_head.state_dict()[n]) for n, v in student.box_head.state_dict().items())
    with pytest.raises(CoreError, match="no tensor of the teacher's head fits"):
        inherit(build(fpn_channels=24, classes=5), teacher, "head")
