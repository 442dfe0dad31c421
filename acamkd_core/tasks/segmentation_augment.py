"""Random changes of segmentation samples: scale, crop, flip, colour. All randomness comes from the given generator."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from acamkd_core.datasets.base import Sample
from acamkd_core.spec.augment import AugmentSpec
from acamkd_core.torchvision_compat import torchvision  # noqa: F401  (makes the next import work everywhere)

# isort: split
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

PAD_COLOR = (124, 116, 104)  # ImageNet's mean: close to zero after the usual normalisation


def fit(sample: Sample, size: tuple[int, int] | None) -> Sample:
    """The sample at `size` (height, width): bilinear with anti-aliasing for the image, nearest for the ids.

    Pillow does it, so that anything that reads the same file with Pillow (an exported model's checker) feeds the
    network exactly the same pixels.
    """
    if size is None or sample.image.shape[:2] == tuple(size):
        return sample
    shape = (size[1], size[0])
    image = np.asarray(Image.fromarray(sample.image).resize(shape, Image.Resampling.BILINEAR))
    target = sample.target
    if target is not None:
        target = np.asarray(Image.fromarray(target).resize(shape, Image.Resampling.NEAREST))
    return Sample(image, target, sample.extra)


def to_tensors(sample: Sample) -> tuple[Tensor, Tensor | None]:
    """(image 3HW uint8, target HW uint8 or None), in memory of their own."""
    image = torch.from_numpy(np.array(sample.image)).permute(2, 0, 1).contiguous()
    return image, None if sample.target is None else torch.from_numpy(np.array(sample.target))


def augment(
    sample: Sample, spec: AugmentSpec, ignore_id: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor | None]:
    """Resize, random scale, crop (padded where too small), flip, colour jitter.

    Always draws the same number of values, so that switching one change off leaves the others as they were.

    Returns:
        (image 3HW uint8, target HW uint8 or None) of size `crop`, else of the resized sample's own size.
    """
    sample = fit(sample, spec.size)
    image, target = to_tensors(sample)
    draws = rng.random(7)
    crop = spec.crop or (image.shape[1], image.shape[2])
    low, high = spec.scale
    scale = low + (high - low) * float(draws[0])
    size = [max(1, round(image.shape[1] * scale)), max(1, round(image.shape[2] * scale))]
    if size != list(image.shape[1:]):
        image = F.resize(image, size, interpolation=InterpolationMode.BILINEAR, antialias=True)
        if target is not None:
            target = F.resize(target[None], size, interpolation=InterpolationMode.NEAREST)[0]
    image, target = _crop(image, target, crop, (float(draws[1]), float(draws[2])), ignore_id)
    if draws[3] < spec.flip:
        image = F.horizontal_flip(image)
        target = F.horizontal_flip(target) if target is not None else None
    if spec.colour > 0:
        factors = [float(1 + spec.colour * (2 * draw - 1)) for draw in draws[4:7]]
        image = F.adjust_brightness(image, max(0.0, factors[0]))
        image = F.adjust_contrast(image, max(0.0, factors[1]))
        image = F.adjust_saturation(image, max(0.0, factors[2]))
    return image, target


def _crop(
    image: Tensor, target: Tensor | None, crop: tuple[int, int], at: tuple[float, float], ignore_id: int
) -> tuple[Tensor, Tensor | None]:
    """A window of `crop`; where the image is smaller it lies at a random place on the padding colour."""
    height, width = int(image.shape[1]), int(image.shape[2])
    padded = torch.tensor(PAD_COLOR, dtype=torch.uint8).view(3, 1, 1).repeat(1, *crop)
    ids = None if target is None else torch.full(crop, ignore_id, dtype=torch.uint8)
    # The slack may be negative (image smaller): then it is the room for the image inside the window.
    source, goal = [], []
    for have, want, share in zip((height, width), crop, at, strict=True):
        offset = int(np.floor(share * (abs(have - want) + 1)))
        span = min(have, want)
        source.append(slice(offset, offset + span) if have > want else slice(0, span))
        goal.append(slice(0, span) if have > want else slice(offset, offset + span))
    padded[:, goal[0], goal[1]] = image[:, source[0], source[1]]
    if ids is not None and target is not None:
        ids[goal[0], goal[1]] = target[source[0], source[1]]
    return padded, ids
