"""The entry of every run: `run_job` in a process of one's own, `python -m acamkd_core.engine.run --dir DIR` as a child.

A child reads `run.json` in its folder, writes `events.jsonl`, and ends with 0 (succeeded), 1 (failed, the result event
says why) or 3 (stopped on request). Its standard input is a lifeline: at its end the supervisor is gone, and so are we.
A job of several processes becomes torchrun's agent here (`launch.py`), and its ranks come through here again.
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

from acamkd_core import ranks
from acamkd_core.engine.distil import distil
from acamkd_core.engine.events_file import EventsFile
from acamkd_core.engine.inspection import run_inspection
from acamkd_core.engine.launch import launch
from acamkd_core.engine.parts import Emit, Run
from acamkd_core.engine.result import EXIT_CODES, JobResult
from acamkd_core.engine.trainer import NonFiniteLoss
from acamkd_core.memory import is_out_of_memory
from acamkd_core.spec.errors import CoreError, ErrorInfo
from acamkd_core.spec.events import AnyEvent, LogEvent, ResultEvent
from acamkd_core.spec.job import InspectSpec, JobSpec, parse_job

# What a disk says when nothing can be written: no mistake in a spec, but nothing that we could mend either.
_DISK = {
    errno.ENOSPC: "disk.full", errno.EDQUOT: "disk.full", errno.EROFS: "disk.read_only", errno.EACCES: "disk.no_access",
}  # fmt: skip


def run_job(
    spec: JobSpec | InspectSpec, *, paths: Run, emit: Emit, should_stop: Callable[[], bool], device: str = "auto"
) -> JobResult:
    """Does a job from data to verified exports, and says everything through `emit`. Never raises for a failed job.

    Args:
        spec: a parsed job.
        paths: where to write, what to read, what to resume from.
        emit: takes each typed event, in order.
        should_stop: asked at every step; True ends the run after a checkpoint.
        device: `auto`, `cpu`, `cuda` or `cuda:<n>`; of several processes each takes the GPU of its own number.

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
        # When a rank has died, torchrun asks the group of each other one to end, the loader processes too.
        if ranks.lost_peer(error) or (ranks.world() > 1 and should_stop()):
            traceback.print_exc()
            return JobResult("lost", "bug")
        emit(LogEvent(level="error", message=traceback.format_exc()))
        if is_out_of_memory(error):
            info = ErrorInfo(
                code="out_of_memory",
                message="the run does not fit into memory",
                hint="a smaller batch, crop or network, or batch.accumulate: more passes a step",
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
    if spec.resources.gpus > 0 and chosen.type == "cpu":
        raise CoreError(
            "device.no_gpu",
            "the job asks for a GPU and this machine has none",
            field="resources.gpus",
            value=spec.resources.gpus,
        )
    if chosen.type == "cuda" and ranks.world() > 1:
        if chosen.index is not None:
            raise CoreError(
                "device.one_gpu", f"{ranks.world()} processes cannot share {name}", hint="use cuda", value=name
            )
        chosen = torch.device("cuda", ranks.local_rank())
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise CoreError(
            "device.no_gpu",
            f"{chosen} is asked for, and this machine has {torch.cuda.device_count()} GPUs that PyTorch can use",
            hint="use cpu, fewer resources.gpus, or a PyTorch build for your GPU",
            value=str(chosen),
        )
    if chosen.type == "cuda" and ranks.world() > 1:
        torch.cuda.set_device(chosen)
    for name in ("precision", "teacher_precision"):
        if getattr(spec.train, name) == "fp16" and chosen.type == "cpu":
            raise CoreError(
                "precision.fp16_on_cpu",
                "fp16 needs a GPU",
                hint="use fp32 or bf16",
                field=f"train.{name}",
                value="fp16",
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
        # Not said is not allowed.
        code_roots=None if (code := data.get("code_roots", [])) is None else [Path(root) for root in code],
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
    emit = _events(options.dir)
    try:
        spec, run, data = read_run(options.dir)
    except CoreError as error:
        emit(ResultEvent(status="failed", reason="spec_or_data", error=error.info))
        return 1
    world = spec.resources.world if isinstance(spec, JobSpec) else 1
    if world > 1 and not ranks.started_by_torchrun():
        emit.close()
        return launch(options.dir, world, sys.argv[1:] if arguments is None else arguments)
    if data.get("threads") or world > 1:
        torch.set_num_threads(max(1, (data.get("threads") or os.cpu_count() or 1) // world))
    with ranks.joined(options.dir):
        speak = emit if ranks.rank() == 0 else _only_failures(emit)
        result = run_job(spec, paths=run, emit=speak, should_stop=stop.is_set, device=data.get("device", "auto"))
        first = ranks.rank() == 0
    emit.close()
    # An end that all ranks came to together is rank 0's to tell, and it may still have a checkpoint to write: a code
    # other than 0 would have it killed for that.
    agreed = result.status == "stopped" or result.reason == "non_finite_loss"
    return 0 if agreed and not first else EXIT_CODES[result.status]


def _events(folder: Path) -> EventsFile:
    """Rank 0 writes the run's events. The others' files hold what made them fail alone, for the launcher."""
    number = int(os.environ["RANK"]) if ranks.started_by_torchrun() else 0
    return EventsFile(folder / ("events.jsonl" if number == 0 else f"rank-{number}.jsonl"))


def _only_failures(emit: Emit) -> Emit:
    def speak(event: AnyEvent) -> None:
        if (isinstance(event, LogEvent) and event.level == "error") or (
            isinstance(event, ResultEvent) and event.status == "failed"
        ):
            emit(event)

    return speak


if __name__ == "__main__":
    sys.exit(main())
