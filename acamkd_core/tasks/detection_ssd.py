"""SSD's changes of training samples (Liu et al., ECCV 2016, arXiv 1512.02325, section 2.2), by torchvision's transforms.

In the order of torchvision's reference: colours distorted, zoomed out onto a canvas of up to 4 x 4 (half of the images), a
window that keeps a drawn overlap with an object, mirrored; then resized. Objects whose centre is outside the window go.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from acamkd_core.datasets.base import Sample
from acamkd_core.spec.augment import AugmentSpec
from acamkd_core.tasks.detection_augment import PAD_COLOR, clip, fit, to_tensor, trainable
from acamkd_core.tasks.torch_seed import seeded
from acamkd_core.torchvision_compat import torchvision  # noqa: F401  (makes the next import work everywhere)

# isort: split
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat
from torchvision.tv_tensors import Image as ImageTensor


def augment_ssd(
    sample: Sample, spec: AugmentSpec, rng: np.random.Generator
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """(image 3HW uint8, resized but not padded; (boxes N4, labels N), or None when unlabelled). One draw from `rng`."""
    seed = int(rng.integers(2**62))
    height, width = int(sample.image.shape[0]), int(sample.image.shape[1])
    boxes, labels = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
    if sample.target is not None:
        boxes, labels = trainable(sample.target, (1.0, 1.0), (height, width))
    image = ImageTensor(to_tensor(sample.image))
    found = BoundingBoxes(boxes, format=BoundingBoxFormat.XYXY, canvas_size=(height, width))
    with seeded(seed):
        image, found = v2.RandomPhotometricDistort()(image, found)
        image, found = v2.RandomZoomOut(fill=list(PAD_COLOR))(image, found)
        if len(boxes):  # the window is drawn by its overlap with objects
            image, found = v2.RandomIoUCrop()(image, found)
        image, found = v2.RandomHorizontalFlip(spec.flip)(image, found)
    pixels = np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()))
    resized, scale = fit(pixels, spec)
    # Objects outside the window became empty boxes, which `clip` leaves out.
    moved = found.as_subclass(Tensor).float() * torch.tensor([*scale, *scale])
    kept = clip(moved, labels, (resized.shape[0], resized.shape[1]), visible=0.0)
    return to_tensor(resized), None if sample.target is None else kept
