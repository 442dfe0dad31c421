"""Architectures: one class a family, and what readers without torch need to know of each family."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from acamkd_core.spec.base import SpecModel, refusal
from acamkd_core.spec.problems import closest
from acamkd_core.spec.tasks import TaskName
from acamkd_core.spec.timm_models import PREFIX, TimmName, classifier_refusal, timm_facts, timm_refusal

ResNetName = Literal[
    "resnet18", "resnet34", "resnet50", "resnet101", "resnext101_32x4d", "resnext101_32x8d", "resnext101_64x4d"
]
BOTTLENECKS = tuple(name for name in get_args(ResNetName) if name not in ("resnet18", "resnet34"))
BackboneName = ResNetName | Literal["mobilenet_v2"] | TimmName
_FEATURES = "Feature extractor; `timm:NAME` is a network of timm, e.g. `timm:convnext_tiny`."


class BackboneArch(SpecModel):
    """What architectures with a choice of backbones share: the checks of the choice."""

    @field_validator("backbone", mode="before", check_fields=False)
    @classmethod
    def _known(cls, value: object) -> object:
        branches = get_args(cls.model_fields["backbone"].annotation)
        words = [word for branch in branches for word in get_args(branch) if get_args(branch)[0] is not str]
        if not isinstance(value, str) or value in words:
            return value
        if not value.startswith(PREFIX):
            raise refusal(f"unknown backbone {value!r}", hint=f"{closest(value, words)}, or {PREFIX}NAME")
        if (why := timm_refusal(value.removeprefix(PREFIX))) is not None:
            raise refusal(why[0], hint=why[1])
        return value

    @model_validator(mode="after")
    def _fits_backbone(self) -> Self:
        """Width multipliers are MobileNetV2's, deep stems ResNet's; not all of timm's networks can be dilated."""
        arch: Any = self
        if not arch.backbone.startswith(("resnet", "resnext")) and getattr(arch, "deep_stem", False):
            raise refusal("deep_stem belongs to ResNet backbones", field="deep_stem")
        if arch.backbone != "mobilenet_v2" and arch.width != 1.0:
            raise refusal("width belongs to mobilenet_v2", field="width")
        for field, ordinary in (("resnet_style", "pytorch"), ("deformable", False)):
            if getattr(arch, field, ordinary) != ordinary and arch.backbone not in BOTTLENECKS:
                raise refusal(f"{field} belongs to ResNets with bottlenecks", hint=", ".join(BOTTLENECKS), field=field)
        facts, stride = timm_facts(arch.backbone), getattr(arch, "output_stride", 32)
        if facts is not None and stride not in facts.output_strides:
            possible = " or ".join(str(one) for one in facts.output_strides)
            raise refusal(
                f"{arch.backbone} cannot have output stride {stride}",
                hint=f"possible: {possible}",
                field="output_stride",
            )
        return self


class DeepLabV3Arch(BackboneArch):
    """DeepLabV3 (Chen et al. 2017): dilated backbone, atrous spatial pyramid pooling, 1x1 classifier."""

    family: Literal["deeplabv3"] = Field(description="DeepLabV3 with ASPP.")
    backbone: BackboneName = Field(default="mobilenet_v2", description=_FEATURES)
    width: float = Field(default=1.0, gt=0, le=2.0, description="Width multiplier (mobilenet_v2 only).")
    output_stride: Literal[8, 16, 32] = Field(default=16, description="Input size over feature size.")
    aspp_channels: int = Field(default=256, ge=8, le=2048, description="Channels of each ASPP branch.")
    aspp_rates: tuple[int, ...] = Field(
        default=(6, 12, 18), description="Atrous rates; the usual values double at stride 8."
    )
    align_corners: bool = Field(default=False, description="Grid used whenever logits or pooled features are resized.")
    aux_head: bool = Field(default=False, description="Auxiliary FCN head on c4; used in training only.")
    deep_stem: bool = Field(
        default=False,
        description="Three 3x3 convolutions instead of the 7x7 (ResNet only; CIRKD's and mmsegmentation's networks have it).",
    )
    style: Literal["torchvision", "mmseg"] = Field(
        default="torchvision",
        description="`mmseg`: as mmsegmentation builds it, for its weights: deep stem of 32, 32 and 64 channels instead of 64, 64 and 128, basic blocks dilated in their first convolution only, ASPP joined by one 3x3 convolution.",
    )

    @model_validator(mode="after")
    def _possible(self) -> DeepLabV3Arch:
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


