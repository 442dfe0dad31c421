"""The frozen network as the training loop asks it: in which number type, and for which samples not again.

A lower type is taken only where the levels that methods read stay what they are in fp32, measured on the run's first batch;
the choice is in every checkpoint, so a resumed run keeps it. The cache holds outputs by sample: it needs augmentation that
changes no sample from epoch to epoch, which the spec makes sure of. Beside a cache images pass one by one: in a batch an output
depends, in its last bits, on its neighbours, and a run would depend on what the cache happens to hold (a resumed one: nothing).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from acamkd_core import ranks
from acamkd_core.engine.checkpoint import Position
from acamkd_core.engine.parts import Batch, Emit, Parts
from acamkd_core.engine.precision import TYPES, fast
from acamkd_core.models.base import ModelOutput
from acamkd_core.spec.errors import CoreError, ErrorInfo
from acamkd_core.spec.events import AlarmEvent, LogEvent
from acamkd_core.spec.job import JobSpec

PARITY = 0.02
"""Largest root mean square of a level's error, as a share of the level's own. A few roundings to 8 bits (bf16) reach 0.5 %;
networks of a hundred layers stay below 2 % unless a layer cancels large numbers."""

GIB = 2**30


class Teacher:
    """Called with images and their numbers; gives the output that methods read, without gradient.

    Raises:
        CoreError: `teacher.cache_levels` when a cache is wanted for a method that reads more than levels.
    """

    def __init__(self, parts: Parts, spec: JobSpec, position: Position) -> None:
        self.parts, self.spec, self.position = parts, spec, position
        self.levels = sorted({pair.teacher_name for method in parts.methods for pair in method.pairs})
        limit = spec.train.cache_teacher
        if limit is not None and (name := next((one.name for one in parts.methods if one.reads_raw), None)) is not None:
            raise CoreError(
                "teacher.cache_levels", f"{name} reads the teacher's predictions, and its cache keeps levels only",
                hint="leave train.cache_teacher out", field="train.cache_teacher", value=limit,
            )  # fmt: skip
        self._caches = limit is not None
        self._room = int((limit or 0) * GIB) // ranks.world()
        self._kept: dict[int, dict[str, Tensor]] = {}
        self._size = 0  # bytes of one sample
        self._told = False

    def __call__(self, images: Tensor, numbers: Sequence[int] | None) -> ModelOutput | None:
        """None where nothing is distilled. `numbers`: of the samples, where a cache may know them."""
        if self.parts.teacher is None or not self.parts.methods:
            return None
        if numbers is None or not self._caches:
            return self._pass(images)
        rows = [self._one(images[row : row + 1], number) for row, number in enumerate(numbers)]
        return ModelOutput({name: torch.cat([one[name] for one in rows]) for name in self.levels}, raw=None)

    def _pass(self, images: Tensor) -> ModelOutput:
        with self._type(self.position.teacher_precision):
            return teach(self.parts, images)

    def _one(self, image: Tensor, number: int) -> dict[str, Tensor]:
        """The levels of one sample, from the cache if they are there."""
        if number in self._kept:
            return {name: level.to(self.parts.device) for name, level in self._kept[number].items()}
        features = self._pass(image).features
        found = {name: features[name] for name in self.levels}
        size = sum(level.nbytes for level in found.values())
        if size <= self._room:  # nothing is evicted: an epoch reads everything once
            self._room -= size
            self._kept[number] = {name: level.to("cpu", copy=True) for name, level in found.items()}
        self._size = size
        return found

    def choose(self, first: Callable[[], Batch], emit: Emit) -> None:
        """Decides on the type, once in a run. `first` gives the run's first batch; all processes decide together."""
        wanted = self.spec.train.teacher_precision
        if wanted is None or self.parts.teacher is None or not self.parts.methods or self.position.teacher_precision:
            return
        if next(self.parts.teacher.parameters(), None) is None:
            emit(LogEvent(message="the teacher runs in the type of its file"))
            self.position.teacher_precision = "fp32"
            return
        chosen = fast(self.parts.device) if wanted == "auto" else wanted
        if chosen != "fp32":
            images = first().images.to(self.parts.device)
            if self.spec.train.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            errors = self._errors(images, chosen)
            worst = max(errors, key=lambda name: errors[name])
            told = f"{worst} differs by {100 * errors[worst]:.2g} % from fp32"
            if not errors[worst] <= PARITY:
                info = ErrorInfo(
                    code="teacher.precision",
                    message=f"the teacher runs in fp32: in {chosen} its level {told}",
                    hint=f"{100 * PARITY:g} % is the limit; train.teacher_precision: fp32 says so from the start",
                    field="train.teacher_precision",
                    value=wanted,
                )
                emit(AlarmEvent(iteration=self.position.iteration, severity="warning", info=info))
                chosen = "fp32"
            else:
                emit(LogEvent(message=f"the teacher runs in {chosen}: of its levels {told} most"))
        elif wanted == "auto":
            emit(LogEvent(message="the teacher runs in fp32: no lower type is faster on this device"))
        self.position.teacher_precision = chosen

    def _errors(self, images: Tensor, precision: str) -> dict[str, float]:
        """Error of each level in a type, over all processes; infinite where it is not a number."""
        with self._type("fp32"):
            exact = teach(self.parts, images)
        with self._type(precision):
            found = teach(self.parts, images)
        errors = {}
        for name in self.levels:
            true = exact.features[name].float()
            off = float((found.features[name].float() - true).square().mean().sqrt())
            scale = float(true.square().mean().sqrt())
            errors[name] = off / scale if scale > 0 else off
        values = ranks.means([value if value == value else float("inf") for value in errors.values()])
        return dict(zip(errors, values, strict=True))

    def _type(self, precision: str) -> AbstractContextManager[object]:
        if not precision:  # as the student's, in whose autocast it runs
            return nullcontext()
        return torch.autocast(self.parts.device.type, dtype=TYPES[precision], enabled=precision != "fp32")

    def expect(self, samples: int, emit: Emit) -> None:
        """Says once whether the cache holds so many samples, when the first has been seen."""
        if not self._size or self._told:
            return
        self._told = True
        need, limit = self._size * samples / GIB, self.spec.train.cache_teacher
        if limit is not None and need > limit:
            info = ErrorInfo(
                code="teacher.cache_small",
                message=f"the teacher's outputs for {samples} samples take {need:.2f} GiB, and its cache has {limit:g}",
                hint="the rest is computed in every epoch: give more, or compare fewer levels",
                field="train.cache_teacher",
                value=limit,
            )
            emit(AlarmEvent(iteration=self.position.iteration, severity="warning", info=info))
        else:
            emit(LogEvent(message=f"the teacher's outputs are kept: {need:.2f} GiB for {samples} samples"))


def teach(parts: Parts, images: Tensor) -> ModelOutput:
    """The teacher's output, without gradient."""
    # no_grad and not inference_mode: autograd refuses to save inference tensors for the student's backward pass.
    assert parts.teacher is not None
    with torch.no_grad():
        out: ModelOutput = parts.teacher(images)
        return out
