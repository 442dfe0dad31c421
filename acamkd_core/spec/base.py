"""The strict base of every public model: unknown keys are refused, every field is described."""

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class SpecModel(BaseModel):
    """Base of all spec parts. A typo in a key is an error, never a silently ignored setting."""

    model_config = ConfigDict(extra="forbid", validate_default=True, populate_by_name=True, allow_inf_nan=False)


def set_default(model: SpecModel, name: str, value: object) -> None:
    """Sets a field that its user left out, so that it still counts as left out."""
    setattr(model, name, value)
    model.__pydantic_fields_set__.discard(name)


def refusal(
    message: str, *, hint: str | None = None, field: str | None = None, value: str | None = None
) -> PydanticCustomError:
    """What a validator raises when it knows what to do about a mistake, or which field below its own is wrong.

    `value`: what is wrong, where that is not what the validator was given.
    """
    told = {"hint": hint, "field": field, "value": value}
    return PydanticCustomError(
        "refused", "{message}", {"message": message, **{name: text for name, text in told.items() if text is not None}}
    )
