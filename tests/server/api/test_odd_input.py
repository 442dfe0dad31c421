"""Whatever arrives, the answer is one that the OpenAPI document promises: never a 500, always a problem with a code.

Each operation gets each odd value in each of its parameters and body fields, on both databases: they refuse different
things (PostgreSQL the character NUL, SQLite numbers beyond 64 bits).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.server.api.conftest import World

API = "/api/v1"
JOB = {"dataset": "scenes", "student": "mobile_deeplabv3", "schedule": {"iterations": 10}, "name": "odd"}
# as they stand in an address: percent-encoded, some of them no UTF-8
TEXTS = ["a%00b", "%ff", "m@%C2%B2", "m@" + "9" * 30, "9" * 30, "-1", "a" * 3000, "%27%3B--", "x:%C2%B2", "%25", ",", "@",
         "%0d%0aX-Evil:1"]  # fmt: skip
# as JSON text: half a surrogate pair and numbers that Python writes differently
VALUES = ['"\\ud800"', '"x\\u0000y"', "9" * 30, "1e400", "null", "{}", '"' + "a" * 20_000 + '"', "[" * 60 + "]" * 60, '{"a.b":1}',
          '{"\\u0000":1}', '{"seed":' + "9" * 30 + "}", '["\\u0000"]', '["\\ud800"]', "NaN"]  # fmt: skip


def operations(world: World) -> Iterator[tuple[str, str, dict[str, Any]]]:
    document = world.client.app.openapi()  # type: ignore[attr-defined]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path.startswith(API):
                yield method.upper(), path, operation


def fields(operation: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """Names in the JSON body of an operation."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    text = json.dumps(content)
    found: list[str] = []
    for name, schema in document["components"]["schemas"].items():
        if f'"#/components/schemas/{name}"' in text:
            found += schema.get("properties", {})
    return found or (["name", "dataset", "tags", "notes"] if "AnyJobSpec" in text else [])


@pytest.fixture
def odd_world(make_world: Callable[..., World], database_url: str) -> World:
    world = make_world(database_url=database_url)
    assert world.client.post(f"{API}/jobs", json=JOB).status_code == 201
    return world


def check(answer: Any, operation: dict[str, Any], what: str) -> None:
    status = str(answer.status_code)
    assert status in operation["responses"], f"{what} -> {status} {answer.text[:300]}"
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", what
        problem = answer.json()
        assert problem["code"], what
        assert problem["message"], what
    assert "x-evil" not in answer.headers


def test_odd_values_in_addresses(odd_world: World) -> None:
    asked = 0
    for method, path, operation in operations(odd_world):
        parameters = operation.get("parameters", [])
        inside = [one["name"] for one in parameters if one["in"] == "path"]
        queries = [one["name"] for one in parameters if one["in"] == "query"]
        filled = path
        for name in inside:
            filled = filled.replace("{" + name + "}", "odd")
        for text in TEXTS:
            addresses = [path.replace("{" + name + "}", text) for name in inside]
            addresses = [one.replace("{", "").replace("}", "") for one in addresses]
            addresses += [f"{filled}?{name}={text}" for name in queries]
            for address in addresses:
                answer = odd_world.client.request(
                    method, address, **({"json": {}} if method in ("PUT", "PATCH") else {})
                )
                check(answer, operation, f"{method} {address}")
                asked += 1
    assert asked > 500


def test_odd_values_in_bodies(odd_world: World) -> None:
    document = odd_world.client.app.openapi()  # type: ignore[attr-defined]
    asked = 0
    for method, path, operation in operations(odd_world):
        address = path
        for one in operation.get("parameters", []):
            if one["in"] == "path":
                address = address.replace("{" + one["name"] + "}", "odd")
        for name in fields(operation, document):
            for value in VALUES:
                base = {key: json.dumps(item) for key, item in (JOB if path == f"{API}/jobs" else {}).items()}
                base.pop("name", None)
                base[name] = value
                body = "{" + ",".join(f"{json.dumps(key)}:{item}" for key, item in base.items()) + "}"
                answer = odd_world.client.request(
                    method, address, content=body.encode(), headers={"content-type": "application/json"}
                )
                check(answer, operation, f"{method} {address} {body[:200]}")
                asked += 1
    assert asked > 150


@pytest.mark.parametrize(
    "name", ["Idempotency-Key", "Last-Event-ID", "Authorization", "Range", "If-None-Match", "X-Request-Id"]
)
def test_odd_values_in_headers(odd_world: World, name: str) -> None:
    for value in (
        b"\xb2",
        b"\xff" * 10,
        b"a" * 20_000,
        b"x:\xb2",
        b"Bearer acamkd_\xff",
        b"bytes=" + b"9" * 5000 + b"-",
    ):
        for method, path in (("GET", "/jobs"), ("POST", "/jobs"), ("GET", "/events"), ("GET", "/artifacts/x/download")):
            body = {"json": {key: item for key, item in JOB.items() if key != "name"}} if method == "POST" else {}
            answer = odd_world.client.request(method, f"{API}{path}", headers={name.encode(): value}, **body)  # type: ignore[arg-type]
            assert answer.status_code < 500, (method, path, value[:20], answer.text)


def test_a_length_that_is_no_number_is_no_bug(odd_world: World) -> None:
    answer = odd_world.client.post(f"{API}/jobs", content=iter([b"{}"]), headers={b"content-length": b"\xb2"})  # type: ignore[dict-item]
    assert answer.status_code < 500, answer.text


def test_a_body_that_no_parser_reads(odd_world: World) -> None:
    deep = b'{"notes":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    for method, path in (("PATCH", "/jobs/odd"), ("POST", "/jobs"), ("POST", "/jobs/odd/retry"), ("POST", "/keys")):
        for body in (deep, b'{"notes":', b"\xff"):
            answer = odd_world.client.request(
                method, f"{API}{path}", content=body, headers={"content-type": "application/json"}
            )
            assert answer.status_code == 422, (path, body[:20], answer.text)
            assert answer.json()["code"], path


def test_quoted_is_what_it_says(odd_world: World) -> None:
    """The odd ones among the values that are names: they work."""
    for name in ("x", "a.b-c_d"):
        assert odd_world.client.get(f"{API}/jobs?q={quote(name)}").status_code == 200
