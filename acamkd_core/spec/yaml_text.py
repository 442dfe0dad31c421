"""Spec text to plain data. YAML is read by the rules of YAML 1.2's core schema, strictly.

YAML 1.1, which PyYAML reads by default, turns `off` into false, `5e-4` into text, `1_000` into a number only
sometimes, `012` into 10 and `1:30` into 90, and of two equal keys silently keeps the last. Here booleans are
`true` and `false`, numbers are what they look like (with `_` between digits allowed), and what two readers could
take for different things is refused with its line: `on`, `off`, `yes`, `no` unquoted, octal and sexagesimal
numbers, duplicate keys, merge keys, tags, anchors and aliases (a small file of aliases can unfold to gigabytes).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import yaml

from acamkd_core.spec.errors import CoreError

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 40
MAX_DIGITS = 100

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(_[0-9]+)*(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DOUBTFUL_BOOL = frozenset({"y", "n", "yes", "no", "on", "off"})
_DOUBTFUL_NUMBER = re.compile(r"[-+]?(0[0-9_]+|0[xXoObB][0-9a-fA-F_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9]*)?)")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def _refuse(message: str, mark: Any, hint: str | None = None, value: Any = None) -> CoreError:
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return CoreError("spec.yaml", f"{where}{message}", hint=hint, value=value)


def _text(text: str) -> str:
    """Text as every database and reader takes it: escaped surrogate pairs joined, NUL and lone surrogates refused."""
    try:
        joined = text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise CoreError("spec.text", "half of a surrogate pair is not text") from None
    if "\0" in joined:
        raise CoreError("spec.text", "the character NUL is not allowed")
    return joined


def _scalar(node: yaml.ScalarNode) -> Any:
    text = str(node.value)
    if node.style is not None:  # quoted or a block: text, whatever it looks like
        return _text(text)
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if text.lower() in _DOUBTFUL_BOOL:
        raise _refuse(
            f"{text!r} is a word to some YAML readers and true or false to others",
            node.start_mark,
            "write true or false, or put the word into quotes",
            text,
        )
    if _INT.fullmatch(text):
        if len(text) > MAX_DIGITS:  # reading a number takes time quadratic in its digits, and Python refuses at 4,300
            raise _refuse("this number is too long", node.start_mark, value=text[:40])
        return int(text.replace("_", ""))
    if _DOUBTFUL_NUMBER.fullmatch(text):
        raise _refuse(
            f"{text!r} is read as different numbers by different YAML readers",
            node.start_mark,
            "write a plain decimal number, or put it into quotes",
            text,
        )
    if _FLOAT.fullmatch(text):
        number = float(text.replace("_", ""))
        if not math.isfinite(number):
            raise _refuse(f"{text!r} is too large for a number", node.start_mark, value=text)
        return number
    if _NOT_FINITE.fullmatch(text):
        raise _refuse(f"{text!r} is not a finite number", node.start_mark, value=text)
    return text


def _build(node: yaml.Node, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise _refuse(f"nested deeper than {MAX_DEPTH} levels", node.start_mark)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, depth + 1) for item in node.value]
    assert isinstance(node, yaml.MappingNode)
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise _refuse("a key must be a word", key_node.start_mark)
        key = _text(str(key_node.value))
        if key_node.style is None and key == "<<":
            raise _refuse("merge keys (<<) are not supported", key_node.start_mark, "write the fields out")
        if key_node.style is None and key.lower() in _DOUBTFUL_BOOL:
            hint = "the key is `at:`" if key.lower() == "on" else "put the key into quotes"
            raise _refuse(f"the key {key!r} is true or false to some YAML readers", key_node.start_mark, hint, key)
        if key in result:
            raise _refuse(f"the key {key!r} is given twice", key_node.start_mark, "keep one of them", key)
        result[key] = _build(value_node, depth + 1)
    return result


def _check_events(text: str) -> None:
    """Refuses anchors, aliases, tags, several documents and deep nesting before anything is built."""
    documents = depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _refuse("anchors and aliases (& and *) are not supported", event.start_mark, "write the value out")
        if (tag := getattr(event, "tag", None)) is not None:
            raise _refuse(f"tags ({tag}) are not supported", event.start_mark)
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _refuse("one document (---) at most", event.start_mark)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _refuse(f"nested deeper than {MAX_DEPTH} levels", event.start_mark)


def parse_yaml(text: str) -> Any:
    """YAML text as plain data (dict, list, str, int, float, bool, None), read as described above.

    Raises:
        CoreError: `spec.yaml`, with line and column in the message.
    """
    if len(text) > MAX_CHARACTERS:
        raise _refuse(f"longer than {MAX_CHARACTERS} characters", None)
    try:
        _check_events(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        problem = " ".join(part for part in (error.context, error.problem) if part)
        raise _refuse(problem, error.problem_mark or error.context_mark) from None
    except yaml.YAMLError as error:
        raise _refuse(str(error).splitlines()[0], None) from None
    except RecursionError:
        raise _refuse(f"nested deeper than {MAX_DEPTH} levels", None) from None
    return None if node is None else _build(node, 0)


def _as_mapping(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise CoreError(
            "spec.not_an_object", "a job is a mapping of fields (name: value)", hint="start from `acamkd init`"
        )
    return data


def load_yaml(text: str) -> dict[str, Any]:
    """YAML text of a spec as a mapping. Raises CoreError (`spec.yaml`, `spec.not_an_object`)."""
    return _as_mapping(parse_yaml(text))


def load_json(text: str) -> dict[str, Any]:
    """JSON text of a spec as a mapping; duplicate keys, NaN and infinities are refused.

    Raises:
        CoreError: `spec.json` or `spec.not_an_object`.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in items:
            key = _text(key)
            if key in result:
                raise CoreError("spec.json", f"the key {key!r} is given twice", hint="keep one of them", value=key)
            result[key] = plain(value)
        return result

    def plain(value: Any) -> Any:
        if isinstance(value, str):
            return _text(value)
        return [plain(item) for item in value] if isinstance(value, list) else value

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise CoreError("spec.json", f"{text[:40]} is too large for a number", value=text[:40])
        return value

    def constant(name: str) -> Any:
        raise CoreError("spec.json", f"{name} is not a finite number", value=name)

    try:
        return _as_mapping(json.loads(text, object_pairs_hook=pairs, parse_constant=constant, parse_float=number))
    except json.JSONDecodeError as error:
        raise CoreError("spec.json", f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (RecursionError, ValueError) as error:
        if isinstance(error, CoreError):
            raise
        raise CoreError("spec.json", "the JSON text cannot be read (too deep, or a number too long)") from None
