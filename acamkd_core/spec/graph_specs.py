"""What a spec says of a teacher that comes as a whole: which tensors of an ONNX graph or a program are what."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from acamkd_core.spec.base import SpecModel

Side = Annotated[int, Field(ge=1)]


def _checked_levels(value: dict[str, str]) -> dict[str, str]:
    levels = list(value.values())
    if twice := next((name for name in levels if levels.count(name) > 1), None):
        raise ValueError(f"two tensors are both level {twice!r}")
    if odd := next((name for name in levels if not name.isidentifier()), None):
        raise ValueError(f"{odd!r} is no name for a level: letters, digits and _ as in c5")
    return value


class OnnxSpec(SpecModel):
    """Which tensors of an ONNX teacher are what. All of it is automatic for files that acamkd exported."""

    features: dict[str, str] = Field(
        default_factory=dict,
        description="Tensor of the graph (an output, or one inside it) to the name of a level, e.g. `{relu_5: c5}`.",
    )
    raw: str | None = Field(
        default=None,
        description="Tensor with the class scores, N x classes x H x W (classification: N x classes); automatic: the only output "
        "left, before a last upsampling.",
    )
    size: tuple[Side, Side] | None = Field(
        default=None, description="Height and width that the graph is made for; automatic: what the file fixes."
    )

    _levels = field_validator("features")(_checked_levels)


class Pt2Spec(SpecModel):
    """Which outputs of a program (`.pt2`, torch.export) are what: `0`, `1` ... by position, or by key; inside others with dots."""

    features: dict[str, str] = Field(
        default_factory=dict, description="Output to the name of a level, e.g. `{0: c4, 1: c5}` or `{maps.c5: c5}`."
    )
    raw: str | None = Field(
        default=None,
        description="Output with the class scores, N x classes x H x W (classification: N x classes). Detectors have none.",
    )
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="Digest of the file, and no other is run; automatic: that of the file as the run finds it.",
    )

    @field_validator("features", mode="before")
    @classmethod
    def _positions(cls, value: object) -> object:
        """YAML reads `0` as a number, and outputs are named by text."""
        return {_text(name): level for name, level in value.items()} if isinstance(value, dict) else value

    @field_validator("raw", mode="before")
    @classmethod
    def _position(cls, value: object) -> object:
        return _text(value)

    _levels = field_validator("features")(_checked_levels)


def _text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
