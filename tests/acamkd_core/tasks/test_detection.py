"""Detection: samples whose boxes stay on painted objects, choice among candidates, COCO mAP, pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from acamkd_core.coco_score import Found, coco_scores
from acamkd_core.datasets.base import Boxes, ClassInfo, Sample
from acamkd_core.exports import predict
from acamkd_core.models.base import Selection
from acamkd_core.spec.augment import AugmentSpec, ResizeSpec
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.job import TaskLossSpec
from acamkd_core.tasks.box_pictures import found_by
from acamkd_core.tasks.detection import DetectionTask
from acamkd_core.tasks.detection_augment import MIN_VISIBLE, PAD_COLOR
from acamkd_core.tasks.detection_decode import Detections, select
from acamkd_core.torchvision_compat import torchvision

CLASSES = [ClassInfo(1, "red", (200, 0, 0)), ClassInfo(2, "green", (0, 200, 0))]
PAINT = np.array([(255, 0, 0), (0, 255, 0)], dtype=np.uint8)


def truth(rows: list[tuple[float, float, float, float, int]], crowd: list[bool] | None = None) -> Boxes:
    boxes = np.array([row[:4] for row in rows], dtype=np.float32).reshape(-1, 4)
    return Boxes(
        boxes, np.array([row[4] for row in rows], dtype=np.int64),
        np.array(crowd or [False] * len(rows), dtype=bool), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
    )  # fmt: skip


def painted(seed: int, size: tuple[int, int] = (60, 80)) -> Sample:
    """Two objects on black, one of each class, in their own columns."""
    rng = np.random.default_rng(seed)
    image = np.zeros((*size, 3), dtype=np.uint8)
    rows: list[tuple[float, float, float, float, int]] = []
    for label in range(2):
        x = int(rng.integers(2, 14)) + 40 * label
        y, width, height = int(rng.integers(2, 30)), int(rng.integers(10, 22)), int(rng.integers(10, 25))
        image[y : y + height, x : x + width] = PAINT[label]
        rows.append((x, y, x + width, y + height, label))
    return Sample(image, truth(rows))


@pytest.mark.parametrize(
    "spec",
    [
        {}, {"flip": 1.0}, {"size": (90, 60), "flip": 0}, {"scale": (0.5, 2.0), "crop": (60, 80)},
        {"size": (45, 70), "scale": (0.7, 1.6), "crop": (48, 64)}, {"scale": (0.4, 0.5), "crop": (70, 90)},
        {"resize": {"short": 90, "max": 200}}, {"resize": {"short": 90, "max": 100}, "scale": (0.7, 1.3), "flip": 1.0},
    ],
)  # fmt: skip
def test_boxes_stay_on_their_objects_through_every_change(spec: dict[str, Any]) -> None:
    task, seen = DetectionTask(CLASSES, AugmentSpec(**spec)), 0
    for seed in range(12):
        image, target = task.augment(painted(seed), np.random.default_rng(seed))
        # Where a colour is more than half of its own strength lies the object; padding has all three channels.
        strong = (image[:2] > 0.5) & (image[2] < 0.2)
        assert len(set(target.labels.tolist())) == len(target.labels)
        for box, label in zip(target.boxes, target.labels.tolist(), strict=True):
            ys, xs = np.nonzero(strong[label].numpy())
            found = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            assert np.abs(box.numpy() - found).max() <= 1.01  # resizing blurs an edge by up to a pixel
            seen += 1
        for label in {0, 1} - set(target.labels.tolist()):
            whole = painted(seed).target.area[label] * np.prod(
                [b / a for a, b in zip((60, 80), spec.get("size", (60, 80)), strict=True)]
            )
            assert strong[label].sum() <= 1.1 * MIN_VISIBLE * whole * max(spec.get("scale", (1, 1))) ** 2
    assert seen >= 12


def test_a_sample_is_a_pure_function_of_its_generator() -> None:
    task = DetectionTask(CLASSES, AugmentSpec(scale=(0.5, 2.0), crop=(50, 50), colour=0.3))
    first, again = (task.augment(painted(1), np.random.default_rng(7)) for _ in range(2))
    other = task.augment(painted(1), np.random.default_rng(8))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1].boxes, again[1].boxes)
    assert not torch.equal(first[0], other[0])


def test_ssds_changes_keep_boxes_on_objects_and_are_pure() -> None:
    """Zoomed out, cut and mirrored: where a box lies is its object, and nothing else drew from torch's generator."""
    task, seen, areas = DetectionTask(CLASSES, AugmentSpec(size=(90, 120), ssd=True)), 0, []
    for seed in range(40):
        state = torch.get_rng_state()
        image, target = task.augment(painted(seed), np.random.default_rng(seed))
        again, same = task.augment(painted(seed), np.random.default_rng(seed))
        assert torch.equal(state, torch.get_rng_state())
        assert torch.equal(image, again)
        assert torch.equal(target.boxes, same.boxes)
        assert image.shape == (3, 90, 120)
        assert len(target.boxes) == len(target.labels) >= 1
        for box, label in zip(target.boxes.tolist(), target.labels.tolist(), strict=True):
            x1, y1, x2, y2 = (round(value) for value in box)
            inside = image[:, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1]
            if inside.numel() and min(inside.shape[1:]) > 1:
                # Distorted colours: the object's own channel (or, with channels swapped, another) is far above one of the rest.
                spread = inside.amax(dim=0) - inside.amin(dim=0)
                assert (spread > 0.2).float().mean() > 0.8, (seed, label)
                seen += 1
            areas.append((x2 - x1) * (y2 - y1))
    assert seen > 40
    assert min(areas) < 0.3 * np.median(areas)  # zoomed out
    unlabelled = Sample(painted(0).image, None)
    assert not task.augment(unlabelled, np.random.default_rng(0))[1].labelled


