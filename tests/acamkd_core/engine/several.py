"""Runs of several real processes for tests: several jobs in one torchrun, or a child as a worker starts it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.launcher.api import elastic_launch

from acamkd_core import ranks
from acamkd_core.engine.events_file import EventsFile
from acamkd_core.engine.launch import one_host
from acamkd_core.engine.parts import Run
from acamkd_core.engine.run import run_job
from acamkd_core.spec.events import parse_event
from acamkd_core.spec.job import parse_job


def train_all(folder: Path, cache: Path, specs: dict[str, dict[str, Any]], processes: int) -> None:
    """Runs the specs one after another, in so many processes, each in its own folder below `folder`."""
    folder.mkdir(parents=True)
    (folder / "specs.json").write_text(json.dumps(specs))
    with tempfile.TemporaryDirectory() as meeting:
        launcher = elastic_launch(one_host(processes, Path(meeting)), sys.executable)
        launcher("-m", "tests.acamkd_core.engine.several", str(folder), str(cache))


def events_of(folder: Path) -> list[Any]:
    """Whole lines of the events file."""
    return [parse_event(line) for line in (folder / "events.jsonl").read_bytes().rpartition(b"\n")[0].splitlines()]


def until(condition: Callable[[], bool], seconds: float = 180) -> None:
    """Waits for something to come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def agreements() -> None:
    """What the processes have to agree on, where only one of them has something to say."""
    last = ranks.rank() == ranks.world() - 1
    assert ranks.any_of(last)
    assert not ranks.any_of(False)
    assert ranks.total(3) == 3 * ranks.world()
    # A loss that is not finite in one process is finite in none: all of them end, at the same step.
    first, second = ranks.means([float(ranks.rank()), math.nan if last else 1.0])
    assert (first, math.isnan(second)) == ((ranks.world() - 1) / 2, True)
    assert ranks.gathered(ranks.rank()) == list(range(ranks.world()))
    assert ranks.from_first(lambda: f"rank {ranks.rank()}") == "rank 0"
    statistics = torch.full((2,), float(ranks.rank()))
    ranks.copy_from_first([statistics])
    assert statistics.tolist() == [0.0, 0.0]


def start_child(
    folder: Path, cache: Path, spec: dict[str, Any], *, resume: Path | None = None
) -> subprocess.Popen[bytes]:
    """`python -m acamkd_core.engine.run` with a lifeline, as a worker starts it."""
    folder.mkdir(parents=True)
    note = {
        "spec": spec, "cache": str(cache), "device": "cpu", "threads": 2, "attempt": 2 if resume else 1,
        "resume": str(resume) if resume else None,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(note))
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "acamkd_core.engine.run", "--dir", str(folder)],
            stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def main(folder: Path, cache: Path) -> None:
    torch.set_num_threads(1)
    with ranks.joined(folder):
        assert ranks.world() == int(os.environ["WORLD_SIZE"]) == 2
        agreements()
        for name, spec in json.loads((folder / "specs.json").read_text()).items():
            mine = folder / name
            number = ranks.rank()
            emit = EventsFile(mine / ("events.jsonl" if number == 0 else f"rank-{number}.jsonl"))
            result = run_job(
                parse_job(spec), paths=Run(mine, cache), emit=emit, should_stop=lambda: False, device="cpu"
            )
            assert result.status == "succeeded", result.error
            # Rank 0 still exports: the others wait, and all go on to the next job.
            ranks.any_of(False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
