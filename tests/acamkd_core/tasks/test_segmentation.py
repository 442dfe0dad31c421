"""Loss, metric and decoding against loops in NumPy float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from acamkd_core.datasets.base import ClassInfo
from acamkd_core.models.base import ModelOutput
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.job import OhemSpec, TaskLossSpec
from acamkd_core.tasks.segmentation import SegmentationTask
from acamkd_core.tasks.segmentation_scales import averaged_probabilities

CLASSES = [ClassInfo(i, name, (40 * i, 10, 200 - 30 * i)) for i, name in enumerate(("a", "b", "c", "d"))]
MODEL = nn.Identity()


def _loop_iou(prediction: np.ndarray, target: np.ndarray, classes: int, ignore: int) -> list[float | None]:
    scores: list[float | None] = []
    for k in range(classes):
        both = either = 0
        for p, t in zip(prediction.ravel(), target.ravel(), strict=True):
            if t == ignore:
                continue
            both += p == k and t == k
            either += p == k or t == k
        scores.append(100 * both / either if either else None)
    return scores


def _loop_cross_entropy(logits: np.ndarray, target: np.ndarray, weights: list[float], ignore: int) -> float:
    total = mass = 0.0
    for n in range(target.shape[0]):
        for y in range(target.shape[1]):
            for x in range(target.shape[2]):
                k = target[n, y, x]
                if k == ignore:
                    continue
                row = logits[n, :, y, x]
                log_sum = row.max() + np.log(np.exp(row - row.max()).sum())
                total += weights[k] * (log_sum - row[k])
                mass += weights[k]
    return total / mass


def _bilinear(logits: np.ndarray, size: tuple[int, int], corners: bool) -> np.ndarray:
    n, c, height, width = logits.shape
    out = np.zeros((n, c, *size))
    for y in range(size[0]):
        for x in range(size[1]):
            if corners:
                sy, sx = y * (height - 1) / (size[0] - 1), x * (width - 1) / (size[1] - 1)
            else:
                sy, sx = max(0, (y + 0.5) * height / size[0] - 0.5), max(0, (x + 0.5) * width / size[1] - 0.5)
            y0, x0 = int(sy), int(sx)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            fy, fx = sy - y0, sx - x0
            out[:, :, y, x] = (1 - fy) * ((1 - fx) * logits[:, :, y0, x0] + fx * logits[:, :, y0, x1]) + fy * (
                (1 - fx) * logits[:, :, y1, x0] + fx * logits[:, :, y1, x1]
            )
    return out


def test_miou_equals_a_loop_over_batches() -> None:
    rng = np.random.default_rng(0)
    target = rng.choice([0, 1, 2, 7], p=[0.5, 0.3, 0.1, 0.1], size=(3, 9, 11))  # class 3 never occurs
    prediction = np.where(rng.random(target.shape) < 0.6, target % 4, rng.integers(0, 3, target.shape))
    prediction[target == 7] = 3  # predicted only where nobody looks
    metric = SegmentationTask(CLASSES, 7).metric()
    for row in range(3):
        metric.update(torch.from_numpy(prediction[row : row + 1]), torch.from_numpy(target[row : row + 1]))
    summary, per_class = metric.compute()
    expected = _loop_iou(prediction, target, 4, 7)
    assert expected[3] is None
    assert per_class["d"] is None
    present = [value for value in expected if value is not None]
    for ours, theirs in zip(list(per_class.values())[:3], present, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-12)
    assert summary["miou"] == pytest.approx(np.mean(present), abs=1e-12)
    scored = target != 7
    assert summary["pixel_accuracy"] == pytest.approx(100 * (prediction == target)[scored].mean(), abs=1e-12)


def test_a_class_that_is_only_predicted_scores_zero() -> None:
    metric = SegmentationTask(CLASSES, 255).metric()
    metric.update(torch.tensor([[[0, 0, 1, 3]]]), torch.tensor([[[0, 0, 1, 1]]], dtype=torch.uint8))
    summary, per_class = metric.compute()
    assert per_class == {"a": 100.0, "b": 50.0, "c": None, "d": 0.0}
    assert summary["miou"] == 50.0
    with pytest.raises(ValueError, match="differ in shape"):
        metric.update(torch.zeros(1, 2, 2), torch.zeros(1, 2, 3))
    assert SegmentationTask(CLASSES, 255).metric().compute()[0]["miou"] == 0.0


def test_metric_is_exact_for_counts_that_floats_lose() -> None:
    metric = SegmentationTask(CLASSES[:2], 255).metric()
    metric.counts += torch.tensor([[2**60, 1], [0, 1]])
    metric.update(torch.tensor([[[0]]]), torch.tensor([[[0]]]))
    assert int(metric.counts[0, 0]) == 2**60 + 1


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("weights", [None, (1.0, 0.5, 3.0, 0.0)])
def test_loss_and_decode_equal_loops(corners: bool, weights: tuple[float, ...] | None) -> None:
    rng = np.random.default_rng(1)
    raw, aux = rng.normal(0, 2, (2, 4, 3, 4)), rng.normal(0, 2, (2, 4, 2, 2))
    target = rng.choice([0, 1, 2, 3, 9], size=(2, 7, 10))
    spec = TaskLossSpec(class_weights=weights, aux_weight=0.3, weight=2.0)
    task = SegmentationTask(CLASSES, 9, loss=spec)
    model = nn.Identity()
    model.align_corners = corners  # type: ignore[assignment]
    out = ModelOutput({}, torch.tensor(raw, dtype=torch.float32), torch.tensor(aux, dtype=torch.float32))
    terms = task.loss(model, out, torch.tensor(target, dtype=torch.uint8))
    factors = list(weights or (1.0,) * 4)
    big = _bilinear(raw, (7, 10), corners)
    expected = 2 * _loop_cross_entropy(big, target, factors, 9)
    expected_aux = 0.6 * _loop_cross_entropy(_bilinear(aux, (7, 10), corners), target, factors, 9)
    assert set(terms) == {"task", "aux"}
    assert float(terms["task"]) == pytest.approx(expected, rel=2e-6)
    assert float(terms["aux"]) == pytest.approx(expected_aux, rel=2e-6)
    np.testing.assert_array_equal(task.decode(model, out, (7, 10)).numpy(), big.argmax(1))


def test_loss_is_computed_in_fp32_under_autocast() -> None:
    raw = torch.randn(1, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(1, 5, 5, dtype=torch.uint8)
    task = SegmentationTask(CLASSES, 255)
    plain = task.loss(MODEL, ModelOutput({}, raw), target)["task"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = task.loss(MODEL, ModelOutput({}, raw), target)["task"]
        half = task.loss(MODEL, ModelOutput({}, raw.bfloat16()), target)["task"]
    assert mixed.dtype == half.dtype == torch.float32
    assert torch.equal(plain, mixed)


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 3.0, 4.0)])
def test_a_batch_without_labels_costs_nothing(weights: tuple[float, ...] | None) -> None:
    raw = torch.randn(2, 4, 3, 3, requires_grad=True)
    task = SegmentationTask(CLASSES, 9, loss=TaskLossSpec(class_weights=weights))
    loss = task.loss(MODEL, ModelOutput({}, raw), torch.full((2, 6, 6), 9, dtype=torch.uint8))["task"]
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert raw.grad is not None
    assert not raw.grad.any()


def test_constant_score_is_what_the_metric_gives_the_best_constant() -> None:
    rng = np.random.default_rng(3)
    targets = [torch.from_numpy(rng.choice([0, 1, 3, 9], p=[0.2, 0.5, 0.2, 0.1], size=(2, 5, 6))) for _ in range(2)]
    task = SegmentationTask(CLASSES, 9)
    scores = []
    for constant in range(4):
        metric = task.metric()
        for target in targets:
            metric.update(torch.full_like(target, constant), target)
        scores.append(metric.compute()[0]["miou"])
    assert task.constant_score(targets) == pytest.approx(max(scores), abs=1e-12)
    assert task.constant_score(torch.cat(targets)) == pytest.approx(max(scores), abs=1e-12)


def test_mistakes_of_the_user() -> None:
    with pytest.raises(CoreError, match="2 class weights for 4 classes"):
        SegmentationTask(CLASSES, 255, loss=TaskLossSpec(class_weights=(1.0, 2.0)))
    out = ModelOutput({}, torch.zeros(1, 5, 2, 2))
    with pytest.raises(CoreError, match="5 output channels, the dataset 4 classes"):
        SegmentationTask(CLASSES, 255).loss(MODEL, out, torch.zeros(1, 2, 2, dtype=torch.uint8))


def _loop_ohem(
    logits: np.ndarray, target: np.ndarray, weights: list[float], threshold: float, wanted: int
) -> tuple[float, int]:
    """(loss, pixels kept), ignore id 9."""
    pixels = []
    for n in range(target.shape[0]):
        for y in range(target.shape[1]):
            for x in range(target.shape[2]):
                if target[n, y, x] != 9:
                    powers = np.exp(logits[n, :, y, x])
                    pixels.append((powers[target[n, y, x]] / powers.sum(), weights[target[n, y, x]]))
    pixels.sort()
    kept = [pixel for rank, pixel in enumerate(pixels) if pixel[0] < threshold or rank < wanted]
    return sum(-w * np.log(p) for p, w in kept) / sum(w for _, w in kept), len(kept)


@pytest.mark.parametrize("weights", [None, (1.0, 0.5, 3.0, 2.0)])
@pytest.mark.parametrize(("threshold", "min_kept"), [(0.7, 1), (0.05, 20), (0.3, 1000), (1.0, 1)])
def test_ohem_equals_loops(threshold: float, min_kept: int, weights: tuple[float, ...] | None) -> None:
    rng = np.random.default_rng(4)
    raw, target = rng.normal(0, 2, (2, 4, 6, 7)), rng.choice([0, 1, 2, 3, 9], size=(2, 6, 7))
    logits = torch.tensor(raw, dtype=torch.float32, requires_grad=True)
    spec = TaskLossSpec(class_weights=weights, ohem=OhemSpec(threshold=threshold, min_kept=min_kept))
    task = SegmentationTask(CLASSES, 9, loss=spec)
    out = ModelOutput({}, logits, torch.tensor(raw, dtype=torch.float32))
    terms = task.loss(MODEL, out, torch.tensor(target, dtype=torch.uint8))
    expected, kept = _loop_ohem(raw, target, list(weights or (1.0,) * 4), threshold, 2 * min_kept)
    assert float(terms["task"].detach()) == pytest.approx(expected, rel=2e-6)
    terms["task"].backward()
    assert logits.grad is not None
    assert int(logits.grad.abs().sum(dim=1).bool().sum()) == kept, "easy pixels teach nothing"
    plain = SegmentationTask(CLASSES, 9, loss=TaskLossSpec(class_weights=weights)).loss(
        MODEL, out, torch.tensor(target, dtype=torch.uint8)
    )
    assert float(terms["aux"].detach()) == float(plain["aux"].detach()), "the auxiliary head sees all pixels"
    if min_kept == 1000:
        assert float(terms["task"].detach()) == pytest.approx(float(plain["task"].detach()), rel=1e-6)


def test_ohem_without_labels_costs_nothing() -> None:
    raw = torch.randn(2, 4, 3, 3, requires_grad=True)
    task = SegmentationTask(CLASSES, 9, loss=TaskLossSpec(ohem=OhemSpec()))
    loss = task.loss(MODEL, ModelOutput({}, raw), torch.full((2, 6, 6), 9, dtype=torch.uint8))["task"]
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert raw.grad is not None
    assert not raw.grad.any()


class _Strided(nn.Module):
    """Class scores at a third of the size, which depend on where an edge lies: mirrored images give other ones."""

    align_corners = False

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=3, padding=1)
        nn.init.normal_(self.conv.weight, std=1.0)

    def forward(self, images: torch.Tensor) -> ModelOutput:
        return ModelOutput({}, self.conv(images))


def test_several_scales_and_mirrored_images_are_averaged_as_probabilities() -> None:
    torch.manual_seed(0)
    model, scales, size = _Strided(), (0.5, 1.0, 1.75), (12, 10)
    image = torch.rand(1, 3, *size)
    wanted = np.zeros((4, *size))
    with torch.no_grad():
        for scale in scales:
            shape = (round(size[1] * scale), round(size[0] * scale))
            # Pillow resizes each channel by itself: bilinear, and with anti-aliasing where it shrinks.
            planes = [Image.fromarray(plane).resize(shape, Image.Resampling.BILINEAR) for plane in image[0].numpy()]
            view = np.stack([np.asarray(plane) for plane in planes])
            for mirrored in (False, True):
                shown = torch.from_numpy(view[:, :, ::-1].copy() if mirrored else view)[None]
                scores = _bilinear(model(shown).raw.double().numpy(), size, False)[0]
                scores = scores[:, :, ::-1] if mirrored else scores
                wanted += np.exp(scores) / np.exp(scores).sum(axis=0) / (2 * len(scales))
        task = SegmentationTask(CLASSES, 9)
        found = averaged_probabilities(lambda view: task.scores(model, model(view), size), image, scales, flip=True)
        np.testing.assert_allclose(found[0].numpy(), wanted, atol=2e-6)
        ids = task.averaged(model, image, scales=scales, flip=True)
        np.testing.assert_array_equal(ids[0].numpy(), wanted.argmax(axis=0))
        plain = task.decode(model, model(image), size)
        assert torch.equal(task.averaged(model, image, scales=(1.0,), flip=False), plain)
        assert not torch.equal(ids, plain), "it matters here"