def test_crowds_are_not_trained_on_and_boxes_are_cut_to_the_image() -> None:
    labels = truth([(-10, 5, 20, 30, 0), (10, 10, 50, 50, 1), (79.8, 5, 95, 20, 0)], crowd=[False, True, False])
    _, target = DetectionTask(CLASSES).prepare(Sample(np.zeros((60, 80, 3), np.uint8), labels))
    assert target.boxes.tolist() == [[0, 5, 20, 30]]
    assert target.truth is labels


def test_evaluation_scores_in_the_pixels_of_the_stored_image() -> None:
    """A detection that is exactly right after resizing scores 100, with sizes judged in stored pixels."""
    task = DetectionTask(CLASSES, AugmentSpec(size=(30, 120)))
    metric = task.metric()
    samples = [painted(seed) for seed in range(3)]
    images, targets = task.collate([task.prepare(sample) for sample in samples])
    assert images.shape == (3, 3, 30, 120)
    for target in targets:
        metric.update([Detections(target.boxes, torch.ones(2), target.labels)], [target])
    summary, classes = metric.compute()
    assert summary["map"] == pytest.approx(100)
    assert classes == {"red": pytest.approx(100), "green": pytest.approx(100)}
    assert set(summary) == {"map", "map_50", "map_75", "map_small"}  # no object of 32 x 32 stored pixels or more


def test_aspect_ratios_are_kept_and_batches_padded() -> None:
    """Sizes as mmdetection computes them; what is padding is said, and boxes go back to the stored pixels."""
    recipe = ResizeSpec(short=800, max=1333)
    stored = [(480, 640), (427, 640), (640, 300), (333, 500), (1, 4000)]
    assert [recipe.fitted(size) for size in stored] == [(800, 1067), (800, 1199), (1333, 625), (800, 1201), (1, 1333)]
    task = DetectionTask(CLASSES, AugmentSpec(resize=ResizeSpec(short=90, max=130), pad_to=16))
    samples = [painted(0), painted(1, (80, 80)), painted(2, (60, 100))]
    prepared = [task.prepare(sample) for sample in samples]
    assert [tuple(image.shape[1:]) for image, _ in prepared] == [(96, 128), (96, 96), (80, 144)]
    assert [target.size for _, target in prepared] == [(90, 120), (90, 90), (78, 130)]
    images, targets = task.collate(prepared)
    assert images.shape == (3, 3, 96, 144)
    blank = torch.tensor(PAD_COLOR).view(3, 1, 1) / 255
    for image, target in zip(images, targets, strict=True):
        height, width = target.size or (0, 0)
        assert (image[:, height:] == blank).all()
        assert (image[:, :, width:] == blank).all()
        assert not (image[:, height - 1, width - 1] == blank[:, 0, 0]).any()
    metric = task.metric()
    for target in targets:
        metric.update([Detections(target.boxes, torch.ones(2), target.labels)], [target])
    assert metric.compute()[0]["map"] == pytest.approx(100)
    # Panels show the image alone.
    shown = task.panels(samples[2], {"prediction": Detections(targets[2].boxes, torch.ones(2), targets[2].labels)})
    assert {picture.shape for picture in shown.values()} == {(78, 130, 3)}


