"""The reference page is the schema: every field of every part is on it, with its present default."""

from __future__ import annotations

from pathlib import Path

from acamkd_core.spec.job import JobSpec
from acamkd_core.spec.reference import page

PAGE = Path(__file__).resolve().parents[3] / "docs" / "job-spec.md"


def test_the_committed_page_is_the_generated_one() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m acamkd_core.spec.reference > docs/job-spec.md"


def test_every_part_of_the_schema_is_on_the_page_and_every_field_says_what_it_is() -> None:
    text = page()
    parts = JobSpec.model_json_schema()["$defs"]
    assert len(parts) > 20
    for name, part in parts.items():
        assert f"\n### {name}\n" in text
        for field, described in part["properties"].items():
            assert f"| `{field}` |" in text
            assert described.get("description"), f"{name}.{field} has no description"
