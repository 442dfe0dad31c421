"""The strict base of every public model: unknown keys are refused, every field is described."""

from pydantic import BaseModel, ConfigDict


class SpecModel(BaseModel):
    """Base of all spec parts. A typo in a key is an error, never a silently ignored setting."""

    model_config = ConfigDict(extra="forbid", validate_default=True, populate_by_name=True)
