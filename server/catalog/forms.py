"""Pydantic's JSON schema, shaped so that a form generator draws one clear field for each option.

Pydantic writes `X | None = None` as `anyOf: [X, null]`, which form generators draw as a selector of two nameless
kinds. An absent key means the same to the spec, so the null branch goes and the field is optional.
"""

from __future__ import annotations

from typing import Any

TAGS = frozenset({"method", "family", "format"})


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    options = schema.get("anyOf")
    if not isinstance(options, list) or {"type": "null"} not in options:
        return schema
    rest = [option for option in options if option != {"type": "null"}]
    outer = {key: value for key, value in schema.items() if key != "anyOf"}
    if outer.get("default", 0) is None:
        del outer["default"]
    if len(rest) == 1:
        # What the field says of itself (title, description) wins over what its type says.
        return {**rest[0], **outer}
    return {**outer, "anyOf": rest}


def form_schema(schema: Any) -> Any:
    """A copy without null branches, with fixed-length tuples as forms draw them, and tags without default."""
    if isinstance(schema, list):
        return [form_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    shaped = {key: form_schema(value) for key, value in _without_null(schema).items()}
    if "prefixItems" in shaped:
        # JSON Schema draft 7, which form generators speak, writes tuples as a list under `items`.
        items = shaped.pop("prefixItems")
        shaped["items"] = items[0] if all(item == items[0] for item in items) else items
        shaped.setdefault("minItems", len(items))
        shaped.setdefault("maxItems", len(items))
    if isinstance(properties := shaped.get("properties"), dict):
        for tag in TAGS & properties.keys():
            # A tag with a default lets a form think that every branch of the union fits.
            if "const" in properties[tag]:
                properties[tag].pop("default", None)
                properties[tag].pop("readOnly", None)
                shaped["required"] = sorted({*shaped.get("required", []), tag})
    if "const" in shaped and shaped.get("default") == shaped["const"]:
        shaped.setdefault("readOnly", True)
    return shaped
