"""Class scores of a teacher in the dataset's classes, against loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from acamkd_core.models.base import Level, ModelOutput, TaskModel
from acamkd_core.models.mapped import UNKNOWN, MappedDetector, MappedSegmenter, join_logits, join_probabilities
from acamkd_core.models.registry import build_model
from acamkd_core.models.retinanet import RetinaNet
from acamkd_core.spec.archs import RetinaNetArch

COLUMNS = [(2,), (), (0, 3), (4,)]


def test_logits_against_loops() -> None:
    scores = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    found = join_logits(scores, COLUMNS)
    assert found.shape == (2, 3, 3, 4)
    for n in range(2):
        for y in range(3):
            for x in range(4):
                s = [float(v) for v in scores[n, :, y, x]]
                wanted = [s[2], math.log(math.exp(s[0]) + math.exp(s[3])), s[4]]
                assert found[n, :, y, x].tolist() == pytest.approx(wanted, rel=1e-6)
    # Joining under a softmax is adding up probabilities.
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4]).view(1, 4, 1, 1)
    joined = join_logits(shares.log(), [(0, 3), (1,), (2,)]).softmax(dim=1).flatten()
    assert joined.tolist() == pytest.approx([0.5, 0.2, 0.3])


def test_probabilities_against_loops() -> None:
    scores, boxes = torch.rand(2, 7, 5), torch.rand(2, 7, 4)
    own = torch.rand(2, 7, 5, 4)  # a box for each class
    found, same = join_probabilities(scores, boxes, COLUMNS)
    again, chosen = join_probabilities(scores, own, COLUMNS)
    assert same is boxes
    assert torch.equal(found, again)
    for n in range(2):
        for a in range(7):
            s = scores[n, a].tolist()
            assert found[n, a].tolist() == pytest.approx([s[2], 0.0, max(s[0], s[3]), s[4]])
            surest = 0 if s[0] > s[3] else 3
            assert torch.equal(chosen[n, a, [0, 2, 3]], own[n, a, [2, surest, 4]])


class Fixed(TaskModel):
    """Scores that are the image's own first channels."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = {"c5": Level(3, 1), "logits": Level(3, 1, onward=True)}
        self.align_corners = True
        self.classifier = nn.Identity()

    def forward(self, images: Tensor) -> ModelOutput:
        return ModelOutput({"c5": images, "logits": images}, raw=images)

    def onward(self, replaced: dict[str, Tensor]) -> list[ModelOutput]:
        return [ModelOutput({}, raw=value) for value in replaced.values()]

    @property
    def head(self) -> nn.Module:
        return self.classifier


def test_a_segmenter_has_the_classes_it_knows_as_level_and_all_as_scores() -> None:
    inner = Fixed()
    model = MappedSegmenter(inner, [(), (2,), (0,)])
    images = torch.rand(2, 3, 4, 5)
    out = model(images)
    assert (model.levels["logits"].channels, model.levels["c5"], model.compared) == (2, inner.levels["c5"], [1, 2])
    assert torch.equal(out.features["logits"], images[:, [2, 0]])
    assert out.features["c5"] is images
    assert torch.equal(out.raw[:, 1:], images[:, [2, 0]])
    assert (out.raw[:, 0] == UNKNOWN).all()
    assert torch.finfo(torch.float16).min < UNKNOWN
    assert not (out.raw.argmax(1) == 0).any()
    assert (model.align_corners, model.head) == (True, inner.head)
    on = model.onward({"c5": images, "logits": images[:, :2]})
    assert torch.equal(on[0].raw, out.raw)
    assert torch.equal(on[1].raw[:, 1:], images[:, :2])


class Flat(Fixed):
    """A classifier: scores NK, and as a level of one position."""

    def forward(self, images: Tensor) -> ModelOutput:
        scores = images.mean((2, 3))
        return ModelOutput({"logits": scores[:, :, None, None]}, raw=scores)


def test_a_classifiers_scores_stay_flat() -> None:
    images = torch.rand(2, 3, 4, 5)
    out = MappedSegmenter(Flat(), [(2,), (), (0, 1)])(images)
    scores = images.mean((2, 3))
    assert (out.raw.shape, out.features["logits"].shape) == ((2, 3), (2, 2, 1, 1))
    assert torch.equal(out.raw[:, 0], scores[:, 2])
    assert torch.allclose(out.features["logits"][:, 1, 0, 0], scores[:, :2].exp().sum(1).log())


def test_a_detector_whose_classes_are_permuted_finds_what_the_other_finds() -> None:
    arch = RetinaNetArch(family="retinanet", backbone="mobilenet_v2", width=0.35, fpn_channels=16, head_depth=1)
    torch.manual_seed(0)
    own = build_model(arch, num_classes=4).eval()
    other = build_model(arch, num_classes=4).eval()
    assert isinstance(own, RetinaNet)
    assert isinstance(other, RetinaNet)
    order = [2, 0, 3, 1]  # the other's channel k is our class order[k]
    state = own.state_dict()
    for name, tensor in state.items():
        if tensor.shape[:1] == (9 * 4,) and tensor.numel() and "class" in name:  # nine anchors of four classes
            state[name] = tensor.view(9, 4, *tensor.shape[1:])[:, order].flatten(0, 1)
    assert any(not torch.equal(state[name], tensor) for name, tensor in own.state_dict().items())
    other.load_state_dict(state)
    model = MappedDetector(other, [(order.index(k),) for k in range(4)])
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        wanted = own.candidates(own(images), (64, 96), [(64, 96), (50, 70)])
        plain, _ = other.candidates(other(images), (64, 96))
        found = model.candidates(model(images), (64, 96), [(64, 96), (50, 70)])
    assert torch.allclose(found[0], wanted[0], atol=1e-6)
    assert torch.allclose(found[1], wanted[1])
    assert not torch.allclose(plain, wanted[0], atol=1e-6)
    assert model.counts((64, 96)) == own.counts((64, 96))
    assert model.levels == own.levels
