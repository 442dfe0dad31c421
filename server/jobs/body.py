"""The body of POST /jobs: the raw spec, as JSON or as YAML."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.yaml_text import load_json, load_yaml

MAX_SPEC_BYTES = 1_000_000
YAML_TYPES = frozenset({"application/yaml", "application/x-yaml", "text/yaml"})
_SCHEMA = {"$ref": "#/components/schemas/AnyJobSpec"}
JOB_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _SCHEMA}, "application/yaml": {"schema": {"type": "string"}}},
    }
}


async def read_spec(request: Request) -> dict[str, Any]:
    """The submitted mapping.

    Raises:
        CoreError: another media type, too large, not readable, or not a mapping.
    """
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and media_type not in YAML_TYPES:
        raise CoreError(
            "request.wrong_type",
            f"a job is sent as application/json or application/yaml, not as {media_type}",
            hint="set the Content-Type header",
        )
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > MAX_SPEC_BYTES:
            raise CoreError("request.too_large", f"a job spec is at most {MAX_SPEC_BYTES // 1000} kB")
    try:
        text = chunks.decode("utf-8")
    except UnicodeDecodeError:
        raise CoreError("spec.unreadable", "the body is not UTF-8 text") from None
    return load_yaml(text) if media_type in YAML_TYPES else load_json(text)


SubmittedSpec = Annotated[dict[str, Any], Depends(read_spec)]
