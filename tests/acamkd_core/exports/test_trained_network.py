"""A trained network on generated scenes, through export, gate and back: the numbers of the run are the file's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from acamkd_core.datasets.mask_folder import MaskFolder
from acamkd_core.datasets.registry import open_dataset
from acamkd_core.exports.base import ExportClass, ExportSource
from acamkd_core.exports.onnx import OnnxExporter
from acamkd_core.exports.verify import GateReport, MaskValues, PredictionFile, verify
from acamkd_core.models.registry import build_model
from acamkd_core.spec.archs import MobileDeepLabV3Arch
from acamkd_core.spec.augment import AugmentSpec
from acamkd_core.spec.datasets import ScenesDataset
from acamkd_core.spec.exports import Gate, OnnxExport
from acamkd_core.spec.models import Preprocess
from acamkd_core.tasks.segmentation import SegmentationTask
from tests.acamkd_core.exports.edit import edited
from tests.acamkd_core.exports.test_gate import permute_classes, read_as_bgr, swap_mean_and_deviation

SIZE = (48, 80)  # the scenes are larger, so that resizing is part of what must agree


@dataclass
class Trained:
    dataset: MaskFolder
    model: Path
    predictions: Path
    miou: float
    constant: float  # mIoU of the best constant prediction


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Sixty steps: far from good, but it looks at what it sees."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("trained")
    spec = ScenesDataset(format="scenes", train_images=16, val_images=6, test_images=1, size=(64, 96))
    dataset = open_dataset(spec, cache=folder)
    task = SegmentationTask(dataset.classes, dataset.ignore_id, AugmentSpec(size=SIZE))
    arch = MobileDeepLabV3Arch(family="mobile_deeplabv3", width=0.35, output_stride=8)
    model = build_model(arch, num_classes=len(dataset.classes))
    images, targets = task.collate([task.prepare(dataset.load(item)) for item in dataset.items("train")])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.train()
    for step in range(60):
        rows = slice(step % 2 * 8, step % 2 * 8 + 8)
        optimizer.zero_grad()
        task.loss(model, model(images[rows]), targets[rows])["task"].backward()
        optimizer.step()
    model.eval()
    metric, items = task.metric(), dataset.items("val")
    stack = PredictionFile(folder / "predictions.npy", len(items), SIZE)
    with torch.no_grad():
        batch, truth = task.collate([task.prepare(dataset.load(item)) for item in items])
        found = task.decode(model, model(batch), SIZE)
    metric.update(found, truth)
    stack.add(found)
    classes = [ExportClass(info.name, info.color) for info in dataset.classes]
    source = ExportSource(
        model, arch.model_dump(mode="json"), Preprocess(), classes, SIZE, scores=task.scores, weights_digest="0" * 64
    )
    path = OnnxExporter().write(source, OnnxExport(format="onnx"), folder / "model.onnx").path
    return Trained(dataset, path, stack.close(), metric.compute()[0]["miou"], task.constant_score(truth))


def run_gate(trained: Trained, model: Path, folder: Path) -> GateReport:
    report = verify(
        model,
        items=trained.dataset.items("val"),
        predictions=trained.predictions,
        classes=[info.name for info in trained.dataset.classes],
        truth=MaskValues.of(trained.dataset.classes),
        gate=Gate(),
        folder=folder,
        claimed=trained.miou,
        threads=1,
    )
    assert report is not None
    return report


def test_the_file_scores_what_the_run_reported(trained: Trained, tmp_path: Path) -> None:
    report = run_gate(trained, trained.model, tmp_path)
    assert report.failures == []
    assert report.passed
    # Two programs, two implementations of mIoU, one number.
    assert report.checkpoint_score == pytest.approx(trained.miou, abs=1e-6)
    assert trained.miou > 1.5 * trained.constant, "the network looks at nothing: the test would prove nothing"


@pytest.mark.parametrize("change", [swap_mean_and_deviation, read_as_bgr, permute_classes])
def test_a_lying_file_fails(trained: Trained, tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    report = run_gate(trained, edited(trained.model, tmp_path, change), tmp_path)
    assert not report.passed
    assert report.agreement is not None
    assert report.agreement < 99
