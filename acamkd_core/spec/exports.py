"""Export formats, one class a format, and the parity gate that decides whether a download is called verified."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from acamkd_core.spec.base import SpecModel


class Gate(SpecModel):
    """The exported file is re-scored from the image files by a process without torch, using only what it carries."""

    max_drop: float = Field(
        default=0.1, ge=0, description="Largest allowed difference to the checkpoint's metric, in points."
    )
    min_agreement: float = Field(
        default=99.9,
        ge=0,
        le=100,
        description="Smallest share of equal predictions (pixels, detections, images), in percent.",
    )
    images: int | None = Field(
        default=None, ge=1, description="Score only the first n validation images; automatic: all of them."
    )


class SafetensorsExport(SpecModel):
    """Weights with the architecture and preprocessing in the header: can be a teacher or a start again."""

    format: Literal["safetensors"] = Field(description="Weights for PyTorch, with their architecture in the header.")


class OnnxExport(SpecModel):
    """ONNX graph from the normalised image to class scores or boxes; labels and preprocessing are in its metadata."""

    format: Literal["onnx"] = Field(description="ONNX graph, run by onnxruntime.")
    precision: Literal["fp32"] = Field(default="fp32", description="Number format of the weights.")
    opset: int = Field(default=20, ge=17, le=23, description="ONNX operator set.")
    gate: Gate = Field(default_factory=Gate, description="When the file counts as verified.")


ExportSpec = Annotated[SafetensorsExport | OnnxExport, Field(discriminator="format")]
