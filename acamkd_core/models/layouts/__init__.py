"""Key maps of foreign weights files: data, one file a source."""

from acamkd_core.models.layouts import cirkd, native, openmmlab, timm, torchvision
from acamkd_core.models.layouts.base import Layout

# In order of preference: of two that match equally many tensors the earlier one is taken. Those of one name are what one
# source calls things in different networks.
LAYOUTS: tuple[Layout, ...] = (
    native.LAYOUT,
    torchvision.LAYOUT,
    torchvision.CLASSIFIER,
    torchvision.FCOS,
    cirkd.LAYOUT,
    cirkd.PSPNET,
    timm.RESNET,
    timm.DEEP_STEM,
    timm.MOBILENET_V2,
    openmmlab.DEEPLABV3,
    openmmlab.PSPNET,
    openmmlab.RETINANET,
    openmmlab.FASTER_RCNN,
    openmmlab.FCOS,
    openmmlab.REPPOINTS,
)
LAYOUT_NAMES = tuple(dict.fromkeys(layout.name for layout in LAYOUTS))

__all__ = ["LAYOUTS", "LAYOUT_NAMES", "Layout"]
