"""The one error type that users see: a code, a sentence, a hint and the offending value.

Every refusal, wherever it happens (spec, doctor, trainer, export, server), is a `CoreError`, so that REST, SDK,
CLI and dashboard can show it the same way.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class ErrorInfo(BaseModel):
    """A `CoreError` as data, as it appears in events, in job records and in REST answers."""

    code: str = Field(description="Stable identifier, e.g. `dataset.ids_outside_classes`.")
    message: str = Field(description="One sentence in the user's words.")
    hint: str | None = Field(default=None, description="What to do about it.")
    field: str | None = Field(default=None, description="Dotted path in the spec, e.g. `distill.0.at`.")
    value: Any = Field(default=None, description="The offending value.")

    def within(self, path: str) -> ErrorInfo:
        """The same, found in a part of the spec: `path` goes before its field."""
        return self.model_copy(update={"field": f"{path}.{self.field}"})


class CoreError(ValueError):
    """A mistake in the user's input or data. Bugs of ours are ordinary exceptions, never this."""

    def __init__(
        self, code: str, message: str, *, hint: str | None = None, field: str | None = None, value: Any = None
    ) -> None:
        super().__init__(message)
        self.info = ErrorInfo(code=code, message=message, hint=hint, field=field, value=value)

    @classmethod
    def of(cls, info: ErrorInfo) -> CoreError:
        """The error that this data describes."""
        return CoreError(info.code, info.message, hint=info.hint, field=info.field, value=info.value)

    @property
    def code(self) -> str:
        return self.info.code

    def __str__(self) -> str:
        where = f"{self.info.field}: " if self.info.field else ""
        hint = f" ({self.info.hint})" if self.info.hint else ""
        return f"{where}{self.info.message}{hint}"


class SpecInvalid(CoreError):
    """One or more spec mistakes, each with its field. `problems` holds them all, the first one is the message."""

    def __init__(self, problems: list[ErrorInfo]) -> None:
        first = problems[0]
        super().__init__(first.code, first.message, hint=first.hint, field=first.field, value=first.value)
        self.problems = problems
