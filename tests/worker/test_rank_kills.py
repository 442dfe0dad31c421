"""Kills of a run of two processes, by a real worker with the real engine: a dead rank is a dead child, and no rank stays."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.worker.bench import Bench, until
from worker.processes import processes_of

pytestmark = [pytest.mark.long, pytest.mark.serial, pytest.mark.timeout(900)]

SPEC: dict[str, Any] = {
    "dataset": {"format": "scenes", "train_images": 16, "val_images": 5, "test_images": 4, "size": [32, 48]},
    "augment": {"scale": [0.5, 1.5], "crop": [32, 32], "flip": 0.5, "colour": 0.3},
    # Its batch norm is not frozen and it has dropout: what differs between ranks has to be the same after a kill.
    "student": {"arch": {"family": "deeplabv3", "width": 0.25, "output_stride": 16, "aspp_channels": 16}},
    "batch": {"global_size": 4, "workers": 2},
    "train": {"ema": 0.9},
    "schedule": {"iterations": 60},
    "evaluation": {"every": 20, "panels": 1},
    "checkpoint": {"every": 5},
    "exports": ["safetensors"],
    "resources": {"processes": 2},
}


def ranks_of(bench: Bench, job_id: str) -> list[psutil.Process]:
    """The two training processes, by number."""
    found: dict[int, psutil.Process] = {}

    def both() -> bool:
        for process in processes_of(job_id, len(bench.attempts(job_id))):
            with contextlib.suppress(psutil.Error):
                if process.ppid() == bench.child_pid(job_id):
                    found[int(process.environ()["RANK"])] = process
        return set(found) == {0, 1}

    until(both, 120)
    return [found[0], found[1]]


def test_a_killed_rank_costs_the_steps_since_the_last_checkpoint(tmp_path: Path) -> None:
    bench = Bench(tmp_path, child=[sys.executable, "-m", "acamkd_core.engine.run"])
    try:
        first = bench.worker()
        alone = bench.submit_spec({**SPEC, "name": "alone"})
        bench.wait(alone, "succeeded", seconds=300)
        killed = bench.submit_spec({**SPEC, "name": "killed"})
        bench.wake()
        for number, victim in enumerate((1, 0)):
            bench.wait_step(killed, 8 + 15 * number, seconds=240)
            until(lambda: any(one.last_checkpoint for one in bench.attempts(killed)), 60)
            before = ranks_of(bench, killed)
            before[victim].kill()
            until(lambda number=number: len(bench.attempts(killed)) == 2 + number, 120)
            assert not any(process.is_running() for process in before)
        bench.wait_step(killed, 40, seconds=240)
        # The worker dies, and nobody is told: the end of their standard input ends launcher and ranks.
        tree = [psutil.Process(bench.child_pid(killed)), *ranks_of(bench, killed)]
        os.kill(first.pid, signal.SIGKILL)
        first.wait(5)
        assert psutil.wait_procs(tree, 30)[1] == []
        bench.worker("next")
        bench.wait(killed, "succeeded", seconds=300)
        assert processes_of(killed) == []
        attempts = bench.attempts(killed)
        assert [one.exit for one in attempts] == ["lost", "lost", "lost", "succeeded"]
        assert [one.reason for one in attempts[:2]] == ["worker_lost", "worker_lost"]
        assert bench.series(killed) == bench.series(alone)
        assert [one.weights_digest for one in bench.models(killed)] == [
            one.weights_digest for one in bench.models(alone)
        ]
    finally:
        bench.close()
