"""What is decided when the data are known: MasKD's tokens and the length of its stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from acamkd_core.datasets.registry import open_dataset
from acamkd_core.engine.resolve import resolve
from acamkd_core.spec.job import JobSpec, parse_job

SCENES = {"format": "scenes", "train_images": 4, "val_images": 2, "test_images": 2, "size": [32, 48]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def resolved(cache: Path, **term: Any) -> tuple[Any, dict[str, Any]]:
    spec = parse_job(
        {
            "dataset": SCENES,
            "student": "mobile_deeplabv3",
            "teacher": "job:teacher",
            "schedule": {"epochs": 20},
            "distill": [{"method": "maskd", **term}],
        }
    )
    assert isinstance(spec, JobSpec)
    settled, automatic = resolve(spec, open_dataset(spec.dataset, roots=(), cache=cache), (32, 48), 10)
    return settled.distill[0], automatic


@pytest.mark.parametrize(("at", "tokens"), [("logits", 8), ("c5", 6), (["c4", "c5"], 6), (["c5", "logits"], None)])
def test_tokens_by_level_and_a_quarter_of_the_run(cache: Path, at: Any, tokens: int | None) -> None:
    term, automatic = resolved(cache, at=at)
    assert term.tokens == tokens
    assert term.token_iterations == automatic["distill.0.token_iterations"] == 50
    assert automatic.get("distill.0.tokens") == tokens


def test_what_is_given_stays(cache: Path) -> None:
    term, automatic = resolved(cache, tokens=3, token_iterations=0)
    assert (term.tokens, term.token_iterations) == (3, 0)
    assert not [name for name in automatic if name.startswith("distill")]
