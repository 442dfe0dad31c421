"""YAML traps, each against what the YAML 1.2 core schema or the JSON grammar says."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.yaml_text import load_json, load_yaml, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 0.0005),
        ("5.0e-4", 0.0005),
        ("1E3", 1000.0),
        ("-.5", -0.5),
        ("1_000", 1000),
        ("40_000", 40000),
        ("0", 0),
        ("-7", -7),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("'off'", "off"),
        ('"1_000"', "1_000"),
        ("2024-01-02", "2024-01-02"),  # YAML 1.1 makes a date of it
        ("1.2.3", "1.2.3"),
        ("job:teacher", "job:teacher"),
        ("./data", "./data"),
        ("_1", "_1"),
    ],
)
def test_scalars_are_what_they_look_like(text: str, value: object) -> None:
    got = parse_yaml(f"a: {text}")["a"]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    "text", ["off", "Yes", "on", "NO", "y", "012", "0x1F", "0b11", "1:30", ".inf", "-.INF", ".nan", "1e999"]
)
def test_doubtful_scalars_are_refused_with_their_line(text: str) -> None:
    with pytest.raises(CoreError, match=r"line 2, column 6"):
        parse_yaml(f"x: 1\nval: {text}\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2", "line 2, column 1: the key 'a' is given twice"),
        ("on: logits", "the key is `at:`"),
        ("a: &x {b: 1}\nc: *x", "anchors"),
        ("a: !!python/object/apply:os.system [id]", "tags"),
        ("a: !!str 1", "tags"),
        ("b: {<<: {a: 1}}", "merge keys"),
        ("a: 1\n---\nb: 2", "one document"),
        ("a: [1, 2", "line 1"),
        ("a: b: c", "line 1"),
        ("\tx: 1", "line 1"),
        ("? [a]\n: 1", "a key must be a word"),
        ("a: " + "[" * 200 + "]" * 200, "nested deeper"),
        ("a: 'x\0'", "special characters"),
        ("a: " + "9" * 5000, "line 1, column 4: this number is too long"),
    ],
)
def test_what_is_not_plain_is_refused(text: str, words: str) -> None:
    with pytest.raises(CoreError) as caught:
        load_yaml(text)
    assert words in str(caught.value)


def test_a_spec_is_a_mapping() -> None:
    for text in ("", "[1]", "hello"):
        with pytest.raises(CoreError, match="mapping"):
            load_yaml(text)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), plain, max_size=4))
def test_json_is_yaml(data: dict[str, object]) -> None:
    """Every JSON text (ASCII escapes) reads the same by both readers and by the standard library."""
    text = json.dumps(data)
    if "\\u0000" in text:
        for load in (load_yaml, load_json):
            with pytest.raises(CoreError, match="NUL"):
                load(text)
    else:
        assert load_yaml(text) == data
        assert load_json(text) == data


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": -Infinity}',
        "{",
        "[]",
        '{"a":' * 5000,
        "1" * 6000,
        '{"a": "\\ud800"}',
        '{"a": ["\\u0000"]}',
    ],
)
def test_json_traps(text: str) -> None:
    with pytest.raises(CoreError):
        load_json(text)


def test_large_exponents_in_json_are_not_finite_and_known() -> None:
    # The standard library turns 1e999 into infinity; pydantic's bounds cannot be relied on to see it.
    with pytest.raises(CoreError):
        load_json('{"a": 1e999}')
    assert math.isfinite(load_json('{"a": 1e300}')["a"])
