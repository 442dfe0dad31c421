"""A small trained-looking world: pictures of coloured patches, masks, and a network that tells the colours apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from acamkd_core.datasets.base import ClassInfo, Item
from acamkd_core.exports.base import ExportClass, ExportSource
from acamkd_core.exports.onnx import EXPORTER
from acamkd_core.exports.verify import MaskValues, PredictionFile
from acamkd_core.models.base import Level, ModelOutput, Normalise, TaskModel
from acamkd_core.spec.exports import OnnxExport
from acamkd_core.spec.models import Preprocess

SIZE = (24, 40)
# Colours no two of which are mirrored in red and blue, so that a BGR reading is a different picture.
COLORS = {"sky": (70, 130, 200), "road": (128, 64, 90), "tree": (40, 140, 30), "car": (220, 30, 60)}
CLASSES = [ClassInfo(index, name, color) for index, (name, color) in enumerate(COLORS.items())]
PREPROCESS = Preprocess()


class NearestColour(TaskModel):
    """Scores at stride 2: minus the squared distance of the mean colour to each class's colour, by arithmetic.

    |x - c|^2 = |x|^2 - 2 c.x + |c|^2, and |x|^2 is the same for all classes: a 1x1 convolution on RGB in [0, 1],
    rewritten for the normalised input that a real network has.
    """

    def __init__(self, preprocess: Preprocess = PREPROCESS) -> None:
        super().__init__()
        self.normalise = Normalise(preprocess)
        self.levels = {"logits": Level(len(COLORS), 2)}
        self.classifier = nn.Conv2d(3, len(COLORS), 1)
        rgb = torch.tensor(list(COLORS.values())) / 255
        std, mean = torch.tensor(preprocess.std), torch.tensor(preprocess.mean)
        with torch.no_grad():
            self.classifier.weight.copy_((20 * rgb * std)[:, :, None, None])
            self.classifier.bias.copy_(20 * (rgb @ mean) - 10 * rgb.square().sum(1))

    def forward(self, images: Tensor) -> ModelOutput:
        raw = self.classifier(F.avg_pool2d(self.normalise(images), 2))
        return ModelOutput(features={"logits": raw}, raw=raw)

    @property
    def head(self) -> nn.Module:
        return self.classifier


def upsampled(model: TaskModel, out: ModelOutput, size: tuple[int, int]) -> Tensor:
    """Segmentation's decoding up to the argmax."""
    return F.interpolate(out.raw, size=size, mode="bilinear", align_corners=False)


def torch_ids(model: TaskModel, path: Path, size: tuple[int, int] = SIZE) -> np.ndarray:
    """What torch predicts for an image file, by the rules of evaluation."""
    picture = Image.open(path).convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)
    images = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        return upsampled(model, model(images), size).argmax(1)[0].numpy().astype(np.uint8)


@dataclass
class World:
    """Files of one split, the network, its export and its predictions."""

    folder: Path
    model: TaskModel
    source: ExportSource
    onnx: Path
    items: list[Item]
    predictions: Path
    mask: MaskValues


def draw(folder: Path, count: int, palette: bool = True) -> list[Item]:
    """Random patches: noisy pictures twice the evaluation size, id masks with a few ignored pixels."""
    items = []
    for index in range(count):
        rng = np.random.default_rng(index)
        ids = np.kron(rng.integers(0, len(COLORS), (6, 10)), np.ones((8, 8), dtype=int)).astype(np.uint8)
        rgb = np.array(list(COLORS.values()))[ids] + rng.normal(0, 25, (*ids.shape, 3))
        image, label = folder / f"{index}.png", folder / f"{index}_mask.png"
        Image.fromarray(rgb.clip(0, 255).astype(np.uint8)).save(image)
        ids[:3, :3] = 255
        Image.fromarray(ids).save(label)
        items.append(Item(image, label))
    return items


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One export, shared: it is not changed by tests (they copy the file)."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("export")
    model = NearestColour().eval()
    classes = [ExportClass(info.name, info.color) for info in CLASSES]
    source = ExportSource(
        model=model,
        arch={"family": "nearest_colour"},
        preprocess=PREPROCESS,
        classes=classes,
        size=SIZE,
        scores=upsampled,
        weights_digest="0" * 64,
    )
    EXPORTER.write(source, OnnxExport(format="onnx"), folder / "model.onnx")
    items = draw(folder, 6)
    predictions = PredictionFile(folder / "predictions.npy", len(items), SIZE)
    for item in items:
        predictions.add(torch_ids(model, item.image)[None])
    return World(folder, model, source, folder / "model.onnx", items, predictions.close(), MaskValues.of(CLASSES))
