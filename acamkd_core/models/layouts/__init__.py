"""Key maps of foreign weights files: data, one file a source."""

from acamkd_core.models.layouts import cirkd, native, torchvision
from acamkd_core.models.layouts.base import Layout

# In order of preference: of two that match equally many tensors the earlier one is taken.
LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (native.LAYOUT, torchvision.LAYOUT, torchvision.CLASSIFIER, cirkd.LAYOUT, cirkd.PSPNET)
}

__all__ = ["LAYOUTS", "Layout"]