class PSPNetArch(BackboneArch):
    """PSPNet (Zhao et al. 2017): dilated backbone, averages over grids of several sizes, 3x3 convolution, classifier."""

    family: Literal["pspnet"] = Field(description="PSPNet with pyramid pooling.")
    backbone: BackboneName = Field(default="resnet50", description=_FEATURES)
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
        default=False,
        description="Three 3x3 convolutions instead of the 7x7 (ResNet only; CIRKD's and mmsegmentation's networks have it).",
    )
    style: Literal["torchvision", "mmseg"] = Field(
        default="torchvision",
        description="`mmseg`: as mmsegmentation builds it, for its weights: deep stem of 32, 32 and 64 channels instead of 64, 64 and 128, basic blocks dilated in their first convolution only.",
    )

    @model_validator(mode="after")
    def _possible(self) -> PSPNetArch:
        if not 1 <= len(self.bins) <= 8 or min(self.bins) < 1 or max(self.bins) > 64:
            raise ValueError("bins needs 1 to 8 grids of 1 to 64 cells a side")
        return self


class LRASPPArch(BackboneArch):
    """LR-ASPP (Howard et al. 2019): MobileNetV3's segmentation network, a gated deep branch and a shallow one."""

    family: Literal["lraspp"] = Field(description="LR-ASPP on MobileNets.")
    backbone: Literal["mobilenet_v3_large", "mobilenet_v2"] | TimmName = Field(
        default="mobilenet_v3_large", description=_FEATURES
    )
    width: float = Field(default=1.0, gt=0, le=2.0, description="Width multiplier (mobilenet_v2 only).")
    output_stride: Literal[16, 32] = Field(
        default=16, description="Input size over size of the deepest features; class scores have stride 8 always."
    )
    head_channels: int = Field(default=128, ge=8, le=2048, description="Channels of the gated branch.")
    align_corners: bool = Field(default=False, description="Grid used whenever logits or features are resized.")


class PyramidArch(BackboneArch):
    """What detectors on a feature pyramid share."""

    backbone: BackboneName = Field(default="resnet50", description=_FEATURES)
    width: float = Field(default=1.0, gt=0, le=2.0, description="Width multiplier (mobilenet_v2 only).")
    fpn_channels: int = Field(
        default=256, ge=8, le=1024, description="Channels of the levels p3 to p7 and of the heads."
    )
    head_depth: int = Field(default=4, ge=1, le=8, description="3x3 convolutions in each head before the last.")
    p6_from: Literal["c5", "p5"] = Field(
        default="c5",
        description="What P6 is made of: `c5` (the papers' 37.97M RetinaNet-R50), or `p5` (torchvision's, 33.84M).",
    )
    p7_relu: bool = Field(default=True, description="ReLU between P6 and P7; mmdetection's RetinaNet has none.")
    resnet_style: Literal["pytorch", "caffe"] = Field(
        default="pytorch",
        description="Which convolution of a bottleneck halves the map: the 3x3, or the first 1x1 (`caffe`; mmdetection's FCOS).",
    )


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
        default=256,
        ge=64,
        le=1024,
        multiple_of=32,
        description="Channels of the levels p3 to p7 and of the heads: at least two for each of 32 groups.",
    )
    p6_from: Literal["c5", "p5"] = Field(default="p5", description="What P6 is made of; the paper's is `p5`.")
    level_scales: bool = Field(
        default=False,
        description="A learnt factor a level on the boxes' sides (the authors' code and mmdetection have it).",
    )


