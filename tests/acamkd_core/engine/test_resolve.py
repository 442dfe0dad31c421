"""What is decided when the data are known: MasKD's tokens and the length of its stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from acamkd_core.datasets.registry import open_dataset
from acamkd_core.engine.resolve import from_header, resolve
from acamkd_core.native_file import write_native
from acamkd_core.spec.job import JobSpec, parse_job
from acamkd_core.spec.native import NativeHeader

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


@pytest.mark.parametrize("stored", [False, True])
def test_a_files_own_preprocessing_holds_also_for_a_spec_that_a_server_has_stored(tmp_path: Path, stored: bool) -> None:
    """A stored spec has every field written out: what nobody gave must not look like a wish."""
    arch = {"family": "mobile_deeplabv3", "width": 0.35}
    header = NativeHeader.model_validate({"arch": arch, "num_classes": 3, "preprocess": {"order": "bgr", "range": 255}})
    write_native(tmp_path / "t.safetensors", {"x": torch.zeros(1)}, header)
    spec = parse_job({"dataset": SCENES, "student": "mobile_deeplabv3", "teacher": str(tmp_path / "t.safetensors")})
    if stored:
        spec = parse_job(spec.model_dump(mode="json"))
    assert isinstance(spec, JobSpec)
    assert spec.teacher is not None
    updates, _ = from_header(spec.teacher, tmp_path / "t.safetensors", "teacher")
    assert (updates["preprocess"]["order"], updates["preprocess"]["range"]) == ("bgr", 255)
