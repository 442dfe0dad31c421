"""What keeping freed memory saves a training step on a CPU: `python -m benchmarks.allocator`.

The same process with and without the variables that workers give to jobs, in turns: a step (batch 8, 240x320, one thread) of
a RetinaNet-MobileNetV2. Processor time, so that other work on the machine does not count; the ratio is what matters. Peak memory is its price. Elsewhere
than on glibc nothing reads the variables, and the ratio is 1.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time

import torch

from acamkd_core.models.retinanet import RetinaNet
from acamkd_core.spec.archs import RetinaNetArch
from acamkd_core.spec.models import Preprocess
from worker.environment import KEEP_MEMORY

ROUNDS = 2
STEPS = 12
WIDTHS = (1.0, 0.35)


def measure(width: float) -> dict[str, float]:
    """Median processor time of a step, the kernel's share of the processor time, and the process's peak memory in MB."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    arch = RetinaNetArch(family="retinanet", backbone="mobilenet_v2", width=width, fpn_channels=64, head_depth=2)
    model = RetinaNet(arch, num_classes=3, preprocess=Preprocess())
    images = torch.rand(8, 3, 240, 320)
    boxes = [torch.tensor([[20.0, 20.0, 80.0, 90.0], [100.0, 60.0, 220.0, 200.0]])] * 8
    labels = [torch.tensor([0, 2])] * 8
    times = []
    for _ in range(STEPS):
        start = time.process_time()
        terms = model.loss(model(images), range(8), boxes, labels)
        torch.stack(list(terms.values())).sum().backward()
        model.zero_grad()
        times.append(time.process_time() - start)
    used = resource.getrusage(resource.RUSAGE_SELF)
    share = used.ru_stime / (used.ru_stime + used.ru_utime)
    return {"seconds": statistics.median(times), "kernel": share, "megabytes": used.ru_maxrss / 1024}


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(float(sys.argv[1]))))
        return
    for width in WIDTHS:
        found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
        for number in range(2 * ROUNDS):
            kept = number % 2 == 1
            clean = {name: value for name, value in os.environ.items() if name not in KEEP_MEMORY}
            command = [sys.executable, "-m", "benchmarks.allocator", str(width)]
            out = subprocess.run(command, env=clean | (KEEP_MEMORY if kept else {}), check=True, capture_output=True)
            found[kept].append(json.loads(out.stdout))
        plain, kept_ = (
            {key: statistics.median(one[key] for one in found[k]) for key in found[k][0]} for k in (False, True)
        )
        print(
            f"width {width}: {plain['seconds'] * 1e3:.0f} ms, memory kept {kept_['seconds'] * 1e3:.0f} ms: "
            f"{kept_['seconds'] / plain['seconds']:.2f} of the time; kernel {plain['kernel']:.0%} and {kept_['kernel']:.0%}; "
            f"peak {plain['megabytes']:.0f} and {kept_['megabytes']:.0f} MB"
        )


if __name__ == "__main__":
    main()
