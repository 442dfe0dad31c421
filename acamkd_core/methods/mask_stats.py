"""What a set of masks looks like in numbers, and when it has died.

Shape legend: N batch, M masks, X positions or channels. Masks lie in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from acamkd_core.methods.acam_losses import pairwise_dice
from acamkd_core.methods.base import Diagnostics

LOW, HIGH = 0.02, 0.98
"""A mask whose mean lies outside selects nothing, or everything."""

VANISHED = 0.1
"""KD terms below this share of their first KD/MSE ratio no longer teach."""


def per_mask(masks_NMX: Tensor) -> dict[str, Tensor]:
    """Mean, deviation (over X, within an image) and entropy of each mask, batch means, shape M.

    `entropy` is the mean binary entropy of the values in bits: 1 where all are 0.5, 0 where all are 0 or 1.
    """
    inside = masks_NMX.clamp(1e-12, 1 - 1e-7)
    entropy = -(inside * inside.log2() + (1 - inside) * (1 - inside).log2())
    return {
        "mean": masks_NMX.mean(dim=(0, 2)),
        "deviation": masks_NMX.std(dim=2, correction=0).mean(dim=0),
        "entropy": entropy.mean(dim=(0, 2)),
    }


def effective_rank(masks_NMX: Tensor) -> float:
    """exp of the entropy of the normalised squared singular values, not centred, mean over the batch; in [1, M].

    About 1 at initialisation (all masks are nearly the same constant), so it is reported and raises no alarm.
    """
    gram = masks_NMX.double() @ masks_NMX.double().transpose(1, 2)
    power = torch.linalg.eigvalsh(gram).clamp_min(0)
    share = power / power.sum(dim=1, keepdim=True).clamp_min(1e-300)
    entropy = -torch.special.xlogy(share, share).sum(dim=1)
    return float(entropy.exp().mean())


def set_statistics(masks_NMX: Tensor) -> dict[str, float]:
    """Scalars of one set: means over masks, extremes of the means, pairwise Dice, effective rank, share of dead masks.

    Each mask's own mean, deviation and entropy follow under `m00/mean` and so on.
    """
    each = per_mask(masks_NMX)
    stats = {name: float(values.mean()) for name, values in each.items()}
    stats["mean_min"], stats["mean_max"] = float(each["mean"].min()), float(each["mean"].max())
    pairs = pairwise_dice(masks_NMX, eps=1e-12)
    stats["dice"] = float(pairs.mean()) if pairs.numel() else 0.0
    stats["effective_rank"] = effective_rank(masks_NMX)
    stats["collapsed"] = collapsed_share(masks_NMX)
    for index in range(masks_NMX.shape[1]):
        for name, values in each.items():
            stats[f"m{index:02d}/{name}"] = float(values[index])
    return stats


def report(found: Diagnostics, level: str, kind: str, masks_NMX: Tensor) -> None:
    """Adds `mask/<level>/<kind>/<stat>` of a set, and the alarm `masks.collapsed` when more than half of it is dead."""
    stats = set_statistics(masks_NMX)
    found.scalars.update({f"mask/{level}/{kind}/{name}": value for name, value in stats.items()})
    if stats["collapsed"] > 0.5:
        sentence = (
            f"{stats['collapsed']:.0%} of the {kind} masks at {level!r} select nothing or everything "
            f"(mean outside 0.02 to 0.98)"
        )
        known = found.alarms.get("masks.collapsed")
        found.alarms["masks.collapsed"] = f"{known}; {sentence}" if known else sentence


def collapsed_share(masks_NMX: Tensor) -> float:
    """Share of masks whose mean is outside [0.02, 0.98] (or not a number), in [0, 1]."""
    mean = masks_NMX.mean(dim=(0, 2))
    alive = (mean >= LOW) & (mean <= HIGH)
    return 1.0 - float(alive.double().mean())
