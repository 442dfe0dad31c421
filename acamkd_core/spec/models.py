"""One network in a job: its architecture, its weights, and the preprocessing that belongs to it."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, field_validator, model_validator

from acamkd_core.spec.archs import Arch, TimmArch
from acamkd_core.spec.augment import Side
from acamkd_core.spec.base import SpecModel, refusal
from acamkd_core.spec.graph_specs import OnnxSpec, Pt2Spec
from acamkd_core.spec.presets import PRESETS
from acamkd_core.spec.problems import closest
from acamkd_core.spec.timm_models import PREFIX, classifier_refusal, timm_refusal
from acamkd_core.spec.torchvision_models import NETWORKS, published

_ARCH: TypeAdapter[Arch] = TypeAdapter(Arch)
SOURCES = ("job", "model", "torchvision", "timm")  # prefixes of the short form


class WeightsSpec(SpecModel):
    """Where tensors come from: exactly one source. What did not match is listed; nothing matching is an error."""

    file: str | None = Field(
        default=None,
        description="A .safetensors file, a .pth/.pt read with weights_only=True, or (teachers) an .onnx or .pt2 file.",
    )
    torchvision: str | None = Field(
        default=None, description="A torchvision weights enum, e.g. `MobileNet_V2_Weights.IMAGENET1K_V1`."
    )
    timm: str | None = Field(
        default=None, description="Pretrained weights of timm, `NAME` or `NAME.TAG`, e.g. `convnext_tiny.fb_in1k`."
    )
    job: str | None = Field(default=None, description="Name or id of a finished job on the server.")
    model: str | None = Field(default=None, description="Name of a registered model, optionally with @alias.")
    layout: (
        Literal["native", "torchvision", "torchvision_classifier", "cirkd", "cirkd_pspnet", "timm", "mmseg", "mmdet"]
        | None
    ) = Field(default=None, description="Key map of the file; automatic: the one that matches most tensors.")

    @model_validator(mode="after")
    def _one_source(self) -> WeightsSpec:
        given = [name for name in ("file", *SOURCES) if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of file, {', '.join(SOURCES)} (got {', '.join(given) or 'none'})")
        if self.timm is not None and (why := timm_refusal(self.timm, weights=True)) is not None:
            raise refusal(why[0], hint=why[1], field="timm")
        return self

    @property
    def reference(self) -> str:
        """The short form, e.g. `job:camvid-teacher`; also the key under which a worker hands the file to a run."""
        for name in SOURCES:
            if (value := getattr(self, name)) is not None:
                return f"{name}:{value}"
        return str(self.file)


def weights_from_string(text: str) -> dict[str, str]:
    """`job:x`, `model:x@alias`, `torchvision:Enum.NAME`, `timm:NAME.TAG` or a file, as the object form."""
    for prefix in SOURCES:
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
        default=None,
        description="Architecture: a preset's name or its fields; automatic when the weights carry or name it.",
    )
    weights: WeightsSpec | None = Field(default=None, description="Weights of the whole network.")
    backbone_weights: WeightsSpec | None = Field(default=None, description="Weights of the backbone only.")
    preprocess: Preprocess | None = Field(
        default=None,
        description="What this network's input looks like; automatic: what its file or timm says of it, else ImageNet's.",
    )

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

    @model_validator(mode="after")
    def _of_its_weights(self) -> Self:
        """timm's and torchvision's weights alone say which network they belong to: timm's classifier, or one of the table."""
        if self.arch is not None or self.weights is None:
            return self
        if self.weights.timm is not None:
            name = self.weights.timm.partition(".")[0]
            if (why := classifier_refusal(name)) is not None:
                raise refusal(why[0], hint=why[1], field="weights.timm")
            self.arch = TimmArch(family="timm", backbone=f"{PREFIX}{name}")
        elif self.weights.torchvision is not None:
            if (network := published(self.weights.torchvision)) is None:
                raise refusal(
                    f"no network is known for {self.weights.torchvision!r}",
                    hint=f"give `arch`: a preset's name or its fields; known by their weights alone: {', '.join(NETWORKS)}",
                    field="arch",
                )
            self.arch = _ARCH.validate_python(network.arch)
        else:
            return self
        self.__pydantic_fields_set__.discard("arch")
        return self


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
    size: tuple[Side, Side] | None = Field(
        default=None,
        description="Height and width at which the teacher sees every training sample (of `augment.crop`, else `augment.size`): the "
        "student's view, resized. Images at evaluation are resized by the same factor. Automatic: what the student sees.",
    )
    onnx: OnnxSpec | None = Field(
        default=None, description="Tensors of a teacher in an ONNX file; automatic for files that acamkd exported."
    )
    pt2: Pt2Spec | None = Field(default=None, description="Outputs of a teacher that is a program (`.pt2`).")
    allow_code: bool = Field(
        default=False,
        strict=True,
        description="Runs a teacher that is a program (`.pt2`): whatever code is in the file acts with the worker's rights. A server "
        "takes programs only from folders that its administrator has listed for them.",
    )
    classes: tuple[str, ...] | None = Field(
        default=None,
        description="Names of the teacher's classes in the order of its channels; automatic: what its file says, else the dataset's.",
    )
    label_map: Literal["by_name"] | dict[str, str] | None = Field(
        default=None,
        description="For a teacher of other classes: `{teacher class: dataset class}`, several to one if need be, or `by_name`: "
        "those whose names agree but for case, spaces, hyphens and underscores. What is left over is warned of.",
    )

    @field_validator("classes")
    @classmethod
    def _some_classes(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and len(value) < 1:
            raise ValueError("a teacher without a class teaches nothing")
        return value

    @property
    def is_onnx(self) -> bool:
        """Whether another runtime has to run it, as far as the spec says."""
        return self.onnx is not None or (self.weights is not None and _suffix(self.weights) == ".onnx")

    @property
    def is_program(self) -> bool:
        """Whether it is a `.pt2` file, which has to be allowed to run its code."""
        return self.weights is not None and _suffix(self.weights) == ".pt2"

    @model_validator(mode="after")
    def _one_kind(self) -> TeacherSpec:
        if self.is_onnx and self.arch is not None:
            raise refusal("an ONNX file is its own architecture", field="arch", hint="leave `arch` out")
        if self.is_onnx and self.backbone_weights is not None:
            raise refusal("an ONNX file has all of its weights", field="backbone_weights", hint="leave it out")
        if self.onnx is not None and self.weights is not None and _suffix(self.weights) not in (".onnx", ""):
            raise refusal(
                "`onnx` describes an ONNX file, and the weights are none",
                field="onnx",
                hint="give weights: an .onnx file",
            )
        return self

    @model_validator(mode="after")
    def _code_only_where_it_is_allowed(self) -> TeacherSpec:
        """Nothing runs code by chance: a program needs `allow_code`, and `allow_code` needs a program."""
        if self.backbone_weights is not None and _suffix(self.backbone_weights) == ".pt2":
            raise refusal("a .pt2 file is a whole network", field="backbone_weights", hint="give it as `weights`")
        if not self.is_program:
            for field, given in (("allow_code", self.allow_code), ("pt2", self.pt2 is not None)):
                if given:
                    raise refusal(
                        f"`{field}` is for teachers in a .pt2 file, and the weights are none",
                        field=field,
                        value=self.weights.reference if self.weights is not None else None,
                        hint="leave it out: nothing else that teaches runs code"
                        if field == "allow_code"
                        else "leave it out",
                    )
            return self
        assert self.weights is not None
        file = str(self.weights.file)
        if "://" in file:
            raise refusal(
                "a program is not fetched from elsewhere",
                field="weights",
                value=file,
                hint="have an administrator put it into a folder for programs (docs/teachers.md)",
            )
        if not self.allow_code:
            raise refusal(
                "a .pt2 file is a program: to run it is to run its code",
                field="weights",
                value=file,
                hint="say `allow_code: true` if you trust who made it, or export the network to ONNX (docs/teachers.md)",
            )
        for field, word in (
            ("arch", "is its own architecture"),
            ("backbone_weights", "has all of its weights"),
            ("onnx", "is no graph"),
        ):
            if getattr(self, field) is not None:
                raise refusal(f"a program {word}", field=field, hint="leave it out")
        return self


def _suffix(weights: WeightsSpec) -> str:
    """Kind of a file by its name; empty where only the source knows."""
    return PurePath(weights.file).suffix.lower() if weights.file is not None else ""


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

    @model_validator(mode="after")
    def _can_learn(self) -> StudentSpec:
        for field in ("weights", "backbone_weights"):
            weights = getattr(self, field)
            if weights is not None and (kind := _suffix(weights)) in (".onnx", ".pt2"):
                raise refusal(
                    f"a student cannot start from an {kind} file: it is run as a whole, and cannot learn",
                    field=field,
                    hint="take the .safetensors file; an .onnx file can teach",
                )
        return self
