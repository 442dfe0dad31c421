"""Two iterations on every dataset format, through the entry that workers use."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.acamkd_core.datasets.cityscapes_factory import write_cityscapes
from tests.acamkd_core.engine.world import go

SHORT = {"schedule": {"iterations": 2}, "batch": {"global_size": 2}, "evaluation": {"every": 2, "panels": 0}}


def test_cityscapes_trains_and_its_gate_passes(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    data = {"root": str(write_cityscapes(tmp_path / "city"))}
    result, events = go(tmp_path / "run", tmp_path / "cache", dataset=data, exports=["onnx"], **SHORT)
    assert result.status == "succeeded", result.error
    assert result.metrics["best/miou"] >= 0
    (onnx,) = [event for event in events if event.type == "export" and event.format == "onnx"]
    assert onnx.verified
