"""What request bodies and query parameters share: text that every database takes, numbers that fit their columns."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

MAX_INTEGER = 2**31 - 1  # PostgreSQL's INTEGER; SQLite would take more


def is_text(value: str) -> bool:
    """Whether a string can be stored: no NUL (PostgreSQL refuses it), no half of a surrogate pair (UTF-8 does)."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def _all_text(value: Any) -> bool:
    if isinstance(value, str):
        return is_text(value)
    if isinstance(value, dict):
        return all(_all_text(key) and _all_text(item) for key, item in value.items())
    return all(_all_text(item) for item in value) if isinstance(value, list) else True


class Body(BaseModel):
    """A JSON body: unknown keys are refused, and so is text that cannot be stored, at any depth."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:
        if not _all_text(data):
            raise ValueError("the character NUL and halves of surrogate pairs are not text")
        return data
