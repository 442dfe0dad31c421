"""Watching a run: rate, remaining time, data waits, and alarms that are raised once."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from acamkd_core.engine.checkpoint import Position
from acamkd_core.engine.parts import Emit
from acamkd_core.engine.placebo import context_of
from acamkd_core.methods.base import Method, StepContext
from acamkd_core.spec.errors import ErrorInfo
from acamkd_core.spec.events import AlarmEvent, ProgressEvent
from acamkd_core.spec.methods import MethodTerm

ZERO_STEPS = 20  # logged steps in a row with a term of exactly 0 before it is called dead
STARVED = 0.5  # share of the time spent waiting for data
OUTWEIGHED = 3.0  # gradient of distillation on the student over that of the labels (docs/weights.md)
IN_A_ROW = (
    4  # measurements: at a first step from random weights features pull ten to hundreds of times as hard as later
)


def finite_or_null(values: dict[str, float]) -> dict[str, Any]:
    """Fields of a `MetricsEvent`: JSON knows no NaN, so such values become null and are named."""
    bad = sorted(name for name, value in values.items() if not math.isfinite(value))
    return {"values": {name: None if name in bad else value for name, value in values.items()}, "non_finite": bad}


class Clock:
    """Time spent in training steps (evaluation and pauses excluded), the rate, and what remains."""

    def __init__(self, iterations: int, global_batch: int, device_seconds: float) -> None:
        self.iterations, self.global_batch, self.device_seconds = iterations, global_batch, device_seconds
        self._last = time.monotonic()
        self._seconds = self._waited = 0.0
        self._steps = 0
        self._reported = 0.0

    def start(self) -> None:
        """Begins to count."""
        self._last = time.monotonic()

    def resume(self) -> None:
        """Goes on counting after an evaluation, whose time does not count."""
        self._last = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent waiting for the next batch."""
        begun = time.monotonic()
        yield
        self._waited += time.monotonic() - begun

    def stepped(self) -> None:
        """One optimizer step is over."""
        now = time.monotonic()
        self.device_seconds += now - self._last
        self._seconds += now - self._last
        self._last = now
        self._steps += 1

    def spent(self) -> None:
        """Time since the last call counts, though it was no training step (a method's pre-stage)."""
        now = time.monotonic()
        self.device_seconds += now - self._last
        self._last = now

    def progress(self, iteration: int, batches_per_epoch: int) -> ProgressEvent | None:
        """A progress event, at most one a second, and always one at the end."""
        now = time.monotonic()
        if now - self._reported < 1.0 and iteration < self.iterations:
            return None
        self._reported = now
        rate = self._steps / self._seconds if self._seconds else 0.0
        return ProgressEvent(
            iteration=iteration,
            iterations=self.iterations,
            epoch=iteration / max(1, batches_per_epoch),
            iterations_per_second=rate,
            images_per_second=rate * self.global_batch,
            device_seconds=self.device_seconds,
            data_wait=min(1.0, self._waited / self._seconds) if self._seconds else 0.0,
            eta_seconds=(self.iterations - iteration) / rate if rate else None,
        )


class Watch:
    """Raises alarms; each code and subject once a run, also over a resume (`Position.raised`)."""

    def __init__(self, position: Position, emit: Emit) -> None:
        self.position, self.emit = position, emit

    def raise_once(self, iteration: int, severity: str, info: ErrorInfo, subject: str = "") -> None:
        """Emits an alarm unless this one was raised before."""
        key = f"{info.code}:{subject}"
        if key not in self.position.raised:
            self.position.raised.append(key)
            self.emit(AlarmEvent(iteration=iteration, severity=severity, info=info))

    def terms(self, iteration: int, terms: dict[str, float]) -> None:
        """A term that is exactly zero again and again teaches nothing."""
        for name, value in terms.items():
            count = self.position.zero_counts.get(name, 0) + 1 if value == 0.0 else 0
            self.position.zero_counts[name] = count
            if count == ZERO_STEPS:
                info = ErrorInfo(
                    code="term.zero",
                    message=f"the term {name} has been exactly 0 for {ZERO_STEPS} steps: it teaches nothing",
                    hint="check its weight and its level",
                    value=name,
                )
                self.raise_once(iteration, "warning", info, name)

    def pull(self, iteration: int, pull: float | None, distill: Sequence[MethodTerm]) -> None:
        """Distillation that outweighs the labels: on some data that makes the student worse, on other it is best.

        Args:
            pull: `kd/pull` of this step, where it was measured.
        """
        if pull is None:
            return
        self.position.outweighed = self.position.outweighed + 1 if pull > OUTWEIGHED else 0
        if self.position.outweighed == IN_A_ROW:
            less = f"distill.0.weight near {distill[0].weight / pull:.2g}" if len(distill) == 1 else "smaller weights"
            info = ErrorInfo(
                code="kd.outweighs_labels",
                message=f"distillation pulls {pull:.1f} times as hard on the student as the labels (norms of the gradients)",
                hint=f"right on some data and harmful on other: try {less} and the student alone too, and compare them on val",
                field="distill.0.weight" if len(distill) == 1 else "distill",
                value=round(pull, 2),
            )
            self.raise_once(iteration, "warning", info)

    def starvation(self, iteration: int, data_wait: float) -> None:
        """The device waits for data more than it computes."""
        if self._long_enough(iteration) and data_wait > STARVED:
            info = ErrorInfo(
                code="data.starved",
                message=f"{data_wait:.0%} of the time is spent waiting for data",
                hint="more loader processes (batch.workers), smaller images on disk, or a faster disk",
                field="batch.workers",
                value=round(data_wait, 3),
            )
            self.raise_once(iteration, "warning", info)

    @staticmethod
    def _long_enough(iteration: int) -> bool:
        return iteration >= 50

    def diagnose(self, methods: list[Method], context: StepContext) -> dict[str, float]:
        """Scalars of every method; their alarms are raised."""
        scalars: dict[str, float] = {}
        for method in methods:
            found = method.diagnose(context_of(method, context))
            scalars |= found.scalars
            for code, sentence in found.alarms.items():
                self.raise_once(context.step, "warning", ErrorInfo(code=code, message=sentence), method.name)
        return scalars
