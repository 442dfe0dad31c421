"""Networks: architectures (one class a family), weights, and the preprocessing that belongs to each network."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from acamkd_core.spec.base import SpecModel, refusal
from acamkd_core.spec.problems import closest
from acamkd_core.spec.tasks import TaskName

ResNetName = Literal["resnet18", "resnet34", "resnet50", "resnet101"]


class DeepLabV3Arch(SpecModel):
    """DeepLabV3 (Chen et al. 2017): dilated backbone, atrous spatial pyramid pooling, 1x1 classifier."""

    family: Literal["deeplabv3"] = Field(description="DeepLabV3 with ASPP.")
    backbone: ResNetName | Literal["mobilenet_v2"] = Field(default="mobilenet_v2", description="Feature extractor.")
    width: float = Field(default=1.0, gt=0, le=2.0, description="Width multiplier (mobilenet_v2 only).")
    output_stride: Literal[8, 16, 32] = Field(default=16, description="Input size over feature size.")
    aspp_channels: int = Field(default=256, ge=8, le=2048, description="Channels of each ASPP branch.")
    aspp_rates: tuple[int, ...] = Field(
        default=(6, 12, 18), description="Atrous rates; the usual values double at stride 8."
    )
    align_corners: bool = Field(default=False, description="Grid used whenever logits or pooled features are resized.")
    aux_head: bool = Field(default=False, description="Auxiliary FCN head on c4; used in training only.")
    deep_stem: bool = Field(
        default=False, description="Three 3x3 convolutions instead of the 7x7 (ResNet only; CIRKD's networks have it)."
    )

    @model_validator(mode="after")
    def _fits_backbone(self) -> DeepLabV3Arch:
        if self.backbone == "mobilenet_v2" and self.deep_stem:
            raise ValueError("deep_stem belongs to ResNet backbones")
        if self.backbone != "mobilenet_v2" and self.width != 1.0:
            raise ValueError("width belongs to mobilenet_v2")
        if not self.aspp_rates or min(self.aspp_rates) < 1:
            raise ValueError("aspp_rates needs at least one rate, each 1 or more")
        return self


class MobileDeepLabV3Arch(SpecModel):
    """Mobile DeepLabv3 of the MobileNetV2 paper (Sandler et al. 2018, section 6.3): no atrous branches by default."""

    family: Literal["mobile_deeplabv3"] = Field(description="Mobile DeepLabv3 on MobileNetV2.")
    width: float = Field(default=1.0, gt=0, le=2.0, description="Width multiplier.")
    output_stride: Literal[8, 16, 32] = Field(default=16, description="Input size over feature size.")
    aspp: bool = Field(default=False, description="With the three atrous branches (4.52M) or without (2.11M).")
    align_corners: bool = Field(default=False, description="Grid used whenever logits or pooled features are resized.")


class PSPNetArch(SpecModel):
    """PSPNet (Zhao et al. 2017): dilated backbone, averages over grids of several sizes, 3x3 convolution, classifier."""

    family: Literal["pspnet"] = Field(description="PSPNet with pyramid pooling.")
    backbone: ResNetName | Literal["mobilenet_v2"] = Field(default="resnet50", description="Feature extractor.")
    width: float = Field(default=1.0, gt=0, le=2.0, description="Width multiplier (mobilenet_v2 only).")
    output_stride: Literal[8, 16] = Field(default=8, description="Input size over feature size.")
    psp_channels: int = Field(
        default=512, ge=8, le=2048, description="Channels of the 3x3 convolution behind the pyramid."
    )
    bins: tuple[int, ...] = Field(
        default=(1, 2, 3, 6), description="Cells a side of each grid; each gets an equal share of c5's channels."
    )
    align_corners: bool = Field(default=False, description="Grid used whenever logits or pooled features are resized.")
    aux_head: bool = Field(default=False, description="Auxiliary FCN head on c4; used in training only.")
    deep_stem: bool = Field(
        default=False, description="Three 3x3 convolutions instead of the 7x7 (ResNet only; CIRKD's networks have it)."
    )

    @model_validator(mode="after")
    def _fits_backbone(self) -> PSPNetArch:
        if self.backbone == "mobilenet_v2" and self.deep_stem:
            raise ValueError("deep_stem belongs to ResNet backbones")
        if self.backbone != "mobilenet_v2" and self.width != 1.0:
            raise ValueError("width belongs to mobilenet_v2")
        if not 1 <= len(self.bins) <= 8 or min(self.bins) < 1 or max(self.bins) > 64:
            raise ValueError("bins needs 1 to 8 grids of 1 to 64 cells a side")
        return self


class LRASPPArch(SpecModel):
    """LR-ASPP (Howard et al. 2019): MobileNetV3's segmentation network, a gated deep branch and a shallow one."""

    family: Literal["lraspp"] = Field(description="LR-ASPP on MobileNets.")
    backbone: Literal["mobilenet_v3_large", "mobilenet_v2"] = Field(
        default="mobilenet_v3_large", description="Feature extractor."
    )
    width: float = Field(default=1.0, gt=0, le=2.0, description="Width multiplier (mobilenet_v2 only).")
    output_stride: Literal[16, 32] = Field(
        default=16, description="Input size over size of the deepest features; class scores have stride 8 always."
    )
    head_channels: int = Field(default=128, ge=8, le=2048, description="Channels of the gated branch.")
    align_corners: bool = Field(default=False, description="Grid used whenever logits or features are resized.")

    @model_validator(mode="after")
    def _fits_backbone(self) -> LRASPPArch:
        if self.backbone != "mobilenet_v2" and self.width != 1.0:
            raise ValueError("width belongs to mobilenet_v2")
        return self


