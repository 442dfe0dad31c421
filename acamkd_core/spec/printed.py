"""Networks as the papers print them: their input, classes, parameters and multiply-adds, and why ours differ where they do."""

from __future__ import annotations

from dataclasses import dataclass

_V2 = "Sandler et al., CVPR 2018"
_CITYSCAPES = "Yang et al., CVPR 2022 (CIRKD)"
# docs/networks.md works each of these out, to the printed figure.
_RELEASED = "the authors' table of released checkpoints prints"
_ATROUS = "atrous maps are padded there, and counted so"
_DILATED = "counted there without dilation, and with the auxiliary head"


@dataclass(frozen=True)
class Printed:
    """One row of a paper.

    Attributes:
        preset: ours.
        source: the paper.
        num_classes, image_size: what the row refers to (height and width in pixels).
        parameters: as printed, in millions; None where the paper has none.
        macs: as printed, in billions.
        parameters_note, macs_note: why our count rounds to another number; None where it does not.
    """

    preset: str
    source: str
    num_classes: int
    image_size: tuple[int, int]
    parameters: str | None
    macs: str
    parameters_note: str | None = None
    macs_note: str | None = None


PRINTED = (
    Printed(
        "mobilenet_v2-1.0", _V2, 1000, (224, 224), "3.4", "0.30",
        parameters_note=f"{_RELEASED} 3.47, ours without batch norm",
    ),
    Printed(
        "mobilenet_v2-1.4", _V2, 1000, (224, 224), "6.9", "0.585",
        parameters_note=f"{_RELEASED} 6.06, ours without batch norm",
        macs_note="and 0.582",
    ),
    Printed("ssdlite-mobilenet_v2", _V2, 80, (320, 320), "4.3", "0.8"),
    Printed("mobile_deeplabv3", _V2, 21, (513, 513), "2.11", "2.75", macs_note=_ATROUS),
    Printed("mobile_deeplabv3-aspp", _V2, 21, (513, 513), "4.52", "5.8", macs_note=_ATROUS),
    Printed("deeplabv3-mobilenet_v2-3.2m", _CITYSCAPES, 19, (1024, 2048), "3.2", "128.9", macs_note=_DILATED),
    Printed("deeplabv3-resnet18-13.6m", _CITYSCAPES, 19, (1024, 2048), "13.6", "572.0", macs_note=_DILATED),
    Printed("deeplabv3-resnet101-61.1m", _CITYSCAPES, 19, (1024, 2048), "61.1", "2371.7", macs_note=_DILATED),
    Printed("pspnet-resnet18-12.9m", _CITYSCAPES, 19, (1024, 2048), "12.9", "507.4", macs_note=_DILATED),
)  # fmt: skip
