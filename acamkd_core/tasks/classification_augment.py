"""Random changes of classification samples, and what evaluation does instead. All randomness comes from the given generator.

Pillow resizes in both, so that anything that reads the same file with Pillow (an exported model's checker) feeds the
network exactly the same pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from acamkd_core.spec.augment import AugmentSpec
from acamkd_core.tasks.torch_seed import seeded
from acamkd_core.torchvision_compat import torchvision  # noqa: F401  (makes the next import work everywhere)

# isort: split
from torchvision.transforms.v2 import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional as F


def fit(image: np.ndarray, size: tuple[int, int] | None, short_side: int | None) -> np.ndarray:
    """The middle (height, width) of the image whose short side was resized to `short_side`; HxWx3 uint8.

    As torchvision's `Resize(short_side)` and `CenterCrop(size)` on a Pillow image, bilinear. Without a size: as it is.
    """
    if size is None:
        return image
    picture = F.resize(Image.fromarray(image), [short_side or max(size)], interpolation=InterpolationMode.BILINEAR)
    return np.asarray(F.center_crop(picture, list(size)))


def augment(image: np.ndarray, spec: AugmentSpec, rng: np.random.Generator) -> Tensor:
    """A random window resized to `size`, flip, colour jitter: 3HW uint8.

    The window is that of the ImageNet recipes (`RandomResizedCrop`, Szegedy et al. 2015): its area is uniform in `area` of the
    image's, the logarithm of its width over height in that of `ratio`.
    Always draws the same number of values, so that switching one change off leaves the others as they were.
    """
    seed = int(rng.integers(2**62))
    draws = rng.random(4)
    picture = Image.fromarray(image)
    if spec.size is not None:
        window = RandomResizedCrop(spec.size, scale=spec.area, ratio=spec.ratio)
        with seeded(seed):
            box = window.make_params([picture])
        picture = F.resized_crop(
            picture, box["top"], box["left"], box["height"], box["width"], size=list(spec.size),
            interpolation=InterpolationMode.BILINEAR,
        )  # fmt: skip
    pixels = to_tensor(np.asarray(picture))
    if draws[0] < spec.flip:
        pixels = F.horizontal_flip(pixels)
    if spec.colour > 0:
        factors = [float(1 + spec.colour * (2 * draw - 1)) for draw in draws[1:]]
        pixels = F.adjust_brightness(pixels, max(0.0, factors[0]))
        pixels = F.adjust_contrast(pixels, max(0.0, factors[1]))
        pixels = F.adjust_saturation(pixels, max(0.0, factors[2]))
    return pixels


def to_tensor(image: np.ndarray) -> Tensor:
    """3HW uint8 in memory of its own."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