def hand(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Found:
    return Found(np.array(boxes, dtype=np.float64).reshape(-1, 4), np.array(scores), np.array(labels, dtype=np.int64))


def test_map_of_cases_that_can_be_done_by_hand() -> None:
    one = truth([(0, 0, 10, 10, 0), (20, 20, 30, 30, 0)])
    # One of two objects found, nothing else: precision 1 up to recall 0.5, so 51 of 101 recall points.
    summary, classes = coco_scores([one], [hand([[0, 0, 10, 10]], [0.9], [0])], 2)
    assert summary["map"] == pytest.approx(100 * 51 / 101)
    assert classes == [pytest.approx(100 * 51 / 101), None]
    # A surer mistake before it halves the precision.
    summary, _ = coco_scores([one], [hand([[50, 50, 60, 60], [0, 0, 10, 10]], [0.95, 0.9], [0, 0])], 2)
    assert summary["map"] == pytest.approx(50 * 51 / 101)
    # 0.72 of overlap counts at 0.50, 0.55, 0.60, 0.65, 0.70 and nowhere above.
    summary, _ = coco_scores([one], [hand([[0, 0, 10, 7.2], [20, 20, 30, 27.2]], [0.9, 0.8], [0, 0])], 2)
    assert (summary["map"], summary["map_50"], summary["map_75"]) == (pytest.approx(50), pytest.approx(100), 0)
    # What lies in a crowd is no mistake; the crowd itself need not be found.
    crowd = truth([(0, 0, 10, 10, 0), (20, 20, 60, 60, 0)], crowd=[False, True])
    summary, _ = coco_scores([crowd], [hand([[0, 0, 10, 10], [22, 22, 30, 30]], [0.8, 0.9], [0, 0])], 1)
    assert summary["map"] == pytest.approx(100)
    # Nothing found, and nothing to find.
    assert coco_scores([one], [hand([], [], [])], 1)[0]["map"] == 0
    assert coco_scores([truth([])], [hand([], [], [])], 1) == ({"map": 0.0}, [None])


def random_candidates(seed: int, count: int = 400, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + 5 + 25 * torch.rand(count, 2, generator=generator)], dim=1)
    return torch.rand(count, classes, generator=generator) ** 3, boxes


@pytest.mark.parametrize("seed", range(4))
def test_selection_is_torchvisions_and_that_of_the_shipped_reader(seed: int) -> None:
    """torchvision's own steps, one after the other (threshold, best of each level, suppression by class)."""
    scores, boxes = random_candidates(seed)
    rule, counts = Selection(threshold=0.2, candidates=80, iou=0.45, limit=40), [300, 60, 40]
    found = select(scores, boxes, counts, rule)
    kept: list[list[torch.Tensor]] = [[], [], []]
    for level_scores, level_boxes in zip(scores.split(counts), boxes.split(counts), strict=True):
        flat = level_scores.flatten()
        index = torch.where(flat > rule.threshold)[0]
        best, order = flat[index].topk(min(rule.candidates, len(index)))
        for part, value in zip(kept, (level_boxes[index[order] // 3], best, index[order] % 3), strict=True):
            part.append(value)
    all_boxes, all_scores, all_labels = (torch.cat(part) for part in kept)
    wanted = torchvision.ops.boxes._batched_nms_vanilla(all_boxes, all_scores, all_labels, rule.iou)[: rule.limit]
    assert 10 < len(wanted) <= 40
    assert torch.equal(found.scores, all_scores[wanted])
    assert torch.equal(found.boxes, all_boxes[wanted])
    assert torch.equal(found.labels, all_labels[wanted])
    shipped = predict.select(
        scores.numpy(), boxes.numpy(), predict.Selection(**rule.as_dict(), levels=tuple(counts)), counts
    )
    for ours, theirs in zip((found.boxes, found.scores, found.labels), shipped, strict=True):
        assert np.array_equal(ours.numpy(), theirs)


def test_nothing_above_the_threshold_is_no_detection() -> None:
    found = select(torch.zeros(10, 2), torch.zeros(10, 4), [10], Selection())
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


def test_an_object_is_found_once() -> None:
    objects = np.array([[0, 0, 10, 10], [40, 0, 50, 10]], dtype=float), np.array([0, 0])
    found = np.array([[0, 0, 10, 9], [0, 0, 10, 10], [40, 0, 50, 4]], dtype=float), np.array([0, 0, 0])
    hits, used = found_by(objects, found)
    assert hits.tolist() == [True, False]
    assert used.tolist() == [True, False, False]


def test_panels_show_what_was_missed() -> None:
    task, sample = DetectionTask(CLASSES), painted(3)
    right = Detections(torch.from_numpy(sample.target.boxes), torch.tensor([0.9, 0.8]), torch.tensor([0, 1]))
    half = Detections(right.boxes[:1], right.scores[:1], right.labels[:1])
    shown = task.panels(sample, {"prediction": half, "teacher": right})
    assert set(shown) == {"image", "truth", "prediction", "teacher", "error"}
    orange = (shown["error"] == (230, 126, 0)).all(axis=2)
    x1, y1, x2, y2 = sample.target.boxes[1].astype(int)
    assert orange[y1, x1:x2].all()
    assert orange.sum() == orange[y1:y2, x1:x2].sum() > 0


def test_class_weights_are_refused() -> None:
    with pytest.raises(CoreError, match="no class weights"):
        DetectionTask(CLASSES, loss=TaskLossSpec(class_weights=(1.0, 2.0)))


def test_a_segmenter_is_no_detector() -> None:
    with pytest.raises(CoreError, match="finds no boxes"):
        DetectionTask(CLASSES).decode(nn.Linear(1, 1), None, (8, 8))  # type: ignore[arg-type]
