"""The training order and augmentation: exact for any number of workers and any start."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from acamkd_core.datasets.loader import Batch, EvalLoader, TrainLoader, epoch_order
from acamkd_core.datasets.mask_folder import MaskFolder
from acamkd_core.datasets.registry import open_dataset
from acamkd_core.spec.augment import AugmentSpec
from acamkd_core.spec.datasets import MaskFolderDataset, Splits
from acamkd_core.spec.errors import CoreError
from acamkd_core.tasks.segmentation import SegmentationTask
from tests.acamkd_core.datasets.factories import save, write_folder

AUGMENT = AugmentSpec(size=(16, 24), scale=(0.5, 2.0), crop=(14, 20), colour=0.4)


@pytest.fixture
def dataset(tmp_path: Path) -> MaskFolder:
    write_folder(tmp_path, {"train": 7, "val": 5, "extra": 4})
    spec = MaskFolderDataset(format="mask_folder", root=str(tmp_path), splits=Splits(unlabelled="extra"))
    return open_dataset(spec)


def _task(dataset: MaskFolder, augment: AugmentSpec = AUGMENT) -> SegmentationTask:
    return SegmentationTask(dataset.classes, dataset.ignore_id, augment)


def _take(loader: TrainLoader, count: int) -> list[Batch]:
    return list(itertools.islice(iter(loader), count))


def _equal(ours: list[Batch], theirs: list[Batch]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.indices, a.epoch) == (b.indices, b.epoch)
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.targets, b.targets)


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_is_exact_with_any_number_of_workers(dataset: MaskFolder, workers: int) -> None:
    whole = _take(TrainLoader(dataset, _task(dataset), seed=4, batch=3), 8)  # 3 batches an epoch
    torch.manual_seed(1)
    state = torch.get_rng_state()
    np.random.seed(99)
    rest = _take(TrainLoader(dataset, _task(dataset), seed=4, batch=3, workers=workers, start_iteration=4), 4)
    _equal(whole[4:], rest)
    assert torch.equal(torch.get_rng_state(), state)  # and are left alone
    other = _take(TrainLoader(dataset, _task(dataset), seed=5, batch=3), 1)
    assert not torch.equal(other[0].images, whole[0].images)


def test_an_epoch_is_a_permutation_without_its_incomplete_batch(dataset: MaskFolder) -> None:
    loader = TrainLoader(dataset, _task(dataset), seed=0, batch=4)
    assert loader.iterations_per_epoch == 2  # of 11 images, the unlabelled ones included
    batches = _take(loader, 6)
    assert [batch.epoch for batch in batches] == [0, 0, 1, 1, 2, 2]
    epochs = [batches[i].indices + batches[i + 1].indices for i in (0, 2, 4)]
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert sorted(epoch_order(0, 1, 11)) == list(range(11))
    # The unlabelled images come last in the items; their targets are all ignore id, others' are not.
    for batch in batches:
        for index, target in zip(batch.indices, batch.targets, strict=True):
            assert bool((target == 9).all()) == (index >= 7)


def test_epochs_augment_differently(dataset: MaskFolder) -> None:
    batches = _take(TrainLoader(dataset, _task(dataset), seed=0, batch=11), 2)
    first, second = (dict(zip(b.indices, b.images, strict=True)) for b in batches)
    assert all(not torch.equal(first[index], second[index]) for index in range(11))


def test_ranks_share_a_batch(dataset: MaskFolder) -> None:
    whole = _take(TrainLoader(dataset, _task(dataset), seed=0, batch=4), 2)
    parts = [_take(TrainLoader(dataset, _task(dataset), seed=0, batch=4, rank=r, world=2), 2) for r in (0, 1)]
    for batch, zero, one in zip(whole, *parts, strict=True):
        assert sorted(zero.indices + one.indices) == sorted(batch.indices)


def test_cache_is_bounded_and_changes_nothing(dataset: MaskFolder) -> None:
    bounded = TrainLoader(dataset, _task(dataset), seed=2, batch=5, cache_bytes=5000)
    none = TrainLoader(dataset, _task(dataset), seed=2, batch=5, cache_bytes=0)
    _equal(_take(bounded, 6), _take(none, 6))
    kept = bounded._samples.source._kept
    assert len(kept) == 2  # of 20 x 30 x (3 + 1) bytes each (or 3 without a mask)


def test_batch_that_does_not_fit(dataset: MaskFolder) -> None:
    with pytest.raises(CoreError, match="at most 11") as caught:
        TrainLoader(dataset, _task(dataset), seed=0, batch=12)
    assert caught.value.info.field == "batch.global_size"
    with pytest.raises(CoreError, match="3 processes"):
        TrainLoader(dataset, _task(dataset), seed=0, batch=4, world=3)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_the_shares_of_an_evaluation_are_the_split_each_image_once(dataset: MaskFolder, world: int) -> None:
    loader = EvalLoader(dataset, _task(dataset, AugmentSpec()), "val", batch=2)
    shares = [[index for batch in loader.share(rank, world) for index in batch.indices] for rank in range(world)]
    assert sorted(index for share in shares for index in share) == list(range(len(loader)))
    assert [share for share in shares if share != sorted(share)] == []
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_is_complete_and_never_mixes_sizes(dataset: MaskFolder, workers: int) -> None:
    rng = np.random.default_rng(0)
    save(dataset.items("val")[2].image, rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    save(dataset.items("val")[2].label, np.zeros((8, 8), dtype=np.uint8))
    loader = EvalLoader(dataset, _task(dataset, AugmentSpec()), "val", batch=2, workers=workers)
    batches = list(loader)
    assert [batch.indices for batch in batches] == [[0, 1], [2], [3, 4]]
    assert [tuple(batch.images.shape[2:]) for batch in batches] == [(20, 30), (8, 8), (20, 30)]
    sample = dataset.load(dataset.items("val")[3])
    assert torch.equal(batches[2].images[0], torch.from_numpy(sample.image.copy()).permute(2, 0, 1) / 255)
    np.testing.assert_array_equal(batches[2].targets[0].numpy(), sample.target)
    _equal(batches, list(loader))  # a second pass


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_broke_since_the_inspection_is_named(dataset: MaskFolder, workers: int) -> None:
    """A mistake in the data stays one on its way out of a loader process."""
    dataset.items("train")[3].image.write_bytes(b"gone bad")
    with pytest.raises(CoreError) as caught:
        _take(TrainLoader(dataset, _task(dataset), seed=0, batch=11, workers=workers), 1)
    assert caught.value.code == "dataset.unreadable"
    assert caught.value.info.value.endswith("03.png")
