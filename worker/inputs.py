"""What a run needs from elsewhere, as local files: weights of other jobs, ratio series, the checkpoint to resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from server.db.session import read_session
from server.jobs.repository import Claim, read_series
from server.storage import Storage
from worker.settings import WorkerSettings

_ALL_POINTS = 10_000_000
RATIO = "kd/mse_ratio"


def prepare(
    claim: Claim, folder: Path, *, engine: Engine, storage: Storage, settings: WorkerSettings, threads: int, gpu: bool
) -> dict[str, Any]:
    """Fetch a claimed job's inputs and describe the run, as the child reads it from run.json.

    Raises:
        CoreError: `storage.missing` or `storage.corrupt`, when a file of the store is not what its row says.
    """
    cache = settings.cache_dir
    inputs = {}
    for key, source in claim.inputs.items():
        if "sha256" in source:
            suffix = Path(str(source.get("name") or "")).suffix
            inputs[key] = str(fetch(storage, str(source["sha256"]), cache / "inputs", suffix))
        elif key.startswith("ratio:"):
            inputs[key] = str(_ratio_file(engine, str(source["job"]), folder / f"ratio-{len(inputs)}.json"))
    resume = str(fetch(storage, claim.checkpoint, folder / "resume", ".ckpt")) if claim.checkpoint else None
    return {
        "spec": claim.spec,
        "job": claim.job_id,
        "attempt": claim.attempt,
        "resume": resume,
        "inputs": inputs,
        "roots": [str(root) for root in settings.roots],
        "code_roots": [str(root) for root in settings.code_folders],
        "cache": str(cache),
        "threads": threads,
        "device": "auto" if gpu else "cpu",
        "device_seconds": claim.device_seconds,
    }


def fetch(storage: Storage, sha256: str, folder: Path, suffix: str) -> Path:
    """A blob as a file named by its digest; one that is there already was verified when it was written."""
    path = folder / f"{sha256}{suffix}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        storage.get_to_file(sha256, path)
    return path


def _ratio_file(engine: Engine, job_id: str, path: Path) -> Path:
    """The KD/MSE ratios that another run recorded, as [[iteration, ratio], ...]; non-finite points are left out."""
    with read_session(engine) as session:
        series = read_series(session, job_id=job_id, names=[RATIO], points=_ALL_POINTS)
    pairs = [[int(x), y] for one in series for x, y in zip(one.x, one.y, strict=True) if y is not None]
    path.write_text(json.dumps(pairs), encoding="utf-8")
    return path
