"""What taking dilated depthwise convolutions apart saves a CPU: `python -m benchmarks.dilated` prints one line a layout.

One training step (batch 8, 180x240, bf16, one thread) of Mobile DeepLabv3 at output stride 16, with and without, in
turns; the ratio is what counts, milliseconds are this machine's.
"""

from __future__ import annotations

import statistics
import time
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from acamkd_core.models import dilated
from acamkd_core.models.registry import build_model
from acamkd_core.spec.archs import MobileDeepLabV3Arch

ROUNDS = 7


def plain(maps: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """PyTorch's operator, as `phase_conv` is called."""
    return F.conv2d(maps, weight, padding=dilation * (weight.shape[-1] // 2), dilation=dilation, groups=maps.shape[1])


def seconds(layout: torch.memory_format) -> tuple[float, float]:
    """Medians of a step's wall time: (the operator, phases)."""
    model = build_model(MobileDeepLabV3Arch(family="mobile_deeplabv3", output_stride=16), num_classes=11)
    model.to(memory_format=layout)  # type: ignore[call-overload]
    images = torch.randn(8, 3, 180, 240).to(memory_format=layout)
    labels = torch.randint(0, 11, (8, 180, 240))
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * ROUNDS + 2):
        apart = number % 2 == 1
        with patch.object(dilated, "phase_conv", dilated.phase_conv if apart else plain):
            start = time.perf_counter()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                raw = model(images).raw
            scores = F.interpolate(raw.float(), size=labels.shape[1:], mode="bilinear")
            F.cross_entropy(scores, labels).backward()
        if number > 1:
            times[apart].append(time.perf_counter() - start)
    return statistics.median(times[False]), statistics.median(times[True])


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for name, layout in (("channels first", torch.contiguous_format), ("channels last", torch.channels_last)):
        before, after = seconds(layout)
        print(f"{name}: {before * 1e3:.0f} ms, in phases {after * 1e3:.0f} ms: {after / before:.2f} of the time")


if __name__ == "__main__":
    main()
