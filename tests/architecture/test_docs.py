"""What the documents tell people to write is accepted: no block says a key twice, and whole jobs parse."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from acamkd_core.spec.errors import SpecInvalid
from acamkd_core.spec.job import parse_job
from acamkd_core.spec.yaml_text import load_yaml

ROOT = Path(__file__).parents[2]
BLOCKS = {
    f"{path.relative_to(ROOT)}:{path.read_text()[: found.start()].count(chr(10)) + 1}": found[1]
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for found in re.finditer(r"^```yaml\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
}


STUDENTS = {
    "semantic_segmentation": "mobile_deeplabv3",
    "detection": "retinanet-mobilenet_v2",
    "classification": "resnet18",
}


def refusal(task: str, block: dict[str, Any]) -> str | None:
    """What is wrong with a block, with what it leaves out added; None where nothing is."""
    filled = {"dataset": "./data", "student": STUDENTS[task]} | block
    if filled.get("distill"):
        filled = {"teacher": "job:some-teacher"} | filled
    try:
        parse_job(filled)
    except SpecInvalid as error:
        return str(error)
    return None


@pytest.mark.parametrize("place", BLOCKS)
def test_a_yaml_block_is_a_job_or_a_part_of_one(place: str) -> None:
    block = load_yaml(BLOCKS[place])
    told = [refusal(task, block) for task in STUDENTS]
    assert None in told, told


def test_there_are_blocks() -> None:
    assert len(BLOCKS) > 5
