"""docs/teachers.md: the exports for any module, run as printed, and a job on each file that they write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.acamkd_core.engine.world import World, go, kinds

PAGE = Path(__file__).resolve().parents[3] / "docs" / "teachers.md"


def printed(section: str) -> list[tuple[str, str]]:
    """(language, text) of each block below a heading."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n{section}\n")[1]
    return re.findall(r"```(python|yaml)\n(.*?)```", re.split(r"\n##+ ", text)[0], re.DOTALL)


def test_the_printed_exports_make_teachers(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    (_, code), (_, graph) = printed("### From any module")
    (_, program), (_, more) = printed("## Programs (`.pt2`)")
    monkeypatch.chdir(tmp_path)
    module = {"__name__": "docs"}
    exec(compile(code, str(PAGE), "exec"), module)
    exec(compile(more, str(PAGE), "exec"), module)
    data = {"format": "scenes", "train_images": 4, "val_images": 2, "test_images": 2, "size": [96, 160]}
    terms = ["logit", {"method": "pkd", "at": ["c2", "c3"]}]
    for name, job in (("graph", graph), ("program", program)):
        teacher: dict[str, Any] = yaml.safe_load(job)["teacher"]
        teacher["expect"] = {"miou": 10.0, "tolerance": 100.0}  # it has random weights
        result, events = go(
            tmp_path / name, world.folder, teacher=teacher, distill=terms, dataset=data, schedule={"iterations": 1},
        )  # fmt: skip
        assert result.status == "succeeded", result.error
        pairs = kinds(events, "resolved")[0].pairs
        assert [(pair["teacher_level"], pair["teacher"]) for pair in pairs] == [
            ("logits", [11, 8]), ("c2", [16, 4]), ("c3", [32, 8]),
        ]  # fmt: skip
