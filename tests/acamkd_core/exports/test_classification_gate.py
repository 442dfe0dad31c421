"""A classifier's exported file: what it carries, how it is read without torch, and that the gate sees every lie."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from acamkd_core.datasets.image_folder import ImageFolder
from acamkd_core.datasets.registry import open_dataset
from acamkd_core.exports import predict
from acamkd_core.exports.base import ExportClass, ExportSource
from acamkd_core.exports.onnx import EXPORTER
from acamkd_core.exports.verify import GateReport, verify
from acamkd_core.exports.verify_classification import ClassFile, ClassTruth
from acamkd_core.models.registry import build_model
from acamkd_core.spec.archs import MobileNetV2Arch
from acamkd_core.spec.augment import AugmentSpec
from acamkd_core.spec.datasets import ImageFolderDataset
from acamkd_core.spec.exports import Gate, OnnxExport
from acamkd_core.spec.models import Preprocess
from acamkd_core.tasks.classification import ClassificationTask
from acamkd_core.torchvision_compat import torchvision  # noqa: F401  (makes the next import work everywhere)
from tests.acamkd_core.datasets.shapes_factory import write_shapes

# isort: split
from torchvision.transforms import v2

from tests.acamkd_core.exports.edit import edited

SIZE, SHORT = (48, 56), 60  # stored images are 70 x 90: the gate has to resize, and to cut
ARCH = MobileNetV2Arch(family="mobilenet_v2", width=0.35)


@dataclass
class Trained:
    """A classifier that learnt coloured patches for a few steps, its export and its classes on val."""

    dataset: ImageFolder
    model: torch.nn.Module
    onnx: Path
    predictions: Path
    top1: float


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("classifier")
    root = write_shapes(folder / "data", {"train": 6, "val": 4}, size=(70, 90))
    dataset = open_dataset(ImageFolderDataset(format="image_folder", root=str(root)))
    assert isinstance(dataset, ImageFolder)
    task = ClassificationTask(dataset.classes, AugmentSpec(size=SIZE, short_side=SHORT))
    torch.manual_seed(0)
    model = build_model(ARCH, num_classes=3, preprocess=Preprocess())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    # Val too: what it makes of new images is luck after so few steps, and not what the gate is about.
    items = [*dataset.items("train"), *dataset.items("val")]
    images, targets = task.collate([task.prepare(dataset.load(item)) for item in items])
    for _ in range(40):
        optimizer.zero_grad()
        task.loss(model, model(images), targets)["task"].backward()
        optimizer.step()
    with torch.no_grad():  # statistics of so few steps would be no use in evaluation
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
                module.reset_running_stats()
        model(images)
    model.eval()
    metric, stored = task.metric(), ClassFile(folder / "predictions.npy")
    for item in dataset.items("val"):
        batch, wanted = task.collate([task.prepare(dataset.load(item))])
        with torch.no_grad():
            found = task.decode(model, model(batch), SIZE)
        metric.update(found, wanted)
        stored.add(found)
    source = ExportSource(
        model=model, arch=ARCH.model_dump(mode="json"), preprocess=Preprocess(),
        classes=[ExportClass(c.name, c.color) for c in dataset.classes], size=SIZE, short_side=SHORT, scores=task.scores,
        outputs=task.outputs, weights_digest="0" * 64, task="classification",
    )  # fmt: skip
    EXPORTER.write(source, OnnxExport(format="onnx"), folder / "model.onnx")
    return Trained(dataset, model, folder / "model.onnx", stored.close(), metric.compute()[0]["top1"])


def gate(trained: Trained, model: Path, folder: Path, **changes: Any) -> GateReport:
    arguments: dict[str, Any] = {
        "items": trained.dataset.items("val"), "predictions": trained.predictions,
        "classes": [c.name for c in trained.dataset.classes], "truth": ClassTruth(trained.dataset.position),
        "gate": Gate(), "folder": folder, "claimed": trained.top1, "threads": 1,
    }  # fmt: skip
    report = verify(model, **(arguments | changes))
    assert report is not None
    return report


def test_a_good_file_passes_without_torch(trained: Trained, tmp_path: Path) -> None:
    report = gate(trained, trained.onnx, tmp_path)
    assert report.failures == []
    assert report.passed
    assert report.images == 12
    assert report.score == report.checkpoint_score == pytest.approx(trained.top1)
    assert trained.top1 > 60, "the network knows no better than chance: the test would prove nothing"
    assert report.agreement == 100
    assert report.as_dict()["top1"] == report.score
    assert json.loads((tmp_path / "gate_report.json").read_text())["torch_loaded"] is False


def permuted(data: dict[str, Any]) -> None:
    data["classes"] = data["classes"][1:] + data["classes"][:1]


def as_bgr(data: dict[str, Any]) -> None:
    data["input"]["channel_order"] = "bgr"


def bright(data: dict[str, Any]) -> None:
    data["input"]["mean"] = [-3.0, -3.0, 4.0]


@pytest.mark.parametrize("change", [permuted, as_bgr, bright])
def test_a_lying_file_fails(trained: Trained, tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    report = gate(trained, edited(trained.onnx, tmp_path, change), tmp_path)
    assert not report.passed
    assert any("the images' classes agree" in sentence for sentence in report.failures)


def test_a_file_that_says_impossible_things_is_a_sentence(trained: Trained, tmp_path: Path) -> None:
    def short(data: dict[str, Any]) -> None:
        data["input"]["short_side"] = 50

    def fewer(data: dict[str, Any]) -> None:
        data["classes"] = data["classes"][:-1]

    def renamed(data: dict[str, Any]) -> None:
        data["classes"][0]["name"] = "pear"

    for change, words in ((short, "short side is 50"), (fewer, "names 2 classes"), (renamed, "pear")):
        (sentence,) = gate(trained, edited(trained.onnx, tmp_path, change), tmp_path).failures
        assert words in sentence


def test_a_false_claim_and_a_broken_image_fail(trained: Trained, tmp_path: Path) -> None:
    report = gate(trained, trained.onnx, tmp_path, claimed=trained.top1 + 1)
    assert any("The run reported" in sentence for sentence in report.failures)


@pytest.mark.parametrize("shape", [(70, 90), (90, 70), (48, 200), (60, 61), (61, 60), (333, 77), (20, 31)])
def test_the_reader_prepares_images_as_evaluation_does(trained: Trained, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(3).integers(0, 256, (*shape, 3), dtype=np.uint8)
    recipe = v2.Compose(
        [
            v2.Resize(SHORT), v2.CenterCrop(SIZE), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )  # fmt: skip
    wanted = recipe(Image.fromarray(image)).numpy()
    np.testing.assert_allclose(predict.Classifier(trained.onnx).preprocess(image)[0], wanted, atol=1e-5)


def test_the_shipped_reader_names_what_torch_names(trained: Trained, tmp_path: Path) -> None:
    """`predict.py` as a script, in a process of its own, on one image file."""
    item = trained.dataset.items("val")[0]
    table, picture = tmp_path / "classes.json", tmp_path / "named.png"
    script = [sys.executable, predict.__file__, str(item.image), "--model", str(trained.onnx)]
    done = subprocess.run(
        [*script, "--json", str(table), "-o", str(picture), "--top", "2"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    task = ClassificationTask(trained.dataset.classes, AugmentSpec(size=SIZE, short_side=SHORT))
    images, _ = task.collate([task.prepare(trained.dataset.load(item))])
    with torch.no_grad():
        shares, order = trained.model(images).raw[0].softmax(0).sort(descending=True)
    rows = json.loads(table.read_text())
    assert [row["class"] for row in rows] == [trained.dataset.classes[index].name for index in order[:2]]
    assert [row["probability"] for row in rows] == pytest.approx(shares[:2].tolist(), abs=1e-4)
    assert done.stdout.splitlines()[0].startswith(rows[0]["class"])
    assert Image.open(picture).size == (90, 70)
    plain = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert len(plain.stdout.splitlines()) == 3, "no picture was asked for, none is written"


def test_a_classifier_is_not_taken_for_anything_else(trained: Trained, tmp_path: Path) -> None:
    for other in (predict.Segmenter, predict.Detector):
        with pytest.raises(predict.ModelFileError, match="made for classification"):
            other(trained.onnx)
    assert isinstance(predict.load(trained.onnx), predict.Classifier)

    def unknown(data: dict[str, Any]) -> None:
        data["task"] = "captioning"

    with pytest.raises(predict.ModelFileError, match="made for captioning, which this reader does not know"):
        predict.load(edited(trained.onnx, tmp_path, unknown))
