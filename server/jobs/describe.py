"""Jobs in words: the lines that `acamkd submit` prints, the row's short names, why a job waits."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from acamkd_core.spec.api import TERMINAL_STATES, QueueInfo
from acamkd_core.spec.job import InspectSpec, JobSpec
from acamkd_core.spec.labels import arch_label
from acamkd_core.spec.tasks import primary
from server.db.base import utcnow
from server.db.tables import Job
from server.jobs import repository
from server.jobs.checks import Checked
from server.jobs.estimate import pairs_line
from server.jobs.references import Network
from server.workers import repository as workers

ONLINE_SECONDS = 30.0


def network_label(network: Network | None) -> str | None:
    """Short name of a network, `(from its weights)` where only they know."""
    if network is None:
        return None
    if network.graph is not None:
        return network.graph.label
    return arch_label(network.arch) if network.arch is not None else "network of its weights"


def dataset_label(spec: JobSpec | InspectSpec, checked: Checked) -> str:
    """`camvid@3f9c1e`, `scenes`, or the folder's name."""
    if checked.dataset is not None:
        version = f"@{checked.dataset.version[:6]}" if checked.dataset.version else ""
        return f"{checked.dataset.name}{version}"
    root = getattr(spec.dataset, "root", None)
    return spec.dataset.format if root is None else str(root).rstrip("/").rpartition("/")[2]


def dataset_version(job: Job) -> str | None:
    """The row's dataset, with the version that the job found where the label could not yet say it."""
    label, digest = job.summary.get("dataset"), (job.facts.get("dataset") or {}).get("digest")
    if not label or not digest or "@" in label:
        return label
    return f"{label}@{digest[:6]}"


def row_summary(spec: JobSpec | InspectSpec, checked: Checked) -> dict[str, Any]:
    """What lists show of a job."""
    summary: dict[str, Any] = {"dataset": dataset_label(spec, checked)}
    if isinstance(spec, JobSpec):
        summary |= {
            "methods": list(dict.fromkeys(term.method for term in spec.distill)),
            "student": network_label(checked.student),
            "teacher": network_label(checked.teacher) if spec.teacher is not None else None,
            "seed": spec.seed,
        }
    return summary


def _network_line(network: Network | None) -> str:
    text = network_label(network) or ""
    if network is None:
        return text
    if (count := network.parameters()) is not None:
        text += f" {count / 1e6:.2f} M"
    score = primary(network.metrics, "test", "best")
    return text if score is None else f"{text}, {score[1]:.1f} {score[0]}"


def summary_lines(spec: JobSpec | InspectSpec, checked: Checked, *, given: int, resolved: int) -> list[str]:
    """The lines spec, data and pair; the line about the queue is added once there is a place in it."""
    lines = [f"spec   {given} lines given, {resolved} resolved"]
    data = [f"data   {dataset_label(spec, checked)}"]
    if checked.dataset is not None:
        images = checked.dataset.images
        data.append("/".join(str(images[role]) for role in ("train", "val", "test") if role in images))
        data.append(f"{len(checked.dataset.classes)} classes")
        if checked.dataset.ignore_id is not None:
            data.append(f"ignore {checked.dataset.ignore_id}")
    elif spec.dataset.format == "scenes":
        data.append(f"{spec.dataset.train_images}/{spec.dataset.val_images}/{spec.dataset.test_images}")
    warnings = sum(finding.severity == "warning" for finding in checked.findings)
    if warnings:
        data.append(f"{warnings} warning{'s' if warnings > 1 else ''}")
    lines.append("  ".join(part for part in data if part))
    if isinstance(spec, JobSpec):
        student = _network_line(checked.student)
        if spec.teacher is None:
            lines.append(f"pair   student {student} alone")
        else:
            teacher = _network_line(checked.teacher)
            if spec.teacher.size is not None:
                teacher += f", sees {spec.teacher.size[0]}x{spec.teacher.size[1]}"
            lines.append(f"pair   teacher {teacher} -> student {student}   {pairs_line(spec, checked)}")
    return lines


def queue_info(session: Session, job: Job) -> QueueInfo | None:
    """Why a job is not running and what would start it; None for running and ended jobs."""
    if job.state == "running" or job.state in TERMINAL_STATES:
        return None
    if job.state == "paused":
        return QueueInfo(why="paused", would_start="resume it")
    if job.state == "waiting":
        unfinished = [
            parent for parent in repository.dependencies(session, job_id=job.id) if parent.state != "succeeded"
        ]
        names = ", ".join(f"{parent.name} ({parent.state})" for parent in unfinished)
        return QueueInfo(why=f"waits for {names}", would_start="the end of that job")
    position = repository.queue_position(session, job=job)
    now = utcnow()
    online = [
        worker
        for worker in workers.list_workers(session)
        if worker.state == "online" and (now - worker.seen_at).total_seconds() < ONLINE_SECONDS
    ]
    if not online:
        return QueueInfo(position=position, why="no worker is online", would_start="start one: acamkd worker")
    missing = [label for label in job.labels if not any(label in worker.labels for worker in online)]
    if missing:
        return QueueInfo(position=position, why=f"no worker has the label {missing[0]}", would_start="such a worker")
    # A job runs in one slot, on the slot's own GPUs: "0,1" is a slot with two, "cpu" one with none.
    gpus = max(0 if slot == "cpu" else len(slot.split(",")) for worker in online for slot in worker.devices or ["cpu"])
    if job.gpus > gpus:
        why = f"it asks for {job.gpus} GPUs; the largest slot of a worker has {gpus}"
        hint = (
            f"a worker with ACAMKD_DEVICES={','.join(str(index) for index in range(job.gpus))}, or fewer GPUs asked for"
        )
        return QueueInfo(position=position, why=why, would_start=hint)
    busy = sum(len(jobs) for jobs in workers.running_jobs(session).values())
    slots = sum(worker.slots for worker in online)
    if busy >= slots:
        why = f"all {slots} slots are busy"
        return QueueInfo(position=position, why=why, would_start="a slot that becomes free")
    return QueueInfo(position=position, why="a slot is free", would_start="a worker takes it within seconds")


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th ..."""
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
