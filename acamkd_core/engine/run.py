"""The entry of every run: `run_job` in a process of one's own, `python -m acamkd_core.engine.run --dir DIR` as a child.

A child reads `run.json` in its folder, writes `events.jsonl`, and ends with 0 (succeeded), 1 (failed, the result event
says why) or 3 (stopped on request). Its standard input is a lifeline: at its end the supervisor is gone, and so are we.
"""

from __future__ import annotations

import argparse
import errno
import faulthandler
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from acamkd_core.engine.distil import distil
from acamkd_core.engine.events_file import EventsFile
from acamkd_core.engine.inspection import run_inspection
from acamkd_core.engine.memory import is_out_of_memory
from acamkd_core.engine.parts import Emit, Run
from acamkd_core.engine.result import JobResult
from acamkd_core.engine.trainer import NonFiniteLoss
from acamkd_core.spec.errors import CoreError, ErrorInfo
from acamkd_core.spec.events import LogEvent, ResultEvent
from acamkd_core.spec.job import InspectSpec, JobSpec, parse_job

# What a disk says when nothing can be written: no mistake in a spec, but nothing that we could mend either.
_DISK = {
    errno.ENOSPC: "disk.full", errno.EDQUOT: "disk.full", errno.EROFS: "disk.read_only", errno.EACCES: "disk.no_access",
}  # fmt: skip
EXIT_CODES = {"succeeded": 0, "failed": 1, "stopped": 3}


def run_job(
    spec: JobSpec | InspectSpec, *, paths: Run, emit: Emit, should_stop: Callable[[], bool], device: str = "auto"
) -> JobResult:
    """Does a job from data to verified exports, and says everything through `emit`. Never raises for a failed job.

    Args:
        spec: a parsed job.
        paths: where to write, what to read, what to resume from.
        emit: takes each typed event, in order.
        should_stop: asked at every step; True ends the run after a checkpoint.
        device: `auto`, `cpu`, `cuda` or `cuda:<n>`.

    Returns:
        status, reason, error and metrics; the same is the last event.
    """
    try:
        if isinstance(spec, InspectSpec):
            result = run_inspection(spec, paths, emit=emit, should_stop=should_stop)
        else:
            result = distil(spec, paths, emit=emit, should_stop=should_stop, device=_device(device, spec))
    except NonFiniteLoss as error:
        bad = [name for name, value in error.terms.items() if value != value or abs(value) == float("inf")]
        info = ErrorInfo(
            code="non_finite_loss",
            message=f"the {error.what} stopped being a number at iteration {error.iteration} ({', '.join(bad) or 'sum of the terms'})",
            hint="lower optimizer.lr, set train.grad_clip, or use fp32; the last finite state is kept as a checkpoint",
            field="optimizer.lr",
            value=spec.optimizer.lr if isinstance(spec, JobSpec) else None,
        )
        result = JobResult("failed", "non_finite_loss", info, iteration=error.iteration)
    except CoreError as error:
        reason = "out_of_memory" if error.code.startswith("out_of_memory") else "spec_or_data"
        result = JobResult("failed", reason, error.info)
    except Exception as error:
        emit(LogEvent(level="error", message=traceback.format_exc()))
        if is_out_of_memory(error):
            info = ErrorInfo(
                code="out_of_memory",
                message="the run does not fit into memory",
                hint="a smaller batch, crop or network",
                value=str(error)[:300],
            )
            result = JobResult("failed", "out_of_memory", info)
        elif isinstance(error, OSError) and error.errno in _DISK:
            info = ErrorInfo(
                code=_DISK[error.errno],
                message=f"a file cannot be written: {error.strerror}",
                hint="free space or give rights, then resume or retry: the last checkpoint is whole",
                value=str(error.filename) if error.filename else None,
            )
            result = JobResult("failed", "spec_or_data", info)
        elif isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
            # Killed from outside (or for memory): no mistake of anybody's; a worker goes on from the checkpoint.
            info = ErrorInfo(
                code="data.loader_killed",
                message="a loader process was killed while it read images",
                hint="fewer batch.workers need less memory",
                field="batch.workers",
                value=str(error)[:300],
            )
            result = JobResult("failed", "bug", info)
        else:
            info = ErrorInfo(
                code="bug",
                message=f"{type(error).__name__}: {error}"[:500],
                hint="this is our mistake: please report it with the log",
            )
            result = JobResult("failed", "bug", info)
    emit(
        ResultEvent(
            status=result.status,
            reason=result.reason,
            error=result.error,
            metrics=result.metrics,
            weights_digest=result.weights_digest,
            iteration=result.iteration,
        )
    )
    return result


def _device(name: str, spec: JobSpec) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(name)
    except RuntimeError:
        raise CoreError(
            "device.unknown", f"there is no device {name!r}", hint="auto, cpu, cuda or cuda:<n>", value=name
        ) from None
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise CoreError(
            "device.no_gpu",
            f"{name} is asked for, and this machine has {torch.cuda.device_count()} GPUs that PyTorch can use",
            hint="use cpu, or a PyTorch build for your GPU",
            value=name,
        )
    if spec.resources.gpus > 0 and chosen.type == "cpu":
        raise CoreError(
            "device.no_gpu",
            "the job asks for a GPU and this machine has none",
            field="resources.gpus",
            value=spec.resources.gpus,
        )
    if spec.resources.gpus > 1:
        raise CoreError(
            "device.one_gpu",
            "this version trains on one GPU",
            hint="set resources.gpus to 1",
            field="resources.gpus",
            value=spec.resources.gpus,
        )
    if spec.train.precision == "fp16" and chosen.type == "cpu":
        raise CoreError(
            "precision.fp16_on_cpu", "fp16 needs a GPU", hint="use fp32 or bf16", field="train.precision", value="fp16"
        )
    return chosen


def _follow_lifeline() -> None:
    """Ends this process when standard input ends: the supervisor that held the other end is dead."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os._exit(4)

    threading.Thread(target=watch, daemon=True, name="lifeline").start()


def read_run(folder: Path) -> tuple[JobSpec | InspectSpec, Run, dict[str, Any]]:
    """The content of `run.json`."""
    data = json.loads((folder / "run.json").read_text())
    run = Run(
        folder=folder,
        cache=Path(data["cache"]),
        roots=[Path(root) for root in data["roots"]] if data.get("roots") is not None else None,
        inputs={name: Path(path) for name, path in data.get("inputs", {}).items()},
        resume=Path(data["resume"]) if data.get("resume") else None,
        attempt=data.get("attempt", 1),
        device_seconds=data.get("device_seconds", 0.0),
    )
    return parse_job(data["spec"]), run, data


def main(arguments: list[str] | None = None) -> int:
    """The child process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--no-lifeline", action="store_true", help="standard input is not a supervisor's pipe")
    options = parser.parse_args(arguments)
    faulthandler.enable()
    if not options.no_lifeline:
        _follow_lifeline()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group: the supervisor decides
    emit = EventsFile(options.dir / "events.jsonl")
    try:
        spec, run, data = read_run(options.dir)
    except CoreError as error:
        emit(ResultEvent(status="failed", reason="spec_or_data", error=error.info))
        return 1
    if data.get("threads"):
        torch.set_num_threads(data["threads"])
    result = run_job(spec, paths=run, emit=emit, should_stop=stop.is_set, device=data.get("device", "auto"))
    emit.close()
    return EXIT_CODES[result.status]


if __name__ == "__main__":
    sys.exit(main())
