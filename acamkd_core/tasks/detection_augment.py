"""Random changes of detection samples: scale, crop, flip, colour. All randomness comes from the given generator."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from acamkd_core.datasets.base import Boxes, Sample
from acamkd_core.spec.augment import AugmentSpec
from acamkd_core.torchvision_compat import torchvision  # noqa: F401  (makes the next import work everywhere)

# isort: split
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

PAD_COLOR = (124, 116, 104)  # ImageNet's mean: close to zero after the usual normalisation
# A box of which less is left after a crop is no object any more: a sliver cannot be told from background.
MIN_VISIBLE = 0.25
MIN_SIDE = 1.0  # pixels


def fit(image: np.ndarray, spec: AugmentSpec) -> tuple[np.ndarray, tuple[float, float]]:
    """(image resized, not padded; scale in x and y). Pillow's bilinear, as every reader of an exported file does."""
    height, width = image.shape[:2]
    size = spec.fitted((height, width))
    if (height, width) == tuple(size):
        return image, (1.0, 1.0)
    resized = np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return resized, (size[1] / width, size[0] / height)


def to_tensor(image: np.ndarray) -> Tensor:
    """3HW uint8 in memory of its own."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def pad(image: Tensor, spec: AugmentSpec) -> Tensor:
    """3HW uint8 on the padding colour, its sides multiples of `pad_to`; unchanged without `resize`."""
    height, width = spec.padded((int(image.shape[1]), int(image.shape[2])))
    padded = torch.tensor(PAD_COLOR, dtype=torch.uint8).view(3, 1, 1).repeat(1, height, width)
    padded[:, : image.shape[1], : image.shape[2]] = image
    return padded


def trainable(truth: Boxes, scale: tuple[float, float], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(boxes N4, labels N) without crowds, scaled and cut to an image of `size`; boxes that vanish are left out."""
    boxes = torch.from_numpy(truth.boxes[~truth.crowd].astype(np.float32))
    labels = torch.from_numpy(truth.labels[~truth.crowd].astype(np.int64))
    boxes = boxes * torch.tensor([*scale, *scale], dtype=torch.float32)
    return clip(boxes, labels, size, visible=0.0)


def clip(boxes: Tensor, labels: Tensor, size: tuple[int, int], *, visible: float) -> tuple[Tensor, Tensor]:
    """Boxes cut to (height, width). Those are kept whose sides reach a pixel and of whose area `visible` is left."""
    height, width = size
    limits = torch.tensor([width, height, width, height], dtype=torch.float32)
    inside = torch.minimum(boxes.clamp(min=0), limits)
    sides = inside[:, 2:] - inside[:, :2]
    whole = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    keep = (sides >= MIN_SIDE).all(dim=1) & (sides.prod(dim=1) >= visible * whole)
    return inside[keep], labels[keep]


def augment(sample: Sample, spec: AugmentSpec, rng: np.random.Generator) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """Resize, random scale, crop (padded where too small), flip, colour jitter.

    Always draws the same number of values, so that switching one change off leaves the others as they were.

    Returns:
        (image 3HW uint8 of size `crop`, else of the resized sample's own size, not padded; (boxes N4, labels N), or
        None when unlabelled).
    """
    pixels, (scale_x, scale_y) = fit(sample.image, spec)
    image = to_tensor(pixels)
    draws = rng.random(7)
    height, width = int(image.shape[1]), int(image.shape[2])
    low, high = spec.scale
    scale = low + (high - low) * float(draws[0])
    size = [max(1, round(height * scale)), max(1, round(width * scale))]
    # Where aspect ratios are kept a batch is padded anyway: a scaled image may keep its size.
    crop = spec.crop or ((height, width) if spec.resize is None else (size[0], size[1]))
    if size != [height, width]:
        image = F.resize(image, size, interpolation=InterpolationMode.BILINEAR, antialias=True)
        scale_x, scale_y = scale_x * size[1] / width, scale_y * size[0] / height
    found = None
    if sample.target is not None:
        found = trainable(sample.target, (scale_x, scale_y), (size[0], size[1]))
    image, shift = _crop(image, crop, (float(draws[1]), float(draws[2])))
    if found is not None:
        found = clip(found[0] + torch.tensor([*shift, *shift]), found[1], crop, visible=MIN_VISIBLE)
    if draws[3] < spec.flip:
        image = F.horizontal_flip(image)
        if found is not None:
            x1, y1, x2, y2 = found[0].unbind(1)
            found = torch.stack([crop[1] - x2, y1, crop[1] - x1, y2], dim=1), found[1]
    if spec.colour > 0:
        factors = [float(1 + spec.colour * (2 * draw - 1)) for draw in draws[4:7]]
        image = F.adjust_brightness(image, max(0.0, factors[0]))
        image = F.adjust_contrast(image, max(0.0, factors[1]))
        image = F.adjust_saturation(image, max(0.0, factors[2]))
    return image, found


def _crop(image: Tensor, crop: tuple[int, int], at: tuple[float, float]) -> tuple[Tensor, tuple[float, float]]:
    """(a window of `crop`, shift of boxes in x and y); a smaller image lies at a random place on the padding colour."""
    padded = torch.tensor(PAD_COLOR, dtype=torch.uint8).view(3, 1, 1).repeat(1, *crop)
    source, goal, shift = [], [], []
    for have, want, share in zip(image.shape[1:], crop, at, strict=True):
        offset = int(np.floor(share * (abs(have - want) + 1)))
        span = min(have, want)
        source.append(slice(offset, offset + span) if have > want else slice(0, span))
        goal.append(slice(0, span) if have > want else slice(offset, offset + span))
        shift.append(float(-offset if have > want else offset))
    padded[:, goal[0], goal[1]] = image[:, source[0], source[1]]
    return padded, (shift[1], shift[0])
