"""The strict base of every public model: unknown keys are refused, every field is described."""

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class SpecModel(BaseModel):
    """Base of all spec parts. A typo in a key is an error, never a silently ignored setting."""

    model_config = ConfigDict(extra="forbid", validate_default=True, populate_by_name=True, allow_inf_nan=False)


def refusal(message: str, *, hint: str | None = None, field: str | None = None) -> PydanticCustomError:
    """What a validator raises when it knows what to do about a mistake, or which field below its own is wrong."""
    told = {"message": message, **({"hint": hint} if hint else {}), **({"field": field} if field else {})}
    return PydanticCustomError("refused", "{message}", told)