class PyramidArch(SpecModel):
    """What detectors on a feature pyramid share."""

    backbone: ResNetName | Literal["mobilenet_v2"] = Field(default="resnet50", description="Feature extractor.")
    width: float = Field(default=1.0, gt=0, le=2.0, description="Width multiplier (mobilenet_v2 only).")
    fpn_channels: int = Field(
        default=256, ge=8, le=1024, description="Channels of the levels p3 to p7 and of the heads."
    )
    head_depth: int = Field(default=4, ge=1, le=8, description="3x3 convolutions in each head before the last.")
    p6_from: Literal["c5", "p5"] = Field(
        default="c5",
        description="What P6 is made of: `c5` (the papers' 37.97M RetinaNet-R50), or `p5` (torchvision's, 33.84M).",
    )

    @model_validator(mode="after")
    def _fits_backbone(self) -> Self:
        if self.backbone != "mobilenet_v2" and self.width != 1.0:
            raise ValueError("width belongs to mobilenet_v2")
        return self


class RetinaNetArch(PyramidArch):
    """RetinaNet (Lin et al. 2017): feature pyramid p3 to p7, nine anchors a position, focal loss."""

    family: Literal["retinanet"] = Field(description="RetinaNet on a feature pyramid.")
    anchor_scale: float = Field(
        default=4.0, gt=0, le=32, description="Side of a level's smallest square anchor over its stride."
    )
    anchor_rounding: bool = Field(
        default=False, description="Anchors in whole pixels, as torchvision's weights were trained with."
    )


class FCOSArch(PyramidArch):
    """FCOS (Tian et al. 2019): feature pyramid p3 to p7, one candidate a position, centre-ness, no anchors."""

    family: Literal["fcos"] = Field(description="FCOS on a feature pyramid.")
    fpn_channels: int = Field(
        default=256, ge=32, le=1024, multiple_of=32, description="Channels of the levels p3 to p7 and of the heads."
    )
    p6_from: Literal["c5", "p5"] = Field(default="p5", description="What P6 is made of; the paper's is `p5`.")


class SSDLiteArch(SpecModel):
    """SSDLite of the MobileNetV2 paper (Sandler et al. 2018, section 6.2): six maps, depthwise heads; made for 320x320."""

    family: Literal["ssdlite"] = Field(description="SSDLite on MobileNetV2.")
    backbone: Literal["mobilenet_v2"] = Field(default="mobilenet_v2", description="Feature extractor.")
    width: float = Field(default=1.0, gt=0, le=2.0, description="Width multiplier of backbone and extra maps.")


Arch = Annotated[
    DeepLabV3Arch | MobileDeepLabV3Arch | PSPNetArch | LRASPPArch | RetinaNetArch | FCOSArch | SSDLiteArch,
    Field(discriminator="family"),
]

FAMILY_TASKS: dict[str, TaskName] = {
    "deeplabv3": "semantic_segmentation",
    "mobile_deeplabv3": "semantic_segmentation",
    "pspnet": "semantic_segmentation",
    "lraspp": "semantic_segmentation",
    "retinanet": "detection",
    "fcos": "detection",
    "ssdlite": "detection",
}
NECK_LEVELS: dict[str, tuple[str, ...]] = {
    "retinanet": ("p3", "p4", "p5", "p6", "p7"),
    "fcos": ("p3", "p4", "p5", "p6", "p7"),
    "ssdlite": ("m1", "m2", "m3", "m4"),
}
"""Where a detector is distilled when `at` does not say: its feature pyramid, or the maps that its heads look at."""

