"""A recorded ratio is held to the same rules, whether a spec holds it or a file does."""

from __future__ import annotations

from pathlib import Path

import pytest

from acamkd_core.engine.recorded_ratio import recorded_ratio
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.methods import FeatureMSEMatchedTerm


def read(path: Path, text: str) -> tuple[tuple[int, float], ...]:
    path.write_text(text)
    term = FeatureMSEMatchedTerm(method="feature_mse_matched", ratio_from=str(path))
    return recorded_ratio(term, {}, "distill.0.ratio_from")


def test_pairs(tmp_path: Path) -> None:
    assert read(tmp_path / "r.json", "[[0, 2.5], [10, 1]]") == ((0, 2.5), (10, 1.0))


@pytest.mark.parametrize("text", [
    "[]", "[[0, NaN]]", "[[0, -3]]", "[[10, 1.0], [0, 2.0]]", "[[1e400, 1]]", "[[0, 1e400]]", f"[[0, 1{'0' * 400}]]", '{"a": 1}', "[", "5",
])  # fmt: skip
def test_what_is_no_series_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(CoreError) as error:
        read(tmp_path / "r.json", text)
    info = error.value.info
    assert (info.code, info.field) == ("ratio.unreadable", "distill.0.ratio_from")
    assert "rising iterations" in (info.hint or "")
