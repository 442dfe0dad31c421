"""Every registered method on every registered family keeps the contract, and docs/support.md says what fits."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import get_args

import pytest
import torch

from acamkd_core.methods.base import LevelPair, StepContext
from acamkd_core.methods.registry import METHODS, build_method
from acamkd_core.models.base import Level, ModelOutput
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.fit import THROUGH_TEACHER, no_way_on
from acamkd_core.spec.methods import MethodTerm
from tests.acamkd_core.contract import support
from tests.acamkd_core.contract.step import refusal, term_of
from tests.acamkd_core.contract.tiny import tasks_of, tiny

FAMILIES = sorted(tasks_of())


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_step_at_every_level_keeps_the_contract_or_is_refused_with_a_way_out(method: str, family: str) -> None:
    works, reasons = support.try_pair(method, family)
    assert works or reasons
    for reason in reasons:
        assert not reason.endswith("None"), f"a refusal without a hint: {reason}"
    if len(works) > 1:
        assert refusal(method, tiny(family), tuple(works)) is None, "levels that work alone work together"


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_refused_at_submit_is_what_the_network_cannot_do(family: str) -> None:
    for name, level in tiny(family).teacher.levels.items():
        for method in THROUGH_TEACHER:
            assert (no_way_on(term_of(method, (name,)), family) is None) == level.onward, name
    assert no_way_on(term_of("cwd", ("c2",)), family) is None


def test_the_committed_page_is_what_happens() -> None:
    assert support.PAGE.read_text(encoding="utf-8") == support.page(), (
        "run `python -m tests.acamkd_core.contract.support` and commit"
    )


def test_methods_and_options_are_the_same_set_and_every_option_says_what_it_is() -> None:
    members = get_args(get_args(MethodTerm)[0])
    assert sorted(support.options()) == sorted(METHODS)
    for options in members:
        assert options.__doc__
        for name, field in options.model_fields.items():
            assert field.description, f"{options.__name__}.{name}"


@pytest.mark.parametrize("method", sorted(METHODS))
def test_maps_of_far_sizes_are_refused(method: str) -> None:
    level = Level(5, 8, onward=True)
    built = build_method(term_of(method, ("logits",)), [LevelPair("logits", "logits", level, level)], num_classes=5)
    outs = [ModelOutput({"logits": torch.randn(1, 5, 2, width)}, None) for width in (9, 2)]
    targets = [SimpleNamespace(boxes=torch.zeros(0, 4))]
    with pytest.raises(CoreError) as error:
        built(StepContext(outs[0], outs[1], None, None, targets, 0, 10))
    assert (error.value.code, error.value.info.field) == ("method.size_mismatch", "at")


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"crosskd"}))  # it needs heads, and draws nothing
def test_two_networks_of_one_seed_get_the_same_terms(method: str) -> None:
    """What a method draws comes from the seeded initialisation and the step's generator, and from nothing else."""
    level = Level(5, 8, onward=True)
    maps = torch.randn(2, 2, 5, 6, 6)
    values = []
    for noise in (1, 2):
        torch.manual_seed(0)
        built = build_method(term_of(method, ("logits",)), [LevelPair("logits", "logits", level, level)], num_classes=5)
        torch.manual_seed(noise)
        outs = [ModelOutput({"logits": one.clone()}, None) for one in maps]
        targets = [SimpleNamespace(boxes=torch.tensor([[3.0, 3.0, 20.0, 30.0]]))] * 2
        generator = torch.Generator().manual_seed(5)
        terms = built(StepContext(outs[0], outs[1], None, None, targets, 0, 10, generator))
        values.append({name: value.item() for name, value in terms.items()})
    assert values[0] == values[1]
