"""What the REST API answers with: shared by the server, the SDK and (through OpenAPI) the dashboard.

Times are UTC, ISO 8601. Ids are UUIDv7 strings. A job is addressed by id or by name. Lists are pages.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from acamkd_core.spec.errors import ErrorInfo
from acamkd_core.spec.programs import TeacherProgram
from acamkd_core.spec.tasks import TaskName

T = TypeVar("T")

JobState = Literal["waiting", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
TERMINAL_STATES: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
# Why a job is in its state: the end of a run, or what a waiting job waits for.
Reason = Literal[
    "done",
    "early_stop",
    "user_cancel",
    "spec_or_data",
    "out_of_memory",
    "non_finite_loss",
    "worker_lost",
    "dependency_failed",
    "time_limit",
    "bug",
    "waits_for_teacher",
    "paused_by_user",
    "released",
]


class Page(BaseModel, Generic[T]):
    """A page of a list. `next_cursor` is null on the last page."""

    items: list[T]
    next_cursor: str | None = None
    total: int


class Problem(BaseModel):
    """Every error answer: the first problem's fields, and all problems with their field paths."""

    code: str
    message: str
    hint: str | None = None
    field: str | None = None
    value: Any = None
    problems: list[ErrorInfo] = Field(default_factory=list)


class Finding(BaseModel):
    """One line of the pre-flight doctor."""

    severity: Literal["error", "warning", "info"]
    info: ErrorInfo


class FieldOrigin(BaseModel):
    """A leaf of the resolved spec and where its value comes from."""

    path: str
    value: Any = None
    origin: Literal["given", "default", "automatic"]


class ProgressInfo(BaseModel):
    """Where a running job is (last report)."""

    iteration: int = 0
    iterations: int = 0
    stage: str = ""
    epoch: float = 0.0
    iterations_per_second: float | None = None
    images_per_second: float | None = None
    eta_seconds: float | None = None
    device_seconds: float | None = None
    data_wait: float | None = None
    reported_at: datetime | None = None


class QueueInfo(BaseModel):
    """Why a job is not running yet, and what would start it."""

    position: int | None = None
    why: str
    would_start: str


class JobSummary(BaseModel):
    """A row of the Runs page."""

    id: str
    name: str
    kind: Literal["distill", "inspect"]
    state: JobState
    reason: Reason | None = None
    task: str | None = Field(default=None, description="What is learnt, which names the metric; null for inspections.")
    tags: list[str] = []
    methods: list[str] = Field(
        default=[], description="Methods of the distill terms, e.g. ['acam']; empty = student alone."
    )
    student: str | None = Field(default=None, description="Short name, e.g. `DLv3-MBV2 0.35`.")
    teacher: str | None = None
    dataset: str | None = Field(
        default=None,
        description="Name@version; of a folder or of scenes the version is known once the job has read it.",
    )
    seed: int | None = None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    progress: ProgressInfo = ProgressInfo()
    metrics: dict[str, float] = Field(
        default={}, description="Latest and final figures: val/miou, best/miou, teacher/miou, test/miou."
    )
    alarms: int = 0
    attempts: int = 0


class JobDetail(JobSummary):
    """Everything the run page's header needs."""

    notes: str = ""
    error: ErrorInfo | None = None
    fixes: list[dict[str, Any]] = Field(
        default=[], description="One-click remedies after a failure: {label, set: {path: value}} for POST .../retry."
    )
    queue: QueueInfo | None = None
    retry_of: str | None = None
    waits_for: str | None = None
    dataset_info: dict[str, Any] = Field(
        default={}, description="Classes, palette, ignore id, digest, images per split."
    )
    profile: dict[str, Any] = Field(
        default={}, description="role -> parameters, macs, latency_ms, latency_conditions, arch."
    )
    teacher_program: TeacherProgram | None = Field(
        default=None, description="Which program the teacher is, where it is one: it runs code."
    )
    pairs: list[dict[str, Any]] = []
    evaluations: list[dict[str, Any]] = Field(
        default=[], description="EvaluationEvent payloads, oldest first, at most 500."
    )
    iteration_seconds: float | None = None
    given: int = Field(default=0, description="Number of fields the user gave.")
    resolved: int = Field(default=0, description="Number of fields in the resolved spec.")
    last_log: list[str] = Field(default=[], description="Last 20 log lines, filled for failed jobs.")
    alarm_list: list[dict[str, Any]] = Field(default=[], description="AlarmEvent payloads, newest first.")


class AttemptInfo(BaseModel):
    """One try at a job on one worker."""

    number: int
    worker: str | None = None
    pid: int | None = None
    devices: list[str] = []
    started_at: datetime
    ended_at: datetime | None = None
    exit: str | None = Field(default=None, description="succeeded, failed, released, paused, cancelled, lost.")
    reason: str | None = None
    counted: bool = Field(default=False, description="Whether it used up one of max_attempts.")
    resumed_from: int | None = Field(default=None, description="Iteration of the checkpoint it started from.")
    last_checkpoint: int | None = None


class ArtifactInfo(BaseModel):
    """A file in the artifact store."""

    id: str
    job: str | None = None
    kind: Literal["checkpoint", "export", "bundle", "panel", "report"]
    name: str = Field(description="File name of the download.")
    format: str = Field(description="safetensors, onnx, zip, ckpt, png, json ...")
    bytes: int
    sha256: str
    iteration: int | None = None
    attempt: int | None = None
    verified: bool | None = None
    metrics: dict[str, float] = {}
    details: dict[str, Any] = Field(default={}, description="Gate report, weights digest, lineage.")
    created_at: datetime


