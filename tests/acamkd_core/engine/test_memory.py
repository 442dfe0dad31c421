"""Real allocations that the kernel refuses: a training step under a small limit on address space."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# A step of 8 images keeps about 1 GB of activations, of 4 images half of that.
SCRIPT = """
import os, pathlib, resource, sys
import torch
from acamkd_core.engine.parts import Run
from acamkd_core.engine.trainer import train
from acamkd_core.spec.errors import CoreError
from tests.acamkd_core.engine.test_trainer import spec
from tests.acamkd_core.engine.toy import ToyBatch, toy_parts

def batches(start):
    images, labels = torch.rand(8, 3, 512, 512), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    while True:
        yield ToyBatch(images, labels)

torch.set_num_threads(1)
parts = toy_parts(3, 3)
parts.teacher, parts.methods, parts.train = None, [], batches
parts.student.body[0], parts.student.body[1] = torch.nn.Conv2d(3, 64, 3, 2, 1), torch.nn.BatchNorm2d(64)
parts.student.head = torch.nn.Linear(64, 3)
used = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
limit = used + int(sys.argv[1]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
folder, events = pathlib.Path(sys.argv[2]), []
try:
    outcome = train(
        parts, spec(schedule={"iterations": 3}), Run(folder=folder, cache=folder), emit=events.append,
        should_stop=lambda: False, mask_picture=lambda values: values,
    )
    print(outcome.reason, outcome.position.iteration, outcome.position.accumulate)
except CoreError as error:
    print(error.code, error.info.field, error.info.hint)
print([event.info.code for event in events if event.type == "alarm"])
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the size of a process is read from Linux's /proc")
@pytest.mark.parametrize(
    ("megabytes", "ending"),
    [
        (650, "done 3 2\n['out_of_memory.retry']\n"),
        (
            250,
            "out_of_memory batch.accumulate retry with batch.accumulate=4, a smaller crop, or a lower precision\n"
            "['out_of_memory.retry']\n",
        ),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_once_and_then_explained(
    tmp_path: Path, megabytes: int, ending: str
) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1",
    }  # fmt: skip
    command = [sys.executable, "-c", SCRIPT, str(megabytes), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout == ending, done.stderr
