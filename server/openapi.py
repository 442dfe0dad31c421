"""The OpenAPI document, with the job spec among its components. `python -m server.openapi` prints it."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from acamkd_core.spec.api import StreamEvent
from acamkd_core.spec.job import AnyJobSpec
from server.errors import documented

_TEMPLATE = "#/components/schemas/{model}"


def _component(components: dict[str, Any], name: str, adapter: TypeAdapter[Any]) -> None:
    """Adds a type that no response model mentions, with what it refers to."""
    schema = adapter.json_schema(ref_template=_TEMPLATE)
    for inner, definition in schema.pop("$defs", {}).items():
        components.setdefault(inner, definition)
    components.setdefault(name, schema)


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, plus the job spec (read as a raw body), stream events, and the key as a security scheme."""
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    _component(schemas, "AnyJobSpec", TypeAdapter(AnyJobSpec))
    _component(schemas, "StreamEvent", TypeAdapter(StreamEvent))
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{}, {"key": []}]
    # FastAPI's own error shape never leaves this server: every error is a Problem.
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    everywhere = {
        str(status): {"description": answer["description"], "content": problem}
        for status, answer in documented(403, 413, 421, 422, 500, 503).items()
    }
    for address, path in document["paths"].items():
        for operation in path.values():
            if address.startswith("/api/"):  # what the door, the database or a bug of ours may answer anywhere
                operation["responses"] = {**everywhere, **operation["responses"]}
            for status, response in operation.get("responses", {}).items():
                if (status[0] in "45" and "Problem" in json.dumps(response)) or "HTTPValidationError" in json.dumps(
                    response
                ):
                    response["content"] = problem
    return document


def main() -> None:
    """Prints the document; it depends on the code only."""
    from server.app import create_app
    from server.settings import Settings

    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder), broker_url="", storage_url=folder))
        json.dump(app.openapi(), sys.stdout, indent=1, sort_keys=True)
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
