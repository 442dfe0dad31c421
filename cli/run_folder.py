"""The folder of a local run: what earlier attempts left in it, and what the next one is told."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acamkd_core.spec.events import AnyEvent, ResultEvent
    from acamkd_core.spec.job import InspectSpec, JobSpec


@dataclass
class Before:
    """What earlier attempts in a run folder left."""

    attempts: int = 0
    device_seconds: float = 0.0
    checkpoint: Path | None = None
    result: ResultEvent | None = None
    spec: JobSpec | InspectSpec | None = None


def make_folder(folder: Path) -> None:
    """Makes the run folder. Raises CoreError `run.folder`."""
    from acamkd_core.spec.errors import CoreError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CoreError(
            "run.folder", f"the run folder cannot be made: {error.strerror}", field="--out", value=str(folder)
        ) from None


def earlier(folder: Path, resume: bool, spec: JobSpec | InspectSpec) -> Before:
    """What lies in the run folder.

    Raises:
        CoreError: `run.folder_in_use` when there is an earlier run and `--resume` was not said; `run.other_spec` when a
            finished one is of another spec (one that has not ended is refused by the engine, which knows what matters).
    """
    from acamkd_core.spec.errors import CoreError

    if not (folder / "run.json").exists():
        return Before()
    before = read_before(folder)
    if resume and before.result is not None and before.result.status == "succeeded" and before.spec != spec:
        raise CoreError(
            "run.other_spec", "the run in this folder has succeeded, with another spec",
            hint="--out DIR takes another folder", field="--out", value=str(folder),
        )  # fmt: skip
    if resume:
        return before
    if before.checkpoint is not None or (before.result is not None and before.result.status == "succeeded"):
        raise CoreError(
            "run.folder_in_use", "the run folder holds an earlier run",
            hint="--resume goes on with it; --out DIR takes another folder", field="--out", value=str(folder),
        )  # fmt: skip
    # It failed before it had anything to lose: a mistake in the spec is corrected and run again.
    (folder / "events.jsonl").unlink(missing_ok=True)
    return Before()


def read_before(folder: Path) -> Before:
    """The number of the last attempt, how far it came, and its newest checkpoint that is still there."""
    from acamkd_core.spec.job import parse_job

    note = folder / "run.json"
    data = json.loads(note.read_text(encoding="utf-8"))
    before = Before(attempts=int(data.get("attempt", 1)), spec=parse_job(data["spec"]))
    for event in read_events(folder / "events.jsonl"):
        if event.type == "progress":
            before.device_seconds = event.device_seconds
        elif event.type == "checkpoint" and (path := folder / event.path).is_file():
            before.checkpoint = path
        elif event.type == "result":
            before.result = event
    return before


def read_events(path: Path) -> Iterator[AnyEvent]:
    """All events of an events file; torn lines are left out."""
    from pydantic import ValidationError

    from acamkd_core.spec.events import parse_event

    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            with contextlib.suppress(ValidationError):  # a line torn by a kill
                yield parse_event(line)


def write_run(
    folder: Path,
    data: dict[str, Any],
    inputs: dict[str, Path],
    before: Before,
    device: str,
    spec: JobSpec | InspectSpec,
) -> None:
    """Writes `run.json`, which the engine's child process reads. Raises CoreError `run.folder`."""
    from acamkd_core.spec.errors import CoreError

    resources = getattr(spec, "resources", None)
    note = {
        "spec": data,
        "attempt": before.attempts + 1,
        "resume": str(before.checkpoint) if before.checkpoint else None,
        "inputs": {name: str(path) for name, path in inputs.items()},
        "roots": None,  # one's own machine: datasets may lie anywhere
        "code_roots": None,  # and programs too: the job has to say `allow_code`
        "cache": str(cache_folder()),
        "threads": resources.threads if resources else None,
        "device": device,
        "device_seconds": before.device_seconds,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / "run.json.part"
        aside.write_text(json.dumps(note, indent=1), encoding="utf-8")
        aside.replace(folder / "run.json")
    except OSError as error:
        raise CoreError(
            "run.folder", f"the run folder cannot be written: {error.strerror}", value=str(folder)
        ) from None


def cache_folder() -> Path:
    """Generated datasets and inspection reports, shared by all local runs: ACAMKD_CACHE, or the user's cache folder."""
    base = os.environ.get("ACAMKD_CACHE")
    if base:
        return Path(base).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "acamkd"


def drop_torn_line(path: Path) -> int:
    """Cuts off what a killed attempt left of a line, so that the next event does not continue it. Returns the size."""
    if not path.exists():
        return 0
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as file:
            file.truncate(whole)
    return whole


def new_events(path: Path, position: int) -> tuple[list[AnyEvent], int]:
    """Whole lines after `position`, parsed, and the new position; a line that is still being written waits."""
    from acamkd_core.spec.events import parse_event

    if not path.exists():
        return [], position
    with path.open("rb") as file:
        file.seek(position)
        data = file.read()
    whole = data.rfind(b"\n") + 1
    return [parse_event(line) for line in data[:whole].splitlines()], position + whole


def last_lines(path: Path, count: int) -> list[str]:
    """The end of a text file; nothing when there is none."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
    return []
