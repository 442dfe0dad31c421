"""Programs (`.pt2`) for tests: networks as torch.export saves them, and such archives with something else inside."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Segmenter(nn.Module):
    """As a stranger would write one: a tuple of a map (stride 4) and 11 class scores (stride 4)."""

    def __init__(self, classes: int = 11) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, classes, 1)

    def forward(self, images: Tensor) -> Any:
        stem = self.stem(images)
        return stem, self.head(stem)


class FirstImage(Segmenter):
    """The first image of every batch, whatever the program declares."""

    def forward(self, images: Tensor) -> Any:
        return super().forward(images[:1])


class Ids(Segmenter):
    """Ends in the ids of the classes instead of their scores."""

    def forward(self, images: Tensor) -> Any:
        return super().forward(images)[1].argmax(1)


class TwoInputs(Segmenter):
    """Wants something beside the images."""

    def forward(self, images: Tensor, scale: Tensor) -> Any:
        return super().forward(images * scale)


class NotFinite(Segmenter):
    """Has learnt nothing but infinity."""

    def forward(self, images: Tensor) -> Any:
        stem, scores = super().forward(images)
        return stem, scores / torch.zeros_like(scores)


def save(
    path: Path, network: nn.Module | None = None, size: tuple[int, int] = (48, 64), *, batch: bool = True,
    sides: bool = False, more: tuple[Tensor, ...] = (),
) -> Path:  # fmt: skip
    """Exports a network in evaluation mode. `batch`, `sides`: whether those sizes are dynamic."""
    dynamic = {axis: torch.export.Dim.DYNAMIC for axis in ((0,) if batch else ()) + ((2, 3) if sides else ())}
    shapes = (dynamic or None, *(None for _ in more))
    program = torch.export.export(
        (network or Segmenter()).eval(), (torch.rand(2, 3, *size), *more), dynamic_shapes=shapes
    )
    torch.export.save(program, path)
    return path


def rewritten(source: Path, path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """A copy of an archive with its members changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return path


def of_the_future(name: str, content: bytes) -> bytes:
    """As a later torch would write it."""
    if not name.endswith("/models/model.json"):
        return content
    data = json.loads(content) | {"schema_version": {"major": 99, "minor": 0}, "torch_version": "9.0.0"}
    return json.dumps(data).encode()


class _Touch:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def poisoned(source: Path, path: Path, marker: Path) -> Path:
    """A copy whose weights are pickles that make a file called `marker` when somebody loads them."""

    def plant(name: str, content: bytes) -> bytes:
        if name.endswith("/model_weights_config.json"):
            data = json.loads(content)
            for entry in data["config"].values():
                entry["use_pickle"] = True
            return json.dumps(data).encode()
        return pickle.dumps(_Touch(marker)) if "/data/weights/" in name else content

    return rewritten(source, path, plant)
