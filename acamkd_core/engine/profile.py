"""Size and speed of a network: parameters, multiply-adds, latency with its conditions."""

from __future__ import annotations

import copy
import itertools
import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from acamkd_core.models.base import Foreign, TaskModel


@dataclass(frozen=True)
class Profile:
    """Parameters and multiply-adds are exact; the latency is a measurement under the conditions beside it.

    macs: of one image of `height` x `width`; None for a network that another `runtime` runs.
    latency_ms: median seconds of a forward pass of `batch` images, in ms.
    """

    parameters: int
    macs: int | None
    latency_ms: float
    runs: int
    device: str
    threads: int
    batch: int
    height: int
    width: int
    runtime: str = ""

    @property
    def conditions(self) -> str:
        """One line that makes the latency comparable."""
        threads = f", {self.threads} thread{'s' if self.threads != 1 else ''}" if self.device == "cpu" else ""
        runtime = f" by {self.runtime}" if self.runtime else ""
        return (
            f"{self.device}{runtime}{threads}, batch {self.batch}, {self.height}x{self.width}, fp32, "
            f"median of {self.runs} run{'s' if self.runs != 1 else ''}"
        )


def count_parameters(model: nn.Module) -> int:
    """Number of trainable and frozen weights; buffers (batch norm statistics) do not count."""
    foreign = _foreign(model)
    return sum(parameter.numel() for parameter in model.parameters()) if foreign is None else foreign.parameters


def _foreign(model: nn.Module) -> Foreign | None:
    return model.foreign if isinstance(model, TaskModel) else None


def _device_of(model: nn.Module) -> torch.device:
    return next(itertools.chain(model.parameters(), model.buffers())).device


def count_macs(model: nn.Module, height: int, width: int) -> int:
    """Multiply-adds of convolutions and matrix products for one image in eval mode; nothing is computed.

    Batch norm (folded at inference), activations and resizing do not count, as in most papers. The model is copied to
    the meta device, so neither its weights nor its mode are touched.
    """
    meta = copy.deepcopy(model).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        meta(torch.empty(1, 3, height, width, device="meta"))
    return int(counter.get_total_flops()) // 2 + int(getattr(model, "later_macs", 0))  # two operations a multiply-add


def measure_latency(
    model: nn.Module, height: int, width: int, *, batch: int = 1, runs: int = 15, warmup: int = 3, budget: float = 20.0
) -> tuple[float, int]:
    """(median milliseconds of a forward pass in eval mode on the model's device, passes it is the median of).

    Restores the model's mode. The image has its own generator: a run's random numbers must not depend on whether it was
    profiled. A large network on a CPU takes half a minute a pass: after `budget` seconds no further pass is begun.
    """
    device = _device_of(model)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 3, height, width, generator=generator).to(device)
    training = model.training
    infer = getattr(model, "infer", model)
    model.eval()
    seconds: list[float] = []
    try:
        with torch.inference_mode():
            begun = time.perf_counter()
            for index in range(warmup + runs):
                late = time.perf_counter() - begun > budget
                if late and seconds:
                    break
                if late and 0 < index < warmup:
                    continue  # warm enough: on to the pass that counts
                start = time.perf_counter()
                infer(images)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                if index >= warmup:
                    seconds.append(time.perf_counter() - start)
    finally:
        model.train(training)
    return 1000 * statistics.median(seconds), len(seconds)


def profile_model(model: nn.Module, height: int, width: int, *, batch: int = 1, runs: int = 15) -> Profile:
    """Everything above for one network and input size."""
    device, foreign = _device_of(model), _foreign(model)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    latency_ms, runs = measure_latency(model, height, width, batch=batch, runs=runs)
    return Profile(
        parameters=count_parameters(model),
        macs=count_macs(model, height, width) if foreign is None else None,
        latency_ms=latency_ms,
        runs=runs,
        device=name,
        threads=torch.get_num_threads(),
        batch=batch,
        height=height,
        width=width,
        runtime=foreign.runtime if foreign is not None else "",
    )
