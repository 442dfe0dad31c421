"""Loaders whose every sample is a pure function of (seed, epoch, index), so that a run can resume anywhere exactly."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from acamkd_core.datasets.base import Dataset, Item, Sample
from acamkd_core.spec.errors import CoreError, ErrorInfo
from acamkd_core.tasks.base import Task

# Words that keep the two streams of a seed apart: order of an epoch, and changes of a sample.
_ORDER, _AUGMENT = 0x0DE5, 0xA116
DEFAULT_CACHE_BYTES = 1 << 30


class Batch(NamedTuple):
    """One step's input. `indices` are positions in the loader's items; `epoch` is 0 in evaluation."""

    images: Tensor
    targets: Any
    indices: list[int]
    epoch: int


def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of an epoch: a permutation that depends on nothing else."""
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(count)


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of all random choices about one sample in one epoch."""
    return np.random.default_rng([seed, _AUGMENT, epoch, index])


class DecodedItems:
    """Items with a bounded cache of decoded samples: training on small images is bound by decoding, not by networks.

    The first items that fit are kept; nothing is evicted, as every epoch reads everything once (an LRU cache would
    miss always). Each loader process has its own.
    """

    def __init__(self, dataset: Dataset, items: Sequence[Item], cache_bytes: int) -> None:
        self.dataset = dataset
        self.items = list(items)
        self._room = cache_bytes
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.items)

    def load(self, index: int) -> Sample:
        """Decoded pixels of an item; callers must not write into them."""
        sample = self._kept.get(index)
        if sample is None:
            sample = self.dataset.load(self.items[index])
            size = sample.image.nbytes + (0 if sample.target is None else int(sample.target.nbytes))
            if size <= self._room:
                self._room -= size
                self._kept[index] = sample
        return sample


class TrainLoader:
    """Endless training batches from `start_iteration` on.

    An epoch is a shuffled permutation of the labelled and unlabelled items together; batches cross no epoch, and the
    last incomplete batch of an epoch is dropped. Batch k of a run is the same whatever `workers` and
    `start_iteration` are.

    Args:
        dataset: an opened dataset.
        task: gives `augment` and `collate`.
        seed: the job's seed.
        batch: images per batch, over all ranks.
        workers: loader processes; 0 loads in this process.
        start_iteration: number of batches already consumed.
        splits: roles whose items are mixed; those that the dataset lacks are skipped, except the first.
        cache_bytes: memory for decoded samples over all loader processes of all ranks.
        rank, world: this process's share of every batch (each takes every `world`-th image).

    Raises:
        CoreError: `batch.too_large` when an epoch has fewer images than a batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        task: Task,
        *,
        seed: int,
        batch: int,
        workers: int = 0,
        start_iteration: int = 0,
        splits: Sequence[str] = ("train", "unlabelled"),
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        present = dataset.splits()
        items = [item for role in splits if role in present or role == splits[0] for item in dataset.items(role)]
        if batch > len(items):
            raise CoreError(
                "batch.too_large",
                f"a batch of {batch} images, but an epoch has only {len(items)}",
                hint=f"use a batch of at most {len(items)}",
                field="batch.global_size",
                value=batch,
            )
        if batch % world:
            raise CoreError(
                "batch.not_divisible",
                f"a batch of {batch} images cannot be shared by {world} processes",
                field="batch.global_size",
                value=batch,
            )
        self.items = items
        self.batch = batch
        self.iterations_per_epoch = len(items) // batch
        self._seed, self._start, self._rank, self._world = seed, start_iteration, rank, world
        self._workers = workers
        source = DecodedItems(dataset, items, cache_bytes // max(1, workers) // world)
        self._samples = _TrainSamples(source, task, seed)
        self._collate = _Collate(task)

    def __iter__(self) -> Iterator[Batch]:
        """Batches without end. Closing the iterator ends the loader processes."""
        return _batches(self._samples, self._collate, self._order(), self._workers)

    def _order(self) -> Iterator[list[tuple[int, int]]]:
        order, shuffled = np.empty(0, dtype=np.int64), -1
        for iteration in itertools.count(self._start):
            epoch, step = divmod(iteration, self.iterations_per_epoch)
            if epoch != shuffled:
                order, shuffled = epoch_order(self._seed, epoch, len(self.items)), epoch
            chosen = order[step * self.batch : (step + 1) * self.batch]
            yield [(epoch, int(index)) for index in chosen[self._rank :: self._world]]


class EvalLoader:
    """One pass over a split in order, unshuffled and complete; images of different sizes never share a batch.

    Args:
        dataset: an opened dataset.
        task: gives `prepare` and `collate`.
        split: role of the split.
        batch: images per forward pass.
        workers: loader processes.
        cache_bytes: memory for decoded samples, kept between passes when `workers` is 0.
    """

    def __init__(
        self,
        dataset: Dataset,
        task: Task,
        split: str,
        *,
        batch: int = 8,
        workers: int = 0,
        cache_bytes: int = DEFAULT_CACHE_BYTES // 2,
    ) -> None:
        self.items = dataset.items(split)
        self.batch = batch
        self._source = DecodedItems(dataset, self.items, cache_bytes // max(1, workers))
        self._samples = _EvalSamples(self._source, task)
        self._collate = _Collate(task)
        self._workers = workers

    def __len__(self) -> int:
        """Number of images."""
        return len(self.items)

    def sample(self, index: int) -> Sample:
        """Decoded pixels of one item, for panels."""
        return self._source.load(index)

    def __iter__(self) -> Iterator[Batch]:
        return self.share(0, 1)

    def share(self, rank: int, world: int) -> Iterator[Batch]:
        """Every `world`-th image from `rank` on; the shares of all ranks are the split, each image once."""
        # Sizes are known only after decoding, so samples come one by one and are put together here.
        keys = iter([(0, i)] for i in range(rank, len(self.items), world))
        single = _batches(self._samples, _first, keys, self._workers)
        waiting: list[_Loaded] = []
        for loaded in single:
            full = len(waiting) == self.batch
            if waiting and (full or waiting[0].sample[0].shape != loaded.sample[0].shape):
                yield self._collate(waiting)
                waiting = []
            waiting.append(loaded)
        if waiting:
            yield self._collate(waiting)


class _Loaded(NamedTuple):
    sample: tuple[Tensor, Any]
    epoch: int
    position: int


class _TrainSamples(TorchDataset[_Loaded]):
    def __init__(self, source: DecodedItems, task: Task, seed: int) -> None:
        self.source, self.task, self.seed = source, task, seed

    def __getitem__(self, key: tuple[int, int]) -> _Loaded:
        epoch, index = key
        rng = sample_rng(self.seed, epoch, index)
        return _Loaded(self.task.augment(self.source.load(index), rng), epoch, index)


class _EvalSamples(TorchDataset[_Loaded]):
    def __init__(self, source: DecodedItems, task: Task) -> None:
        self.source, self.task = source, task

    def __getitem__(self, key: tuple[int, int]) -> _Loaded:
        return _Loaded(self.task.prepare(self.source.load(key[1])), *key)


class _Collate:
    def __init__(self, task: Task) -> None:
        self.task = task

    def __call__(self, loaded: list[_Loaded]) -> Batch:
        images, targets = self.task.collate([entry.sample for entry in loaded])
        return Batch(images, targets, [entry.position for entry in loaded], loaded[0].epoch)


def _first(loaded: list[_Loaded]) -> _Loaded:
    return loaded[0]


def _batches(
    samples: TorchDataset[_Loaded], collate: Any, keys: Iterator[list[tuple[int, int]]], workers: int
) -> Iterator[Any]:
    if workers == 0:
        # Without torch's loader: nothing is prefetched, and nothing draws from the global generator.
        return (collate([samples[key] for key in group]) for group in keys)
    return _from_processes(samples, collate, keys, workers)


def _from_processes(
    samples: TorchDataset[_Loaded], collate: Any, keys: Iterator[list[tuple[int, int]]], workers: int
) -> Iterator[Any]:
    loader: DataLoader[Any] = DataLoader(
        _Told(samples),
        batch_sampler=keys,  # any iterable of key lists will do
        collate_fn=_CollateTold(collate),
        num_workers=workers,
        generator=torch.Generator(),  # else its base seed is drawn from the run's own generator
    )
    for batch in loader:
        if isinstance(batch, ErrorInfo):
            raise CoreError.of(batch)
        yield batch


class _Told(TorchDataset[Any]):
    """Carries a user's mistake out of a loader process as data: torch re-raises other errors as a RuntimeError's text."""

    def __init__(self, samples: TorchDataset[_Loaded]) -> None:
        self.samples = samples

    def __getitem__(self, key: tuple[int, int]) -> Any:
        try:
            return self.samples[key]
        except CoreError as error:
            return error.info


class _CollateTold:
    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, loaded: list[Any]) -> Any:
        mistake = next((entry for entry in loaded if isinstance(entry, ErrorInfo)), None)
        return self.collate(loaded) if mistake is None else mistake
