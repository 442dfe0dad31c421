"""What a submission says of itself before anything runs: the sizes that distillation compares, and how long it may take."""

from __future__ import annotations

from sqlalchemy.orm import Session

from acamkd_core.spec.catalog import LevelFacts, levels_of
from acamkd_core.spec.job import JobSpec
from server.db.tables import Job
from server.jobs import repository
from server.jobs.checks import Checked, train_images
from server.jobs.teacher import evaluation_size

_LOOK_BACK = 50  # jobs


def iterations_of(spec: JobSpec, checked: Checked) -> int | None:
    """Optimizer steps of the run; None where only the data can tell."""
    if spec.schedule.iterations is not None:
        return spec.schedule.iterations
    images = train_images(spec, checked)
    if spec.schedule.epochs is None or not images:
        return None
    return round(spec.schedule.epochs * max(1, images // spec.batch.global_size))


def _level(arch: object, name: str, classes: int) -> LevelFacts | None:
    return next((level for level in levels_of(arch, classes) if level.name == name), None)


def pair_words(spec: JobSpec, checked: Checked) -> str:
    """`logits 11x23x30, no adapter; c5 320x12x15, adapter to 2048`, as far as it is known without building anything."""
    student = checked.student.arch if checked.student else None
    teacher = checked.teacher.arch if checked.teacher else None
    named = (
        checked.dataset.classes if checked.dataset is not None else checked.teacher.classes if checked.teacher else []
    )
    classes = len(named)
    size = spec.augment.crop or evaluation_size(spec, checked)
    words: dict[str, None] = {}
    for term in spec.distill:
        for name, teacher_name in zip(term.at, term.teacher_at or term.at, strict=False):
            mine = _level(student, name, classes) if student is not None else None
            theirs = _level(teacher, teacher_name, classes) if teacher is not None else None
            text = name
            if mine is not None and mine.channels:
                text += f" {mine.channels}"
                if size is not None and mine.stride:
                    text += "".join(f"x{-(-side // mine.stride)}" for side in size)
            if name == teacher_name == "logits" or (mine and theirs and mine.channels == theirs.channels):
                text += ", no adapter"
            elif mine and theirs:
                text += f", adapter to {theirs.channels}"
            words[text] = None
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
