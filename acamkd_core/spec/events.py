"""Everything that a run says, typed. One JSON line an event in `events.jsonl`; `type` selects the class.

Paths in events are relative to the attempt's folder. Metrics are in points (0 to 100); times are in seconds.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

from acamkd_core.spec.errors import ErrorInfo


class Event(BaseModel):
    """Base of all events."""

    time: float = Field(default_factory=time.time, description="Unix time in seconds.")


class StageEvent(Event):
    """The run entered a stage."""

    type: Literal["stage"] = "stage"
    stage: Literal["data", "build", "teacher_check", "prepare", "train", "test", "export", "verify", "done"]
    detail: str = ""


class ResolvedEvent(Event):
    """What was decided before training: the automatic values that only the data and the networks could tell."""

    type: Literal["resolved"] = "resolved"
    spec: dict[str, Any]
    automatic: dict[str, Any] = Field(description="Dotted path to value for every automatic field.")
    dataset: dict[str, Any] = Field(description="Name, digest, classes, palette, ignore id, images per split.")
    pairs: list[dict[str, Any]] = Field(
        description="Per term and level: shapes of teacher and student, adapter or not."
    )


class ProfileEvent(Event):
    """Size and speed of both networks: parameters, multiply-adds, latency with its conditions."""

    type: Literal["profile"] = "profile"
    role: Literal["teacher", "student"]
    arch: str
    parameters: int
    macs: int | None = Field(description="Multiply-adds; null for a network that another runtime runs.")
    latency_ms: float
    latency_conditions: str = Field(description="Device, threads, batch and input size of the latency.")


class ProgressEvent(Event):
    """Where the run is."""

    type: Literal["progress"] = "progress"
    iteration: int
    iterations: int
    epoch: float
    iterations_per_second: float
    images_per_second: float
    device_seconds: float = Field(description="Seconds spent in training steps so far, over all attempts.")
    data_wait: float = Field(description="Share of the time spent waiting for data, 0 to 1.")
    eta_seconds: float | None = None


class MetricsEvent(Event):
    """Numbers at an iteration. Names: loss/<term>, lr, kd/mse_ratio, kd/share, kd/pull, kd/agreement, mask/<set>/<stat>,
    val/miou (detection: val/map), val/iou/<class> (val/ap/<class>).

    Non-finite values are written as null with their name in `non_finite`.
    """

    type: Literal["metrics"] = "metrics"
    iteration: int
    values: dict[str, float | None]
    non_finite: list[str] = Field(default_factory=list)


class EvaluationEvent(Event):
    """A full pass over a split."""

    type: Literal["evaluation"] = "evaluation"
    role: Literal["teacher", "student"]
    split: str
    iteration: int
    metrics: dict[str, float] = Field(description="e.g. miou, pixel_accuracy; map, map_50; in points.")
    per_class: dict[str, float | None] = Field(
        description="IoU (detection: AP) per class in points; null where the split does not have it."
    )
    seconds: float
    is_best: bool = False


class PanelEvent(Event):
    """A picture for the run page, as a PNG file."""

    type: Literal["panel"] = "panel"
    iteration: int
    image: int = Field(description="Index in the validation split.")
    kind: Literal["image", "truth", "prediction", "teacher", "error", "mask_spatial", "mask_channel"]
    index: int = Field(default=0, description="Number among the pictures of its kind and image.")
    path: str
    caption: str = ""
    stats: dict[str, float] = Field(default_factory=dict, description="Mean, deviation, minimum, maximum of a mask.")


class AlarmEvent(Event):
    """Something a user should know now."""

    type: Literal["alarm"] = "alarm"
    iteration: int
    severity: Literal["warning", "error"]
    info: ErrorInfo


class CheckpointEvent(Event):
    """A complete checkpoint lies on disk (written aside, synced, renamed)."""

    type: Literal["checkpoint"] = "checkpoint"
    iteration: int
    path: str
    is_best: bool
    is_last: bool
    metrics: dict[str, float] = Field(default_factory=dict)


class RewoundEvent(Event):
    """The run goes on from a checkpoint: points after this iteration will be written again."""

    type: Literal["rewound"] = "rewound"
    iteration: int
    attempt: int


class ExportEvent(Event):
    """An exported file, and what the gate said of it."""

    type: Literal["export"] = "export"
    format: str
    path: str
    bytes: int
    weights_digest: str | None = None
    verified: bool | None = Field(default=None, description="null: no gate for this format.")
    gate: dict[str, Any] = Field(
        default_factory=dict, description="Metric of file and checkpoint, agreement in percent, images, failures."
    )


class InspectionEvent(Event):
    """The report on a dataset; `findings` are `ErrorInfo` with severity, count and example files."""

    type: Literal["inspection"] = "inspection"
    report: dict[str, Any]


class LogEvent(Event):
    """A line for the reader."""

    type: Literal["log"] = "log"
    level: Literal["info", "warning", "error"] = "info"
    message: str


class ResultEvent(Event):
    """The last event of an attempt."""

    type: Literal["result"] = "result"
    status: Literal["succeeded", "failed", "stopped"]
    reason: Literal["done", "early_stop", "stopped", "spec_or_data", "out_of_memory", "non_finite_loss", "bug"]
    error: ErrorInfo | None = None
    metrics: dict[str, float] = Field(default_factory=dict, description="test/miou, val/miou, ...")
    weights_digest: str | None = None
    iteration: int = 0


AnyEvent = Annotated[
    StageEvent
    | ResolvedEvent
    | ProfileEvent
    | ProgressEvent
    | MetricsEvent
    | EvaluationEvent
    | PanelEvent
    | AlarmEvent
    | CheckpointEvent
    | RewoundEvent
    | ExportEvent
    | InspectionEvent
    | LogEvent
    | ResultEvent,
    Field(discriminator="type"),
]
_adapter: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


def parse_event(line: str | bytes) -> AnyEvent:
    """One line of `events.jsonl`. Raises pydantic's ValidationError on a partial or foreign line."""
    return _adapter.validate_json(line)
