"""docs/teachers.md: the export for any module, run as printed, and a job on the file that it writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.acamkd_core.engine.world import World, go, kinds

PAGE = Path(__file__).resolve().parents[3] / "docs" / "teachers.md"


def test_the_printed_export_makes_a_teacher(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    section = PAGE.read_text(encoding="utf-8").split("### From any module")[1].split("\n### ")[0]
    code, job = re.findall(r"```(?:python|yaml)\n(.*?)```", section, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(PAGE), "exec"), {"__name__": "docs"})
    teacher: dict[str, Any] = yaml.safe_load(job)["teacher"]
    teacher["expect"] = {"miou": 10.0, "tolerance": 100.0}  # it has random weights
    data = {"format": "scenes", "train_images": 4, "val_images": 2, "test_images": 2, "size": [96, 160]}
    terms = ["logit", {"method": "pkd", "at": ["c2", "c3"]}]
    result, events = go(
        tmp_path / "run", world.folder, teacher=teacher, distill=terms, dataset=data, schedule={"iterations": 1},
    )  # fmt: skip
    assert result.status == "succeeded", result.error
    pairs = kinds(events, "resolved")[0].pairs
    assert [(pair["teacher_level"], pair["teacher"]) for pair in pairs] == [
        ("logits", [11, 8]), ("c2", [16, 4]), ("c3", [32, 8]),
    ]  # fmt: skip
