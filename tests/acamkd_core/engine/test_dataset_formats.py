"""Two iterations on every dataset format, through the entry that workers use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.acamkd_core.datasets.cityscapes_factory import write_cityscapes
from tests.acamkd_core.datasets.voc_factory import write_voc
from tests.acamkd_core.datasets.yolo_factory import write_yolo
from tests.acamkd_core.engine.test_detection_run import ARCH
from tests.acamkd_core.engine.world import NET, go

SHORT = {"schedule": {"iterations": 2}, "batch": {"global_size": 2}, "evaluation": {"every": 2, "panels": 0}}


@pytest.mark.parametrize(
    ("write", "net", "metric"),
    [
        (write_cityscapes, NET, "best/miou"),
        (write_yolo, ARCH, "best/map"),
        (write_voc, NET, "best/miou"),
        (write_voc, ARCH, "best/map"),
    ],
    ids=["cityscapes", "yolo", "voc-masks", "voc-boxes"],
)
def test_a_format_trains_and_its_gate_passes(
    tmp_path: Path, write: Callable[..., Path], net: dict[str, object], metric: str
) -> None:
    torch.set_num_threads(1)
    data = {"root": str(write(tmp_path / "data", size=(64, 96)))}
    result, events = go(
        tmp_path / "run", tmp_path / "cache", dataset=data, student={"arch": net}, exports=["onnx"], **SHORT
    )
    assert result.status == "succeeded", result.error
    assert result.metrics[metric] >= 0
    (onnx,) = [event for event in events if event.type == "export" and event.format == "onnx"]
    assert onnx.verified
