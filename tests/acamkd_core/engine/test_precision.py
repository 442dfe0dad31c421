"""A number type that the processor emulates is named before it costs hours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from acamkd_core.engine import precision
from tests.acamkd_core.engine.world import World, go, kinds

ABLE = torch.cpu.get_capabilities()
HAS_BF16 = bool(ABLE.get("avx512_bf16") or ABLE.get("amx_bf16"))
EMULATES = ABLE["architecture"] == "x86_64" and not ABLE.get("avx512_f")


def test_what_is_measured_agrees_with_what_the_processor_says_of_itself() -> None:
    torch.set_num_threads(1)
    before = torch.get_rng_state()
    found = precision.slowdown("bf16")
    assert torch.equal(torch.get_rng_state(), before)
    if HAS_BF16:
        assert found < precision.SLOWER
    if EMULATES:
        assert found > precision.SLOWER
    assert precision.slowdown("fp32") == pytest.approx(1.0, abs=0.5)


@pytest.mark.parametrize(
    ("train", "field"),
    [
        ({}, ""),
        ({"teacher_precision": "auto"}, ""),
        ({"precision": "bf16"}, "train.precision"),
        ({"teacher_precision": "bf16"}, "train.teacher_precision"),
    ],
)
def test_a_run_says_that_its_type_is_slow_here(world: World, tmp_path: Path, train: dict[str, str], field: str) -> None:
    if field and not (HAS_BF16 or EMULATES):
        pytest.skip("this processor may or may not compute bf16 slowly")
    _, events = go(
        tmp_path, world.folder, teacher=world.taught(), distill="acam", train=train, schedule={"iterations": 1}
    )
    alarms = [event.info for event in kinds(events, "alarm") if event.info.code == "precision.slow"]
    assert [info.field for info in alarms] == ([field] if field and EMULATES else [])
    for info in alarms:
        assert "times as long as fp32" in info.message
        assert info.hint == f"{field}: fp32 is faster here"
