"""Which classes of a teacher are which of a dataset: by name, by a given map, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from acamkd_core.spec.errors import CoreError, SpecInvalid
from acamkd_core.spec.job import parse_job
from acamkd_core.spec.label_map import BY_NAME, fitting, mapped_misfit, match, plain
from acamkd_core.spec.methods import MethodTerm

STREET = ("road", "traffic light", "car", "sky")
SEGMENTATION = "semantic_segmentation"


def test_by_name_looks_past_case_and_separators() -> None:
    theirs = ("Sky", "Traffic_Light", "ROAD", "bicycle", "traffic-light")
    found = match(theirs, STREET, BY_NAME, task=SEGMENTATION)
    assert found.columns == ((2,), (1, 4), (), (0,))
    assert (found.compared, found.unknown, found.unused) == ([0, 1, 3], ["car"], ["bicycle"])
    assert found.words() == "3 of 4 classes: road <- ROAD; traffic light <- Traffic_Light + traffic-light; sky <- Sky"
    warning = found.warning()
    assert warning is not None
    assert warning.message == "the teacher does not know car; the dataset has no bicycle"
    assert plain("Traffic - Light_") == "trafficlight"


def test_an_exact_name_wins_over_one_that_is_alike() -> None:
    found = match(("Car", "car", "sky"), ("CAR", "car", "sky"), BY_NAME, task=SEGMENTATION)
    assert found.columns == ((0,), (1,), (2,))
    assert found.identity
    assert found.warning() is None


def test_a_given_map_is_all_that_holds() -> None:
    theirs = ("road", "lorry", "bus", "sky")
    found = match(theirs, STREET, {"lorry": "car", "bus": "car", "sky": "sky"}, task=SEGMENTATION)
    assert found.columns == ((), (), (1, 2), (3,))
    assert found.unused == ["road"]


@pytest.mark.parametrize(("label_map", "theirs", "code", "words"), [
    (None, ("sky", "car", "road", "traffic light"), "teacher.other_classes", "another order"),
    (None, ("road", "car"), "teacher.other_classes", "knows 2 classes"),
    (None, ("road", "traffic light", "van", "sky"), "teacher.other_classes", "'van' instead of 'car'"),
    ({"lory": "car"}, ("road", "lorry"), "teacher.label_map", "no class 'lory'"),
    ({"lorry": "cart"}, ("road", "lorry"), "teacher.label_map", "no class 'cart'"),
    ({"lorry": "car"}, ("road", "lorry"), "teacher.nothing_matches", "1 of the dataset's classes"),
    (BY_NAME, ("person", "dog"), "teacher.nothing_matches", "0 of the dataset's classes"),
    (BY_NAME, (), "teacher.no_class_names", "does not name"),
])  # fmt: skip
def test_refused(label_map: Any, theirs: tuple[str, ...], code: str, words: str) -> None:
    with pytest.raises(CoreError) as caught:
        match(theirs, STREET, label_map, task=SEGMENTATION)
    assert caught.value.code == code
    assert words in caught.value.info.message
    assert caught.value.info.hint


def test_one_class_is_enough_for_boxes() -> None:
    assert match(("lorry",), STREET, {"lorry": "car"}, task="detection").compared == [2]


def test_the_hint_names_the_map_that_would_fit() -> None:
    assert fitting(("SKY", "car", "road", "traffic-light"), STREET) == "teacher.label_map: by_name fits all 4 classes"
    assert "by_name fits 2 of 4 classes; without traffic light, sky" in fitting(("car", "road"), STREET)
    assert "{teacher class: dataset class} for road, traffic light" in fitting(("dog", "cat"), STREET)


def test_nobody_names_anything() -> None:
    assert match((), STREET, None, task=SEGMENTATION).identity


@pytest.mark.parametrize(("method", "task", "theirs", "refused"), [
    ("maskd", SEGMENTATION, ("sky", "car", "road", "traffic light"), False),  # all are known, in another order
    ("maskd", SEGMENTATION, ("sky", "car", "road"), True),
    ("freekd", "detection", ("sky", "car", "road", "traffic light"), True),
    ("crosskd", "detection", ("sky", "car", "road", "traffic light"), True),
    ("crosskd", "detection", STREET, False),
    ("acam", SEGMENTATION, ("sky", "car"), False),
    ("fgd", "detection", ("car",), False),
])  # fmt: skip
def test_methods_that_need_the_teachers_own_labels(
    method: str, task: str, theirs: tuple[str, ...], refused: bool
) -> None:
    term: MethodTerm = TypeAdapter(MethodTerm).validate_python({"method": method})
    found = mapped_misfit(term, task, match(theirs, STREET, BY_NAME, task=task))
    assert (found is not None) == refused


@pytest.mark.parametrize("teacher", [
    {"weights": "t.pth", "label_map": "by_id"},
    {"weights": "t.pth", "label_map": {"a": 3}},
    {"weights": "t.pth", "classes": []},
])  # fmt: skip
def test_the_spec_refuses(teacher: dict[str, Any]) -> None:
    with pytest.raises(SpecInvalid) as caught:
        parse_job({"dataset": "scenes", "student": "mobile_deeplabv3", "teacher": teacher})
    assert str(caught.value.problems[0].field).startswith("teacher.")
