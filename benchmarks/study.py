"""Running named jobs through the API, once each: a finished run is a JSON file, and a file is never run again.

The runner can be ended at any moment. Jobs live on the server; started again, it finds them by name and waits on.
"""

from __future__ import annotations

import hashlib
import json
import platform
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import acamkd_core
from acamkd_core.client import ApiError, Client, Job
from acamkd_core.spec.api import JobDetail
from acamkd_core.spec.job import JobSpec
from acamkd_core.spec.tasks import primary

RATIO_POINTS = 150


@dataclass(frozen=True)
class Trial:
    """One job of a study: `name` is its file and its job name, `arm` its row in the table."""

    name: str
    arm: str
    stage: str  # teacher, tune or final
    seed: int
    spec: dict[str, Any]
    value: float | None = None  # the tuned setting, where there is one


@dataclass(frozen=True)
class Study:
    """Where results lie and which server runs the jobs."""

    folder: Path
    client: Client
    data: dict[str, Any]
    teachers: dict[str, Trial] = field(default_factory=dict)  # those asked for so far, by job name

    def result(self, trial: Trial) -> dict[str, Any] | None:
        """What a finished trial left, or None.

        Raises:
            SystemExit: the file is of another spec (a rate or a length has changed since): it would be a wrong number.
        """
        path = self.folder / f"{trial.name}.json"
        if not path.is_file():
            return None
        found: dict[str, Any] = json.loads(path.read_text())
        if found["spec_digest"] != _digest(self._spec(trial)):
            raise SystemExit(f"{path} is of another spec than {trial.name} has now: move it away to run it anew")
        return found

    def _spec(self, trial: Trial) -> dict[str, Any]:
        """The spec as it is written down: without folders of the machine that runs it."""
        spec: dict[str, Any] = _portable({**trial.spec, "dataset": self.data["name"]})
        return spec

    def queue(self, trials: Iterable[Trial]) -> None:
        """Submits what has no result yet, so that every slot of the server has work while `do` waits for the first."""
        for trial in trials:
            self._note(trial)
            if self.result(trial) is None:
                self._job(trial)

    def do(self, trial: Trial) -> dict[str, Any]:
        """The trial's result: read when it is finished, else run through the API (a failed run is a result too)."""
        self._note(trial)
        if (found := self.result(trial)) is not None:
            return found
        return self._finish(trial, self._job(trial), trial.name)

    def _finish(self, trial: Trial, job: Job, name: str) -> dict[str, Any]:
        """Waits for the trial's job and writes its result under `name`."""
        print(f"{time.strftime('%H:%M:%S')} {name} ({job.info.state})", flush=True)
        job.wait()
        info = job.refresh().info
        if info.state == "cancelled":
            raise SystemExit(f"{name} was cancelled: start again to run it anew")
        spec = self._spec(trial)
        result = {
            "name": name, "arm": trial.arm, "stage": trial.stage, "seed": trial.seed, "value": trial.value,
            "state": info.state, "reason": info.reason, "error": info.error.model_dump() if info.error else None,
            "metrics": info.metrics, "per_class": _per_class(job), "dataset": info.dataset_info.get("digest"),
            "minutes": round(_seconds(info) / 60, 2), "ratio": _ratio(job),
            "pull": _pull(job), "teacher": _teacher(job), "profile": info.profile, "spec": spec,
            "spec_digest": _digest(spec),
            "versions": {"acamkd": acamkd_core.__version__, "python": platform.python_version(), **self.data["versions"]},
        }  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / f"{name}.part"
        aside.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
        aside.replace(self.folder / f"{name}.json")
        label, value = primary(info.metrics, "test") or ("score", float("nan"))
        print(f"{time.strftime('%H:%M:%S')} {name}: {info.state} {value:.2f} test {label}", flush=True)
        return result

    def _note(self, trial: Trial) -> None:
        if trial.stage == "teacher":
            self.teachers[trial.name] = trial

    def _teach(self, trial: Trial) -> None:
        """Sees that the server has the finished teacher. One that does not trains it anew: results are committed, weights
        are not. The new teacher is another one, so its result gets a file of its own (`NAME-2.json`)."""
        known = [json.loads(path.read_text()) for path in sorted(self.folder.glob(f"{trial.name}*.json"))]
        job = self._job(trial)
        job.wait()
        if job.refresh().info.metrics not in [one["metrics"] for one in known]:
            self._finish(trial, job, f"{trial.name}-{len(known) + 1}" if known else trial.name)

    def _job(self, trial: Trial) -> Job:
        """The trial's job: found by its name, or submitted.

        Raises:
            SystemExit: the server's job of this name has another spec (of an earlier plan).
        """
        spec = {**trial.spec, "name": trial.name, "seed": trial.seed, "tags": [trial.stage, trial.arm]}
        try:
            job = self.client.jobs.get(trial.name)
        except ApiError as error:
            if error.status != 404:
                raise
            if (teacher := self.teachers.get(str(spec.get("teacher")).removeprefix("job:"))) is not None:
                self._teach(teacher)
            return self.client.jobs.create(spec)
        if JobSpec.model_validate(job.spec("submitted").spec) != JobSpec.model_validate(spec):
            raise SystemExit(
                f"the server's job {trial.name} has another spec than it has now: rename it to run it anew"
            )
        number = 2
        while job.info.state == "cancelled":  # the server names its retries -r2, -r3 ...
            try:
                job = self.client.jobs.get(f"{trial.name}-r{number}")
            except ApiError as error:
                if error.status != 404:
                    raise
                return job.retry()
            number += 1
        return job


def _digest(spec: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]


def _portable(value: Any) -> Any:
    """Without folders of the machine that ran it."""
    if isinstance(value, dict):
        return {key: _portable(one) for key, one in value.items()}
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def _seconds(info: JobDetail) -> float:
    return (info.ended_at - info.started_at).total_seconds() if info.ended_at and info.started_at else 0.0


def _per_class(job: Job) -> dict[str, float | None]:
    scored = [one for one in job.evaluations if one.split == "test" and one.role == "student"]
    return scored[-1].per_class if scored else {}


def _teacher(job: Job) -> dict[str, float] | None:
    """The teacher's scores, taken before training on the split that selects: they tell two teachers apart."""
    scored = [one.metrics for one in job.evaluations if one.role == "teacher"]
    return scored[-1] if scored else None


def _pull(job: Job) -> dict[str, float] | None:
    """`kd/pull` at the first step and its median over the run."""
    series = job.all_metrics("kd/pull").get("kd/pull")
    values = [float(y) for y in series.y if y is not None] if series else []
    return {"first": values[0], "median": statistics.median(values)} if values else None


def _ratio(job: Job) -> list[list[float]] | None:
    """KD/MSE ratio over the run, thinned: the matched control replays it, linear in between."""
    series = job.all_metrics("kd/mse_ratio").get("kd/mse_ratio")
    pairs = [[int(x), float(y)] for x, y in zip(series.x, series.y, strict=True) if y is not None] if series else []
    if not pairs:
        return None
    step = max(1, len(pairs) // RATIO_POINTS)
    return pairs[::step] + ([pairs[-1]] if (len(pairs) - 1) % step else [])
