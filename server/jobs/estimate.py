"""What a submission says of itself before anything runs: the sizes that distillation compares, and how long it may take."""

from __future__ import annotations

from sqlalchemy.orm import Session

from acamkd_core.spec.catalog import levels_of
from acamkd_core.spec.job import JobSpec
from acamkd_core.spec.pairing import Shape, pair_words
from server.db.tables import Job
from server.jobs import repository
from server.jobs.checks import Checked, train_images
from server.jobs.references import Network
from server.jobs.teacher import evaluation_size, teacher_strides

_LOOK_BACK = 50  # jobs


def iterations_of(spec: JobSpec, checked: Checked) -> int | None:
    """Optimizer steps of the run; None where only the data can tell."""
    if spec.schedule.iterations is not None:
        return spec.schedule.iterations
    images = train_images(spec, checked)
    if spec.schedule.epochs is None or not images:
        return None
    return round(spec.schedule.epochs * max(1, images // spec.batch.global_size))


def _shape(network: Network | None, name: str, classes: int, strides: dict[str, int]) -> Shape:
    """A level, as far as it is known before the run. `strides`: in the job's pixels."""
    if network is None or network.arch is None:
        return Shape(name, stride=strides.get(name))
    channels = {one.name: one.channels for one in levels_of(network.arch, classes)}
    return Shape(name, channels.get(name), strides.get(name))


def pairs_line(spec: JobSpec, checked: Checked) -> str:
    """`logits 11x23x30, no adapter; m1 576x20x20 <- p4 256x20x20, adapter to 256`, as far as it is known before the run."""
    named = (
        checked.dataset.classes if checked.dataset is not None else checked.teacher.classes if checked.teacher else []
    )
    classes = len(named)
    size = spec.augment.crop or evaluation_size(spec, checked)
    words: dict[str, None] = {}
    strides = checked.student.strides() if checked.student is not None else {}, teacher_strides(spec, checked)
    for term in spec.distill:
        for name, teacher_name in zip(term.at, term.teacher_at or term.at, strict=False):
            own = _shape(checked.student, name, classes, strides[0])
            other = _shape(checked.teacher, teacher_name, classes, strides[1])
            words[pair_words(own, other, size)] = None
    return "; ".join(words) or "no terms"


def eta_seconds(session: Session, job: Job, spec: JobSpec, checked: Checked) -> float | None:
    """Seconds of training, from the newest run of the same pair, terms, data and batch in this project."""
    iterations = iterations_of(spec, checked)
    if iterations is None:
        return None
    for other in repository.recent_runs(session, project_id=job.project_id, limit=_LOOK_BACK):
        done, seconds = other.progress.get("iteration"), other.progress.get("device_seconds")
        if other.id != job.id and done and seconds and _alike(other, job):
            return float(seconds) / float(done) * iterations
    return None


_SAME_SUMMARY = ("student", "teacher", "methods", "dataset")
_SAME_SPEC = ("batch", "augment", "train")


def _alike(a: Job, b: Job) -> bool:
    sizes = [(job.spec.get("teacher") or {}).get("size") for job in (a, b)]
    return (
        sizes[0] == sizes[1]
        and all(a.summary.get(key) == b.summary.get(key) for key in _SAME_SUMMARY)
        and all(a.spec.get(key) == b.spec.get(key) for key in _SAME_SPEC)
    )


def duration(seconds: float) -> str:
    """`40 s`, `6 m 20 s`, `2 h 05 m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} m"