class PanelInfo(BaseModel):
    """A picture of the run page; fetch it at /api/v1/artifacts/{artifact}/download?inline=1."""

    artifact: str
    iteration: int
    image: int
    kind: str
    index: int = 0
    caption: str = ""
    stats: dict[str, float] = {}
    attempt: int


class PanelIndex(BaseModel):
    """Where a run has pictures: enough to draw a scrubber without listing all of them."""

    iterations: list[int] = Field(description="Evaluations with predictions or masks, ascending.")
    images: list[int] = Field(description="Indices in the validation split, ascending.")
    once: list[PanelInfo] = Field(default=[], description="Image, truth and teacher: drawn once, they stand for all.")


class Series(BaseModel):
    """One metric. `y` holds null where the value was not finite. With down-sampling, min and max envelopes are given."""

    name: str
    x: list[float]
    y: list[float | None]
    low: list[float | None] | None = None
    high: list[float | None] | None = None
    points_total: int


class MetricsAnswer(BaseModel):
    """Series of one job, and where attempts began."""

    job: str
    x: Literal["iteration", "images", "device_seconds"]
    series: list[Series]
    names: list[str] = Field(description="All metric names of the job.")
    attempts: list[dict[str, Any]] = Field(default=[], description="{number, iteration} of each resume.")


class LogPage(BaseModel):
    """Log lines, oldest first; ask again with after=`next` to follow."""

    lines: list[dict[str, Any]] = Field(description="{n, attempt, time, level, text}")
    next: int


class StreamEvent(BaseModel):
    """One server-sent event. `seq` orders a job's events; `kind` says what to refetch or patch.

    kinds: state, progress, metrics (iteration), evaluation, panel, alarm, checkpoint, export, log (next), attempt, result.
    """

    job: str
    name: str
    seq: int
    kind: str
    data: dict[str, Any]


class SubmitAnswer(BaseModel):
    """Answer to POST /jobs and its dry run (`id` null)."""

    id: str | None = None
    name: str | None = None
    state: JobState | None = None
    spec: dict[str, Any]
    origins: list[FieldOrigin]
    given: int
    resolved: int
    findings: list[Finding] = []
    summary: list[str] = Field(default=[], description="The lines `acamkd submit` prints: spec, data, pair, queued.")
    queue: QueueInfo | None = None


class DatasetInfo(BaseModel):
    """A registered dataset."""

    id: str
    name: str
    version: str | None = Field(default=None, description="Digest; null until inspected.")
    format: str
    root: str
    state: Literal["inspecting", "ready", "failed"]
    task: str | None = None
    classes: list[dict[str, Any]] = []
    ignore_id: int | None = None
    images: dict[str, int] = {}
    options: dict[str, Any] = Field(default={}, description="Fields of the format that were given at registration.")
    errors: int = 0
    warnings: int = 0
    report: dict[str, Any] = {}
    contact_sheet: str | None = Field(default=None, description="Artifact id of the contact sheet.")
    inspect_job: str | None = None
    created_at: datetime


class DatasetCreate(BaseModel):
    """Register a folder under a configured root."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")
    path: str = Field(description="Folder, absolute or relative to a configured root.")
    format: Literal["auto", "mask_folder", "cityscapes", "coco", "voc", "yolo", "image_folder"] = "auto"
    task: TaskName | None = Field(
        default=None, description="Which labels to take where a folder has masks and boxes; automatic: masks first."
    )
    options: dict[str, Any] = Field(
        default={},
        description="Further fields of the format, as a job's `dataset` has them, e.g. {annotation_file: labels/{split}.json}; "
        "needs a `format` other than auto, except for `splits`.",
    )


class ModelInfo(BaseModel):
    """A model that a job produced; `model:name@alias` in specs."""

    id: str
    name: str
    version: int
    aliases: list[str] = []
    job: str | None = None
    arch: str
    parameters: int | None = None
    task: str
    classes: list[str] = []
    dataset: str | None = None
    metrics: dict[str, float] = {}
    artifact: str = Field(description="Artifact id of the safetensors file.")
    weights_digest: str | None = None
    created_at: datetime


class WorkerInfo(BaseModel):
    """A worker and its slots."""

    id: str
    name: str
    host: str
    pid: int
    state: Literal["online", "lost", "stopped"]
    slots: int
    busy: int
    devices: list[str] = []
    labels: list[str] = []
    jobs: list[str] = []
    versions: dict[str, str] = {}
    started_at: datetime
    last_seen_seconds: float
    cpu_percent: float | None = None
    memory_mb: float | None = None


class ApiKeyInfo(BaseModel):
    """An API key without its secret; `key` is filled once, in the answer that creates it."""

    id: str
    name: str
    prefix: str
    key: str | None = None
    created_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


class CompareJob(BaseModel):
    """One column of the Compare page."""

    job: JobSummary
    per_class: dict[str, float | None] = {}
    profile: dict[str, Any] = {}
    device_seconds: float | None = None


class CompareAnswer(BaseModel):
    """Jobs side by side; the first is the baseline."""

    jobs: list[CompareJob]
    differing: list[dict[str, Any]] = Field(description="{path, values: [per job]} for every field that differs.")
    not_comparable: list[str] = Field(default=[], description="Reasons, e.g. other data version, split or budget.")
    series: list[MetricsAnswer] = []


class Health(BaseModel):
    """`/readyz`: ready, or degraded with the reason (jobs are still accepted)."""

    status: Literal["ready", "degraded", "unavailable"]
    checks: dict[str, str]
    version: str