ENTRY_LEVELS: dict[str, tuple[str, ...]] = {
    **NECK_LEVELS,
    "ssdlite": (),
    "lraspp": ("c2", "c3", "logits"),
}
"""Levels from which a network can go on with other values, of the families that cannot from every level.

A pyramid's enter a detector's head together. SSDLite's anchors are shares of the input, whose size its maps alone do not
tell. LR-ASPP forks behind c3: a deeper map alone does not give the other branch.
"""

# Three different networks are called "DeepLabV3-MobileNetV2" in the literature (2.1M, 3.2M, 512-channel ASPP):
# a preset names which one is meant.
PRESETS: dict[str, dict[str, Any]] = {
    "deeplabv3-mobilenet_v2-3.2m": {
        "family": "deeplabv3",
        "backbone": "mobilenet_v2",
        "width": 1.0,
        "output_stride": 8,
        "aspp_channels": 128,
        "aspp_rates": (12, 24, 36),
        "align_corners": True,
        "aux_head": False,
    },
    "deeplabv3-resnet18": {
        "family": "deeplabv3",
        "backbone": "resnet18",
        "output_stride": 8,
        "aspp_channels": 128,
        "aspp_rates": (12, 24, 36),
        "align_corners": True,
        "aux_head": True,
    },
    "deeplabv3-resnet101": {
        "family": "deeplabv3",
        "backbone": "resnet101",
        "output_stride": 8,
        "aspp_channels": 256,
        "aspp_rates": (12, 24, 36),
        "align_corners": True,
        "aux_head": True,
    },
    "deeplabv3-resnet50": {
        "family": "deeplabv3",
        "backbone": "resnet50",
        "output_stride": 8,
        "aspp_channels": 256,
        "aspp_rates": (12, 24, 36),
        "align_corners": True,
        "aux_head": True,
    },
    # The teacher and the larger student of the Cityscapes distillation tables: deep stem, 61.1M and 13.6M with the
    # auxiliary head. torchvision's ImageNet weights do not fit this stem.
    "deeplabv3-resnet101-61.1m": {
        "family": "deeplabv3",
        "backbone": "resnet101",
        "output_stride": 8,
        "aspp_channels": 256,
        "aspp_rates": (12, 24, 36),
        "align_corners": True,
        "aux_head": True,
        "deep_stem": True,
    },
    "deeplabv3-resnet18-13.6m": {
        "family": "deeplabv3",
        "backbone": "resnet18",
        "output_stride": 8,
        "aspp_channels": 128,
        "aspp_rates": (12, 24, 36),
        "align_corners": True,
        "aux_head": True,
        "deep_stem": True,
    },
    # Of the Cityscapes tables too: deep stem, 128 channels behind the pyramid, 12.9M with the auxiliary head.
    "pspnet-resnet18-12.9m": {
        "family": "pspnet",
        "backbone": "resnet18",
        "psp_channels": 128,
        "align_corners": True,
        "aux_head": True,
        "deep_stem": True,
    },
    "pspnet-resnet50": {"family": "pspnet", "backbone": "resnet50", "align_corners": True, "aux_head": True},
    "pspnet-resnet101": {"family": "pspnet", "backbone": "resnet101", "align_corners": True, "aux_head": True},
    "lraspp-mobilenet_v3_large": {"family": "lraspp", "backbone": "mobilenet_v3_large"},
    "lraspp-mobilenet_v2": {"family": "lraspp", "backbone": "mobilenet_v2"},
    # The detection papers' pair. torchvision's RetinaNet differs in P6 and in the rounding of its anchors.
    "retinanet-r50-fpn": {"family": "retinanet", "backbone": "resnet50"},
    "retinanet-r101-fpn": {"family": "retinanet", "backbone": "resnet101"},
    "retinanet-r50-fpn-torchvision": {
        "family": "retinanet",
        "backbone": "resnet50",
        "p6_from": "p5",
        "anchor_rounding": True,
    },
    "retinanet-mobilenet_v2": {"family": "retinanet", "backbone": "mobilenet_v2", "fpn_channels": 128},
    "fcos-r50-fpn": {"family": "fcos", "backbone": "resnet50"},
    "ssdlite-mobilenet_v2": {"family": "ssdlite"},
    "mobile_deeplabv3": {"family": "mobile_deeplabv3", "aspp": False},
    "mobile_deeplabv3-aspp": {"family": "mobile_deeplabv3", "aspp": True},
}


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
    tolerance: float = Field(default=0.3, ge=0, description="Allowed difference in points.")

    @model_validator(mode="after")
    def _one_metric(self) -> Expect:
        if (self.miou is None) == (self.map is None):
            raise ValueError("give the metric of the task: miou or map")
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