class RepPointsArch(PyramidArch):
    """RepPoints (Yang et al. 2019): feature pyramid p3 to p7, an object as nine points, in two stages, no anchors."""

    family: Literal["reppoints"] = Field(
        description="RepPoints on a feature pyramid, with group norm in neck and head."
    )
    fpn_channels: int = Field(
        default=256,
        ge=64,
        le=1024,
        multiple_of=32,
        description="Channels of the levels p3 to p7 and of the heads: at least two for each of 32 groups.",
    )
    head_depth: int = Field(default=3, ge=1, le=8, description="3x3 convolutions in each tower of the head.")
    p7_relu: bool = Field(default=False, description="ReLU between P6 and P7; mmdetection's RepPoints has none.")
    deformable: bool = Field(
        default=False,
        description="Deformable 3x3 convolutions in the backbone behind c2 (ResNets with bottlenecks): mmdetection's `dconv_c3-c5`.",
    )


class FasterRCNNArch(BackboneArch):
    """Faster R-CNN (Ren et al. 2015) on a feature pyramid p2 to p6 (Lin et al. 2017): proposals, then regions."""

    family: Literal["faster_rcnn"] = Field(description="Faster R-CNN on a feature pyramid.")
    backbone: BackboneName = Field(default="resnet50", description=_FEATURES)
    width: float = Field(default=1.0, gt=0, le=2.0, description="Width multiplier (mobilenet_v2 only).")
    fpn_channels: int = Field(default=256, ge=8, le=1024, description="Channels of the levels p2 to p6.")
    head_channels: int = Field(
        default=1024, ge=8, le=4096, description="Width of the two layers that classify regions."
    )
    anchor_scale: float = Field(
        default=8.0, gt=0, le=32, description="Side of a level's square anchor over its stride."
    )
    anchor_rounding: bool = Field(
        default=False, description="Anchors in whole pixels, as torchvision's weights were trained with."
    )
    roi_aligned: bool = Field(
        default=False,
        description="RoIAlign's `aligned`: the first position of a map lies half a stride from the image's corner, not on it (mmdetection's and Detectron2's networks).",
    )
    roi_sampling_ratio: int = Field(
        default=2,
        ge=0,
        le=8,
        description="RoIAlign's `sampling_ratio`: samples a side of each of a region's 7x7 cells; 0: as many as the cell has positions on the map, rounded up (mmdetection's and Detectron2's networks).",
    )
    resnet_style: Literal["pytorch", "caffe"] = Field(
        default="pytorch",
        description="Which convolution of a bottleneck halves the map: the 3x3, or the first 1x1 (`caffe`; mmdetection's `*_caffe_fpn_*`).",
    )


class SSDLiteArch(SpecModel):
    """SSDLite of the MobileNetV2 paper (Sandler et al. 2018, section 6.2): six maps, depthwise heads; made for 320x320."""

    family: Literal["ssdlite"] = Field(description="SSDLite on MobileNetV2.")
    backbone: Literal["mobilenet_v2"] = Field(default="mobilenet_v2", description="Feature extractor.")
    width: float = Field(default=1.0, gt=0, le=2.0, description="Width multiplier of backbone and extra maps.")


class MobileNetV2Arch(SpecModel):
    """MobileNetV2 (Sandler et al. 2018, table 2): inverted residuals, a 1x1 convolution to 1280 channels, a linear classifier."""

    family: Literal["mobilenet_v2"] = Field(description="MobileNetV2, an image classifier.")
    backbone: Literal["mobilenet_v2"] = Field(default="mobilenet_v2", description="Feature extractor.")
    width: float = Field(
        default=1.0, gt=0, le=2.0, description="Width multiplier; the 1280 channels only grow with it, as in the paper."
    )


class MobileNetV3Arch(SpecModel):
    """MobileNetV3 (Howard et al. 2019, tables 1 and 2): searched blocks with squeeze-and-excite, a two-layer classifier."""

    family: Literal["mobilenet_v3"] = Field(description="MobileNetV3, an image classifier.")
    backbone: Literal["mobilenet_v3_large", "mobilenet_v3_small"] = Field(
        default="mobilenet_v3_large", description="Feature extractor."
    )


class ResNetArch(SpecModel):
    """ResNet (He et al. 2016) and ResNeXt (Xie et al. 2017), stride on the 3x3 convolutions: residual blocks, a linear classifier."""

    family: Literal["resnet"] = Field(description="ResNet or ResNeXt, an image classifier.")
    backbone: ResNetName = Field(default="resnet50", description="Feature extractor.")


