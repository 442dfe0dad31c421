"""One network in a job: its architecture, its weights, and the preprocessing that belongs to it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from acamkd_core.spec.archs import Arch
from acamkd_core.spec.base import SpecModel, refusal
from acamkd_core.spec.presets import PRESETS
from acamkd_core.spec.problems import closest


class WeightsSpec(SpecModel):
    """Where tensors come from: exactly one source. What did not match is listed; nothing matching is an error."""

    file: str | None = Field(
        default=None, description="A .safetensors file, or a .pth/.pt read with weights_only=True."
    )
    torchvision: str | None = Field(
        default=None, description="A torchvision weights enum, e.g. `MobileNet_V2_Weights.IMAGENET1K_V1`."
    )
    job: str | None = Field(default=None, description="Name or id of a finished job on the server.")
    model: str | None = Field(default=None, description="Name of a registered model, optionally with @alias.")
    layout: Literal["native", "torchvision", "cirkd", "cirkd_pspnet"] | None = Field(
        default=None, description="Key map of the file; automatic: the one that matches most tensors."
    )

    @model_validator(mode="after")
    def _one_source(self) -> WeightsSpec:
        given = [name for name in ("file", "torchvision", "job", "model") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of file, torchvision, job, model (got {', '.join(given) or 'none'})")
        return self

    @property
    def reference(self) -> str:
        """The short form, e.g. `job:camvid-teacher`; also the key under which a worker hands the file to a run."""
        for name in ("job", "model", "torchvision"):
            if (value := getattr(self, name)) is not None:
                return f"{name}:{value}"
        return str(self.file)


def weights_from_string(text: str) -> dict[str, str]:
    """`job:x`, `model:x@alias`, `torchvision:Enum.NAME` or a file, as the object form."""
    for prefix in ("job", "model", "torchvision"):
        if text.startswith(prefix + ":"):
            return {prefix: text.removeprefix(prefix + ":")}
    return {"file": text}


Deviation = Annotated[float, Field(gt=0)]


class Preprocess(SpecModel):
    """Maps an RGB image in [0, 1] to what this network eats. It belongs to the network, never to the dataset."""

    order: Literal["rgb", "bgr"] = Field(default="rgb", description="Channel order of the network's input.")
    range: Literal[1, 255] = Field(
        default=1, description="Pixel values in [0, 1] or [0, 255] before mean and deviation."
    )
    mean: tuple[float, float, float] = Field(
        default=(0.485, 0.456, 0.406), description="Subtracted, in the network's channel order."
    )
    std: tuple[Deviation, Deviation, Deviation] = Field(
        default=(0.229, 0.224, 0.225), description="Divided by, in the network's channel order."
    )


class ModelSpec(SpecModel):
    """One network: architecture, weights, preprocessing."""

    arch: Arch | None = Field(
        default=None, description="Architecture: a preset's name or its fields; automatic when the weights carry it."
    )
    weights: WeightsSpec | None = Field(default=None, description="Weights of the whole network.")
    backbone_weights: WeightsSpec | None = Field(default=None, description="Weights of the backbone only.")
    preprocess: Preprocess = Field(default_factory=Preprocess, description="What this network's input looks like.")

    @field_validator("arch", mode="before")
    @classmethod
    def _preset(cls, value: object) -> object:
        if isinstance(value, str):
            if value not in PRESETS:
                raise refusal(f"unknown preset {value!r}", hint=closest(value, sorted(PRESETS)))
            return PRESETS[value]
        return value

    @field_validator("weights", "backbone_weights", mode="before")
    @classmethod
    def _weights(cls, value: object) -> object:
        return weights_from_string(value) if isinstance(value, str) else value


class Expect(SpecModel):
    """What a teacher must score on the validation split before training may start."""

    miou: float | None = Field(default=None, ge=0, le=100, description="Expected mIoU in points (segmentation).")
    map: float | None = Field(default=None, ge=0, le=100, description="Expected COCO mAP in points (detection).")
    top1: float | None = Field(
        default=None, ge=0, le=100, description="Expected top-1 accuracy in points (classification)."
    )
    tolerance: float = Field(default=0.3, ge=0, description="Allowed difference in points.")

    @model_validator(mode="after")
    def _one_metric(self) -> Expect:
        if [self.miou, self.map, self.top1].count(None) != 2:
            raise ValueError("give the metric of the task: miou, map or top1")
        return self


class TeacherSpec(ModelSpec):
    """The frozen network. It needs weights: an untrained teacher teaches noise."""

    expect: Expect | None = Field(default=None, description="Stop before training when the teacher scores otherwise.")


class FreezeSpec(SpecModel):
    """What of the student does not learn: usual for pretrained detectors, whose batches are small."""

    stages: int = Field(
        default=0, ge=0, le=4, description="Backbone stages that stay as they are, from the image on (1: up to c2)."
    )
    norm: Literal["train", "eval"] = Field(
        default="train",
        description="Batch norm: `train` on the batch's statistics, or `eval`: keep the pretrained statistics.",
    )


class StudentSpec(ModelSpec):
    """The network that learns."""

    inherit: tuple[Literal["neck", "head"], ...] = Field(
        default=(), description="Parts that start from the teacher's tensors where shapes agree."
    )
    freeze: FreezeSpec = Field(default_factory=FreezeSpec, description="What does not learn.")
