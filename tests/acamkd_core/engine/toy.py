"""A toy classification task: proves that engine and methods know nothing of segmentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acamkd_core.engine.parts import Parts
from acamkd_core.methods.base import LevelPair
from acamkd_core.methods.registry import build_method
from acamkd_core.models.base import Level, ModelOutput
from acamkd_core.spec.methods import FeatureMSETerm, LogitTerm, MethodTerm


class ToyNet(nn.Module):
    def __init__(self, width: int, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(width, classes)
        self.levels = {"body": Level(width, 2, onward=True), "logits": Level(classes, 16)}

    def forward(self, images: Tensor) -> ModelOutput:
        body = self.body(images)
        logits = self.head(body.mean((2, 3)))
        return ModelOutput({"body": body, "logits": logits[:, :, None, None]}, logits)

    def onward(self, replaced: dict[str, Tensor]) -> list[ModelOutput]:
        return [ModelOutput({}, self.head(replaced["body"].mean((2, 3))))]


class Accuracy:
    def __init__(self) -> None:
        self.right = self.seen = 0

    def update(self, prediction: Tensor, target: Tensor) -> None:
        self.right += int((prediction.cpu() == target).sum())
        self.seen += len(target)

    def compute(self) -> tuple[dict[str, float], dict[str, float | None]]:
        return {"top1": 100 * self.right / self.seen}, {}


class ToyTask:
    name, primary_metric, class_metric, num_classes = "classification", "top1", "top1", 3

    def prepare(self, sample: Any) -> Any:
        return sample

    def collate(self, samples: list[Any]) -> tuple[Tensor, Tensor]:
        return torch.stack([s[0] for s in samples]), torch.tensor([s[1] for s in samples])

    def loss(self, model: nn.Module, out: ModelOutput, targets: Tensor) -> dict[str, Tensor]:
        return {"task": nn.functional.cross_entropy(out.raw, targets)}

    def decode(self, model: nn.Module, out: ModelOutput, size: tuple[int, int], targets: Any = None) -> Tensor:
        return out.raw.argmax(1)

    def metric(self) -> Accuracy:
        return Accuracy()

    def panels(self, sample: Any, predictions: dict[str, Any]) -> dict[str, np.ndarray]:
        return {"image": (sample[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)}


@dataclass
class ToyBatch:
    images: Tensor
    targets: Tensor


def toy_sample(index: int) -> tuple[Tensor, int]:
    """Class = the brightest channel: learnable in a few steps."""
    rng = np.random.default_rng(index)
    label = int(rng.integers(3))
    image = rng.random((3, 16, 16), dtype=np.float32) * 0.5
    image[label] += 0.4
    return torch.from_numpy(image), label


class ToyPass:
    def __len__(self) -> int:
        return 24

    def sample(self, index: int) -> tuple[Tensor, int]:
        return toy_sample(10_000 + index)

    def __iter__(self) -> Iterator[ToyBatch]:
        yield ToyBatch(*ToyTask().collate([self.sample(i) for i in range(len(self))]))


def toy_batches(start: int) -> Iterator[ToyBatch]:
    iteration = start
    while True:
        yield ToyBatch(*ToyTask().collate([toy_sample(iteration * 8 + i) for i in range(8)]))
        iteration += 1


def toy_parts(iterations: int = 24, every: int = 8, extra: MethodTerm | None = None) -> Parts:
    torch.manual_seed(0)
    student, teacher = ToyNet(4), ToyNet(8).eval().requires_grad_(False)
    torch.manual_seed(1)
    methods = [
        build_method(
            FeatureMSETerm(method="feature_mse", at=("body",)),
            [LevelPair("body", "body", student.levels["body"], teacher.levels["body"])],
            num_classes=3,
        ),
        build_method(
            LogitTerm(method="logit"),
            [LevelPair("logits", "logits", student.levels["logits"], teacher.levels["logits"])],
            num_classes=3,
        ),
    ]
    if extra is not None:
        body = LevelPair("body", "body", student.levels["body"], teacher.levels["body"])
        methods.append(build_method(extra, [body], num_classes=3))
    return Parts(
        task=ToyTask(), student=student, teacher=teacher, methods=methods, train=toy_batches, batches_per_epoch=4,
        val=ToyPass(), test=None, device=torch.device("cpu"), iterations=iterations, evaluate_every=every,
        checkpoint_every=every, global_batch=8, input_size=(8, 8), panel_images=[0],
    )  # fmt: skip
