"""Augmentation, collation and pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from acamkd_core.datasets.base import ClassInfo, Sample
from acamkd_core.spec.augment import AugmentSpec
from acamkd_core.tasks import pictures
from acamkd_core.tasks.segmentation import SegmentationTask
from acamkd_core.tasks.segmentation_augment import PAD_COLOR

CLASSES = [ClassInfo(i, str(i), (30 * i, 255 - 30 * i, 7)) for i in range(8)]


def _task(**augment: object) -> SegmentationTask:
    return SegmentationTask(CLASSES, 9, AugmentSpec.model_validate({"flip": 0.0, **augment}))


def _sample(height: int = 16, width: int = 24) -> Sample:
    """Image and target carry the same information: red is 30 times the class id."""
    ids = np.random.default_rng(0).integers(0, 8, (height, width), dtype=np.uint8)
    return Sample(np.stack([ids * 30, ids * 0, ids * 0 + 255], axis=2), ids)


def _rng(number: int = 0) -> np.random.Generator:
    return np.random.default_rng([number, 17])


def test_same_generator_same_sample_and_the_input_is_untouched() -> None:
    task, sample = _task(scale=(0.5, 2.0), crop=(12, 12), flip=0.5, colour=0.5), _sample()
    before = sample.image.copy()
    (image, target), (image2, target2) = task.augment(sample, _rng(3)), task.augment(sample, _rng(3))
    assert torch.equal(image, image2)
    assert torch.equal(target, target2)
    assert image.shape == (3, 12, 12)
    assert target.shape == (12, 12)
    assert 0 <= float(image.min()) <= float(image.max()) <= 1
    np.testing.assert_array_equal(sample.image, before)
    assert len({task.augment(sample, _rng(n))[0].numpy().tobytes() for n in range(8)}) == 8


@pytest.mark.parametrize("crop", [(10, 13), (16, 24), (20, 30), (10, 30)])
def test_crop_and_flip_move_image_and_target_together(crop: tuple[int, int]) -> None:
    task, sample = _task(crop=crop, flip=0.5), _sample()
    pad = torch.tensor(PAD_COLOR) / 255
    flips, seen = 0, set()
    for number in range(20):
        image, target = task.augment(sample, _rng(number))
        inside = target != 9
        assert torch.equal((image[0] * 255).round()[inside], target[inside].float() * 30)
        assert (image[:, ~inside] == pad[:, None]).all()
        assert int(inside.sum()) == min(16, crop[0]) * min(24, crop[1])
        seen.add(target.numpy().tobytes())
        if crop == (16, 24):
            flipped = np.array_equal(target.numpy(), sample.target[:, ::-1])
            assert flipped or np.array_equal(target.numpy(), sample.target)
            flips += flipped
    assert len(seen) > 1
    if crop == (16, 24):
        assert 4 <= flips <= 16


def test_scale_changes_the_size_of_things() -> None:
    ids = np.zeros((40, 40), dtype=np.uint8)
    ids[10:30, 10:30] = 1
    sample = Sample(np.repeat(ids[:, :, None] * 200, 3, axis=2), ids)
    image, target = _task(scale=(0.5, 0.5)).augment(sample, _rng())
    assert target.shape == (40, 40)  # padded back to the image's own size
    assert int((target == 1).sum()) == 100
    assert int((target == 9).sum()) == 1600 - 400
    assert torch.equal(image[0][target == 1].median(), torch.tensor(200 / 255))
    _, target = _task(scale=(2.0, 2.0), crop=(80, 80)).augment(sample, _rng())
    assert int((target == 1).sum()) == 1600


def test_colour_changes_colours_only() -> None:
    sample = _sample()
    plain, _ = _task().augment(sample, _rng())
    image, target = _task(colour=0.6).augment(sample, _rng())
    assert (image - plain).abs().mean() > 0.01
    np.testing.assert_array_equal(target.numpy(), sample.target)
    assert torch.equal(plain, torch.from_numpy(sample.image).permute(2, 0, 1) / 255)


def test_prepare_is_pillow_resizing() -> None:
    """Whoever reads the file with Pillow and NumPy must be able to make the very same input."""
    sample = _sample(30, 40)
    image, target = _task(size=(16, 20)).prepare(sample)
    expected = np.asarray(Image.fromarray(sample.image).resize((20, 16), Image.Resampling.BILINEAR), np.float32) / 255
    np.testing.assert_array_equal(image.numpy(), expected.transpose(2, 0, 1))
    assert set(np.unique(target.numpy())) <= set(range(8))


def test_collate_mixes_labelled_unlabelled_and_sizes() -> None:
    task = _task()
    labelled, small = _sample(16, 24), Sample(_sample(8, 10).image, None)
    images, targets = task.collate([task.prepare(labelled), task.prepare(small)])
    assert images.shape == (2, 3, 16, 24)
    assert images.dtype == torch.float32
    assert torch.equal(images[1, :, :8, :10], task.prepare(small)[0])
    assert torch.allclose(images[1, :, 8:].mean((1, 2)), torch.tensor(PAD_COLOR) / 255)
    np.testing.assert_array_equal(targets[0].numpy(), labelled.target)
    assert (targets[1] == 9).all()


def test_panels_show_errors_where_they_are() -> None:
    task, sample = _task(), _sample()
    sample.target[0, 0] = 9
    student, teacher = sample.target.copy(), sample.target.copy()
    student[2, 3] = (student[2, 3] + 1) % 8  # only the student is wrong
    teacher[4, 5] = (teacher[4, 5] + 1) % 8  # only the teacher is wrong
    panels = task.panels(sample, {"prediction": torch.from_numpy(student), "teacher": teacher})
    assert set(panels) == {"image", "truth", "prediction", "teacher", "error"}
    assert all(p.shape == (16, 24, 3) and p.dtype == np.uint8 for p in panels.values())
    np.testing.assert_array_equal(panels["image"], sample.image)
    assert panels["error"][2, 3].tolist() == pictures.ORANGE.astype(int).tolist()
    assert panels["error"][4, 5].tolist() == pictures.BLUE.astype(int).tolist()
    assert panels["error"][0, 0].tolist() == [32, 32, 32]
    right = panels["error"][8:]
    assert (right[..., 0] == right[..., 1]).all()  # grey where both are right
    differs = (panels["prediction"] != panels["truth"]).any(2)
    assert differs[2, 3]
    assert differs.sum() <= 2  # the ignored pixel has a class colour in no picture but may differ
    assert set(task.panels(Sample(sample.image, None), {"prediction": student})) == {"image", "prediction"}


def test_heat_has_a_fixed_scale() -> None:
    values = np.array([[0.0, 0.5, 1.0], [-3.0, 7.0, np.nan]])
    picture = pictures.heat(values)
    assert picture[0, 0].tolist() == picture[1, 0].tolist() == [0x00, 0x22, 0x4E]
    assert picture[0, 2].tolist() == picture[1, 1].tolist() == [0xFE, 0xE8, 0x38]
    assert picture[1, 2].tolist() == pictures.ORANGE.astype(int).tolist()
    flat = pictures.heat(np.full((4, 4), 0.31) + np.random.default_rng(0).normal(0, 1e-4, (4, 4)))
    assert np.ptp(flat.astype(int), axis=(0, 1)).max() <= 1  # a collapsed mask looks flat
    luminance = pictures.CIVIDIS @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) > 0).all()
    assert pictures.heat(values, (20, 30)).shape == (20, 30, 3)
