"""Number types, and what they cost on the device at hand: a type that a processor has to emulate saves nothing."""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn

from acamkd_core.engine.parts import Emit
from acamkd_core.spec.errors import ErrorInfo
from acamkd_core.spec.events import AlarmEvent
from acamkd_core.spec.job import JobSpec

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SLOWER = 1.5
"""From this many times fp32's time on, a type is called slow. CPUs that have it take half of it; one with AVX2 only took 16 times
it."""
ROUNDS = 3


def fast(device: torch.device) -> str:
    """The type in which this device computes faster than in fp32."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"


def slowdown(precision: str) -> float:
    """Time of a small convolution's passes, forwards and backwards, under autocast to a type, as a multiple of fp32's, on
    this processor. Takes a few hundredths of a second; where the type is emulated, a second."""

    def seconds(kind: torch.dtype) -> float:
        times = []
        for _ in range(ROUNDS + 1):  # the first one plans
            start = time.perf_counter()
            with torch.autocast("cpu", dtype=kind, enabled=kind != torch.float32):
                out = layers(images)
            out.float().mean().backward()
            times.append(time.perf_counter() - start)
        return statistics.median(times[1:])

    with torch.random.fork_rng(devices=[]):  # a run's own numbers stay where they are
        layers = nn.Sequential(nn.Conv2d(32, 64, 1), nn.Conv2d(64, 64, 3, padding=1))
        images = torch.rand(2, 32, 32, 32)
    return seconds(TYPES[precision]) / seconds(torch.float32)


def warn_if_slow(spec: JobSpec, device: torch.device, emit: Emit) -> None:
    """Alarm `precision.slow` where the job's type below fp32 costs time instead of saving it. Emulated bf16 on a CPU makes
    minutes into hours, and nothing else tells."""
    # fp16 is refused on CPUs, and `auto` takes no slow type.
    name = next((one for one in ("precision", "teacher_precision") if getattr(spec.train, one) == "bf16"), None)
    if name is None:
        return
    if device.type == "cuda":
        slow, cost, instead = fast(device) != "bf16", "this GPU has no bf16 and emulates it", "fp16 or fp32"
    else:
        times = slowdown("bf16")
        cost = f"on this processor bf16 takes {times:.2g} times as long as fp32 (a convolution, measured)"
        slow, instead = times >= SLOWER, "fp32"
    if slow:
        info = ErrorInfo(
            code="precision.slow", message=cost, hint=f"train.{name}: {instead} is faster here", field=f"train.{name}",
            value="bf16",
        )  # fmt: skip
        emit(AlarmEvent(iteration=0, severity="warning", info=info))
