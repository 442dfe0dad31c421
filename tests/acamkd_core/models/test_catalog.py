"""The committed catalog is what the code counts."""

from __future__ import annotations

import pytest

from acamkd_core.models.catalog import build_catalog
from acamkd_core.spec.catalog import PrintedFacts, arch_summary, load_catalog
from acamkd_core.spec.presets import PRESETS
from acamkd_core.spec.printed import PRINTED


def test_committed_catalog_is_current() -> None:
    assert build_catalog() == load_catalog(), "run `python -m acamkd_core.models.catalog` and commit"


def test_catalog_says_what_lists_need() -> None:
    preset = load_catalog().preset("deeplabv3-mobilenet_v2-3.2m")
    assert preset is not None
    assert preset.parameters == preset.inference_parameters == 3_233_171
    assert [(level.name, level.channels, level.stride) for level in preset.levels] == [
        ("c2", 24, 4),
        ("c3", 32, 8),
        ("c4", 96, 8),
        ("c5", 320, 8),
        ("aspp", 128, 8),
        ("logits", 19, 8),
    ]
    assert arch_summary(preset.arch) == "deeplabv3 · mobilenet_v2 x1 · OS 8"
    assert {preset.name for preset in load_catalog().presets} == set(PRESETS)
    assert load_catalog().preset("nope") is None


@pytest.mark.parametrize("row", load_catalog().printed, ids=lambda row: row.preset)
def test_counts_are_the_printed_ones_or_the_catalog_says_why(row: PrintedFacts) -> None:
    source = next(one for one in PRINTED if one.preset == row.preset)
    for count, text, note in (
        (row.parameters / 1e6, source.parameters, source.parameters_note),
        (row.macs / 1e9, source.macs, source.macs_note),
    ):
        if text is not None:
            same = f"{count:.{len(text.partition('.')[2])}f}" == text
            assert same == (note is None), f"{count} beside {text}: {note}"