class TimmArch(SpecModel):
    """A network of timm with its own classifier, whole: ConvNeXt, EfficientNet, ViT, DeiT, Swin and all its others."""

    family: Literal["timm"] = Field(description="timm's classifiers.")
    backbone: TimmName = Field(
        description="Which: `timm:NAME`, e.g. `timm:convnext_tiny`, `timm:deit_tiny_patch16_224`."
    )

    @field_validator("backbone", mode="before")
    @classmethod
    def _known(cls, value: object) -> object:
        if isinstance(value, str):
            if not value.startswith(PREFIX):
                raise refusal(f"unknown backbone {value!r}", hint=f"write {PREFIX}NAME, e.g. {PREFIX}convnext_tiny")
            if (why := classifier_refusal(value.removeprefix(PREFIX))) is not None:
                raise refusal(why[0], hint=why[1])
        return value


Arch = Annotated[
    DeepLabV3Arch
    | MobileDeepLabV3Arch
    | PSPNetArch
    | LRASPPArch
    | RetinaNetArch
    | FCOSArch
    | RepPointsArch
    | FasterRCNNArch
    | SSDLiteArch
    | MobileNetV2Arch
    | MobileNetV3Arch
    | ResNetArch
    | TimmArch,
    Field(discriminator="family"),
]

FAMILY_TASKS: dict[str, TaskName] = {
    "deeplabv3": "semantic_segmentation",
    "mobile_deeplabv3": "semantic_segmentation",
    "pspnet": "semantic_segmentation",
    "lraspp": "semantic_segmentation",
    "retinanet": "detection",
    "fcos": "detection",
    "reppoints": "detection",
    "faster_rcnn": "detection",
    "ssdlite": "detection",
    "mobilenet_v2": "classification",
    "mobilenet_v3": "classification",
    "resnet": "classification",
    "timm": "classification",
}
NECK_LEVELS: dict[str, tuple[str, ...]] = {
    "retinanet": ("p3", "p4", "p5", "p6", "p7"),
    "fcos": ("p3", "p4", "p5", "p6", "p7"),
    "reppoints": ("p3", "p4", "p5", "p6", "p7"),
    "faster_rcnn": ("p2", "p3", "p4", "p5", "p6"),
    "ssdlite": ("m1", "m2", "m3", "m4"),
}
"""Where a detector is distilled when `at` does not say: its feature pyramid, or the maps that its heads look at."""

TWO_STAGE = frozenset({"faster_rcnn"})
"""Detectors that look at regions of their own proposals; the others with a neck decide at every position at once."""

CROSSED_LEVELS: dict[str, tuple[str, ...]] = {name: NECK_LEVELS[name] for name in ("retinanet", "fcos", "reppoints")}
"""Levels that a head looks at which can be left and entered between its convolutions, by family: CrossKD needs such heads."""

CONTEXT_LEVELS = {"deeplabv3": "aspp", "mobile_deeplabv3": "aspp", "pspnet": "psp"}
"""The context map between c5 and the class scores of a segmenter."""

ENTRY_LEVELS: dict[str, tuple[str, ...]] = {
    **NECK_LEVELS,
    "faster_rcnn": ("p2", "p3", "p4", "p5"),
    "ssdlite": (),
    "lraspp": ("c2", "c3", "logits"),
    "onnx": ("logits",),
    "pt2": ("logits",),
    "timm": ("logits",),
}
"""Levels from which a network can go on with other values, of the families that cannot from every level.

Regions of Faster R-CNN are pooled from p2 to p5: p6 alone leads nowhere. A pyramid's enter a detector's head together. SSDLite's anchors are
shares of the input, whose size its maps alone do not tell. LR-ASPP forks behind c3: a deeper map alone does not give the
other branch. A graph or a program is run whole.
"""


def entry_levels(family: str, backbone: str = "") -> tuple[str, ...] | None:
    """Levels from which this network can go on with other values; None where it can from all.

    timm's networks are taken as they are: nothing enters them halfway.
    """
    entries = ENTRY_LEVELS.get(family)
    if not backbone.startswith(PREFIX) or family in NECK_LEVELS:
        return entries
    return ("logits",) if entries is not None else ("c5", CONTEXT_LEVELS[family], "logits")
