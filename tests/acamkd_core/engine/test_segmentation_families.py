"""A whole job for each segmentation family: taught by another family, exported, and its file re-scored by the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.acamkd_core.engine.world import World, go, kinds

STUDENTS: dict[str, tuple[dict[str, Any], str]] = {
    "pspnet": (
        {"backbone": "mobilenet_v2", "width": 0.35, "output_stride": 16, "psp_channels": 16, "aux_head": True},
        "psp",
    ),
    "lraspp": ({"backbone": "mobilenet_v2", "width": 0.35, "head_channels": 16}, "lraspp"),
}


@pytest.mark.parametrize("family", list(STUDENTS))
def test_from_another_familys_teacher_to_a_verified_file(family: str, world: World, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    fields, level = STUDENTS[family]
    result, events = go(
        tmp_path,
        world.folder,
        student={"arch": {"family": family, **fields}},
        teacher=world.taught(),
        distill=[{"method": "acam", "at": level, "teacher_at": "aspp"}, {"method": "cwd"}],
        exports=["onnx"],
    )
    assert result.status == "succeeded", result.error
    pairs = {pair["student_level"]: pair for pair in kinds(events, "resolved")[0].pairs}
    assert list(pairs) == [level, "logits"]
    losses = {name for event in kinds(events, "metrics") for name in event.values if name.startswith("loss/")}
    assert {"loss/task", "loss/acam/spatial", "loss/cwd"} <= losses
    assert ("loss/aux" in losses) == (family == "pspnet")
    assert "val/miou" in result.metrics
    (file,) = (event for event in kinds(events, "export") if event.format == "onnx")
    assert file.verified is True, file.gate
