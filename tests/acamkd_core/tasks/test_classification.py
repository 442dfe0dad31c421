"""Classification: samples against torchvision's recipes, loss and accuracy against loops, pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from acamkd_core.datasets.base import ClassInfo, Sample
from acamkd_core.models.base import ModelOutput
from acamkd_core.spec.augment import AugmentSpec
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.job import TaskLossSpec, parse_job
from acamkd_core.tasks.class_pictures import ROW, SHOWN, WIDTH
from acamkd_core.tasks.classification import ClassificationTask
from acamkd_core.tasks.classification_metric import ClassificationMetric
from acamkd_core.torchvision_compat import torchvision  # noqa: F401  (makes the next import work everywhere)

# isort: split
from torchvision.transforms import v2

CLASSES = [ClassInfo(index, f"class {index}", (30 * index, 200, 9)) for index in range(7)]
MODEL = nn.Identity()


def _noise(height: int = 50, width: int = 70, label: int | None = 3) -> Sample:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Sample(image, None if label is None else np.int64(label))


def _place(height: int = 200, width: int = 240) -> Sample:
    """Red is the column, green the row: a window shows where it was cut."""
    y, x = np.mgrid[:height, :width]
    return Sample(np.stack([x, y, 0 * x], axis=2).astype(np.uint8), np.int64(0))


def _out(logits: torch.Tensor) -> ModelOutput:
    return ModelOutput({}, logits)


@pytest.mark.parametrize("shape", [(50, 70), (71, 40), (33, 33), (224, 300)])
@pytest.mark.parametrize(("size", "short_side"), [((32, 32), 37), ((24, 40), 40), ((48, 48), 64)])
def test_evaluation_is_torchvisions_resize_and_centre_crop(
    shape: tuple[int, int], size: tuple[int, int], short_side: int
) -> None:
    sample = _noise(*shape)
    image, label = ClassificationTask(CLASSES, AugmentSpec(size=size, short_side=short_side)).prepare(sample)
    wanted = v2.Compose([v2.Resize(short_side), v2.CenterCrop(size), v2.PILToTensor()])(Image.fromarray(sample.image))
    assert torch.equal((image * 255).round().to(torch.uint8), wanted)
    assert label == 3


def test_a_training_sample_is_a_pure_function_of_its_generator() -> None:
    task, sample = ClassificationTask(CLASSES, AugmentSpec(size=(16, 24), colour=0.3)), _noise()
    before, state = sample.image.copy(), torch.get_rng_state()
    first, again = (task.augment(sample, np.random.default_rng(7)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state), "the run's own generator was moved"
    torch.rand(3)
    later = task.augment(sample, np.random.default_rng(7))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[0], later[0])
    assert first[0].shape == (3, 16, 24)
    assert first[1] == 3
    np.testing.assert_array_equal(sample.image, before)
    assert len({task.augment(sample, np.random.default_rng(n))[0].numpy().tobytes() for n in range(8)}) == 8


def test_windows_have_the_areas_and_shapes_that_were_asked_for() -> None:
    spec = AugmentSpec(size=(64, 64), area=(0.2, 0.4), ratio=(0.8, 1.25), flip=0.0)
    task, sample = ClassificationTask(CLASSES, spec), _place()
    areas, places = [], set()
    for seed in range(60):
        image = task.augment(sample, np.random.default_rng(seed))[0] * 255
        # Half a source cell is averaged away at either end of 64: the span between outer centres is 63/64 of the window.
        width, height = (float(image[c].max() - image[c].min()) * 64 / 63 for c in (0, 1))
        areas.append(width * height / (200 * 240))
        assert 0.18 < areas[-1] < 0.42
        assert 0.75 < width / height < 1.33
        places.add((float(image[0].min()), float(image[1].min())))
        assert float(image[0, 0, -1]) > float(image[0, 0, 0]), "flipped, though flip is 0"
    assert max(areas) > 0.36
    assert min(areas) < 0.24
    assert len(places) > 40


def test_flips_are_as_frequent_as_asked_and_do_not_move_the_window() -> None:
    sample, flipped = _place(), 0
    for seed in range(40):
        plain, half = (
            ClassificationTask(CLASSES, AugmentSpec(size=(32, 32), flip=p)).augment(
                sample, np.random.default_rng(seed)
            )[0]
            for p in (0.0, 0.5)
        )
        flipped += int(torch.equal(half, plain.flip(2)))
        assert torch.equal(half, plain) or torch.equal(half, plain.flip(2))
    assert 10 < flipped < 30


def test_loss_is_the_smoothed_weighted_mean_over_labelled_images() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * 3
    wanted, weights, smooth = [2, 0, -1, 6, 2], [1.0, 0.5, 2.0, 1.0, 1.0, 3.0, 0.25], 0.1
    total = mass = 0.0
    for row, label in zip(logits.double().tolist(), wanted, strict=True):
        if label < 0:
            continue
        norm = math.log(sum(math.exp(value) for value in row))
        share = [smooth / 7 + (1 - smooth) * (index == label) for index in range(7)]
        total += sum(w * s * (norm - value) for w, s, value in zip(weights, share, row, strict=True))
        mass += weights[label]
    spec = TaskLossSpec(class_weights=tuple(weights), label_smoothing=smooth, weight=0.7)
    terms = ClassificationTask(CLASSES, loss=spec).loss(MODEL, _out(logits), torch.tensor(wanted))
    assert set(terms) == {"task"}
    assert float(terms["task"]) == pytest.approx(0.7 * total / mass, rel=1e-5)


def test_a_batch_without_labels_teaches_nothing_and_is_no_nan() -> None:
    logits = torch.randn(2, 7, requires_grad=True)
    loss = ClassificationTask(CLASSES).loss(MODEL, _out(logits), torch.tensor([-1, -1]))["task"]
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_accuracies_are_counted_as_a_loop_counts_them() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(60, 7))
    truth = rng.integers(0, 6, 60)  # class 6 does not occur
    truth[:5] = -1
    metric = ClassificationTask(CLASSES).metric()
    for part in np.array_split(np.arange(60), 7):
        metric.update(torch.from_numpy(scores[part]), torch.from_numpy(truth[part]))
    summary, classes = metric.compute()
    right = {c: [0, 0] for c in range(7)}
    top5 = scored = 0
    for row, label in zip(scores.tolist(), truth.tolist(), strict=True):
        if label < 0:
            continue
        better = sum(value > row[label] for value in row)
        right[label][0] += better == 0
        right[label][1] += 1
        top5 += better < 5
        scored += 1
    assert scored == 55
    assert summary["top1"] == pytest.approx(100 * sum(hit for hit, _ in right.values()) / 55)
    assert summary["top5"] == pytest.approx(100 * top5 / 55)
    assert classes == {f"class {c}": (pytest.approx(100 * hit / n) if n else None) for c, (hit, n) in right.items()}
    assert classes["class 6"] is None
    assert summary["mean_accuracy"] == pytest.approx(sum(v for v in classes.values() if v is not None) / 6)


def test_top5_of_five_classes_or_fewer_would_say_nothing() -> None:
    metric = ClassificationTask(CLASSES[:5]).metric()
    metric.update(torch.eye(5), torch.tensor([0, 1, 2, 3, 0]))
    assert metric.compute()[0] == {"top1": 80.0, "mean_accuracy": 87.5}
    empty = ClassificationTask(CLASSES).metric()
    assert empty.compute()[0] == {"top1": 0.0, "top5": 0.0, "mean_accuracy": 0.0}


def test_the_best_constant_answer_is_the_most_frequent_class() -> None:
    task = ClassificationTask(CLASSES)
    parts = [torch.tensor([1, 1, -1, 2]), torch.tensor([1, 0, 5])]
    assert task.constant_score(parts) == pytest.approx(50.0)
    metric = task.metric()
    for part in parts:
        metric.update(torch.eye(7)[1].repeat(len(part), 1), part)
    assert metric.compute()[0]["top1"] == pytest.approx(50.0)


def test_panels_name_the_surest_classes_and_frame_mistakes() -> None:
    task = ClassificationTask(CLASSES, AugmentSpec(size=(32, 32), short_side=36))
    right, wrong = torch.eye(7)[3] * 4, torch.eye(7)[5] * 4
    shown = task.panels(_noise(), {"prediction": wrong, "teacher": right})
    assert set(shown) == {"image", "truth", "prediction", "teacher", "error"}
    assert shown["image"].shape == (WIDTH, WIDTH, 3)
    for kind in ("truth", "prediction", "teacher"):
        assert shown[kind].shape == (WIDTH + SHOWN * ROW, WIDTH, 3)
        np.testing.assert_array_equal(shown[kind][:WIDTH], shown["image"])
    marks = [tuple(shown[kind][WIDTH + ROW // 2, 1]) for kind in ("truth", "prediction", "teacher")]
    assert marks == [CLASSES[3].color, CLASSES[5].color, CLASSES[3].color]
    bar = (shown["prediction"][WIDTH + ROW - 2, 6:] == (205, 205, 205)).all(axis=1).sum()
    share = float(wrong.softmax(0)[5])
    assert abs(bar - share * (WIDTH - 7)) < 2
    frames = {
        (230, 126, 0): {"prediction": wrong, "teacher": right},
        (0, 114, 178): {"prediction": right, "teacher": wrong},
        (150, 150, 150): {"prediction": right},
    }
    for color, predictions in frames.items():
        assert tuple(task.panels(_noise(), predictions)["error"][0, 0]) == color
    assert set(task.panels(_noise(label=None), {"prediction": right})) == {"image", "prediction"}


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CoreError, match="3 class weights for 7 classes"):
        ClassificationTask(CLASSES, loss=TaskLossSpec(class_weights=(1.0, 2.0, 1.0)))
    with pytest.raises(CoreError, match="4 outputs"):
        ClassificationTask(CLASSES).loss(MODEL, _out(torch.zeros(2, 4)), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"augment": {"area": [0.3, 1]}}, "augment.area"),
        ({"augment": {"short_side": 40}}, "augment.short_side"),
        ({"task_loss": {"label_smoothing": 0.1}}, "task_loss.label_smoothing"),
        ({"task": "classification", "augment": {"scale": [0.5, 2]}}, "augment.scale"),
        ({"task": "classification", "task_loss": {"ohem": {}}}, "task_loss.ohem"),
        ({"task": "detection", "evaluation": {"scales": [0.5, 1.0]}}, "evaluation.scales"),
        ({"task": "detection", "evaluation": {"flip": True}}, "evaluation.flip"),
        ({"task": "classification", "augment": {"crop": [32, 32]}}, "augment.crop"),
    ],
)
def test_options_of_another_task_are_refused_at_submit(changes: dict[str, object], field: str) -> None:
    student = {"weights": {"file": "student.safetensors"}}  # a student whose task only its file knows
    with pytest.raises(CoreError) as error:
        parse_job({"dataset": "somewhere", "student": student, **changes})
    assert error.value.info.field == field


def test_automatic_sizes() -> None:
    assert AugmentSpec().automatic("classification", (500, 375)) == {"size": (224, 224), "short_side": 256}
    assert AugmentSpec().automatic("classification", (40, 32)) == {"size": (32, 32), "short_side": 37}
    assert AugmentSpec(size=(96, 128)).automatic("classification", (500, 375))["short_side"] == 146
    assert AugmentSpec(short_side=100).automatic("classification", (500, 375))["size"] == (100, 100)
    assert AugmentSpec().automatic("semantic_segmentation", (40, 32)) == {"size": (40, 32), "crop": (40, 32)}
    with pytest.raises(ValueError, match="cannot be cut out"):
        AugmentSpec(size=(64, 64), short_side=50)


def test_counts_of_several_processes_are_those_of_one() -> None:
    rng = torch.Generator().manual_seed(3)
    scores, truth = torch.randn(11, 7, generator=rng), torch.randint(-1, 7, (11,), generator=rng)
    whole = ClassificationMetric([str(k) for k in range(7)])
    whole.update(scores, truth)
    shares = [ClassificationMetric(whole.names) for _ in range(3)]
    for rank, share in enumerate(shares):
        share.update(scores[rank::3], truth[rank::3])
    states = [share.state() for share in shares]
    shares[1].merge(states)
    assert shares[1].compute() == whole.compute()
