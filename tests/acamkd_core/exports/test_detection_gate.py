"""A detector's exported file: what it carries, how it is read without torch, and that the gate sees every lie."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from acamkd_core.datasets.box_dataset import BoxDataset
from acamkd_core.datasets.registry import open_dataset
from acamkd_core.exports import predict
from acamkd_core.exports.base import ExportClass, ExportSource
from acamkd_core.exports.onnx import EXPORTER
from acamkd_core.exports.verify import GateReport, verify
from acamkd_core.exports.verify_detection import BoxTruth, DetectionFile
from acamkd_core.models.base import Detector
from acamkd_core.models.onnx_runtime import OnnxRuntime
from acamkd_core.models.registry import build_model
from acamkd_core.onnx_file import read_onnx
from acamkd_core.onnx_plan import plan_onnx
from acamkd_core.spec.archs import Arch, FasterRCNNArch, RepPointsArch, RetinaNetArch
from acamkd_core.spec.augment import AugmentSpec, ResizeSpec
from acamkd_core.spec.datasets import CocoDataset
from acamkd_core.spec.exports import Gate, OnnxExport
from acamkd_core.spec.models import Preprocess, TeacherSpec
from acamkd_core.tasks.detection import DetectionTask
from tests.acamkd_core.datasets.coco_factory import annotations, paint, store, write_coco
from tests.acamkd_core.exports.edit import edited

SIZE = (64, 96)  # stored images are 40 x 60: the gate has to resize, and to scale boxes back
ARCH = RetinaNetArch(
    family="retinanet", backbone="mobilenet_v2", width=0.35, fpn_channels=16, head_depth=1, anchor_scale=2.0
)


@dataclass
class Trained:
    """A detector that learnt painted rectangles for a few steps, its export and its detections on val."""

    dataset: BoxDataset
    model: Detector
    onnx: Path
    predictions: Path
    map: float


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return learnt(ARCH, 70, tmp_path_factory.mktemp("detector"))


def learnt(arch: Arch, steps: int, folder: Path) -> Trained:
    torch.set_num_threads(1)
    dataset = open_dataset(CocoDataset(format="coco", root=str(write_coco(folder / "data", {"train": 9, "val": 6}))))
    assert isinstance(dataset, BoxDataset)
    task = DetectionTask(dataset.classes, AugmentSpec(size=SIZE))
    torch.manual_seed(0)
    model = build_model(arch, num_classes=3, preprocess=Preprocess())
    assert isinstance(model, Detector)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    images, targets = task.collate([task.prepare(dataset.load(item)) for item in dataset.items("train")])
    for _ in range(steps):
        optimizer.zero_grad()
        torch.stack(list(task.loss(model, model(images), targets).values())).sum().backward()
        optimizer.step()
    return exported(dataset, model.eval(), task, SIZE, None, folder)


def exported(
    dataset: BoxDataset,
    model: Detector,
    task: DetectionTask,
    size: tuple[int, int],
    aspect: dict[str, int] | None,
    folder: Path,
) -> Trained:
    metric, stored = task.metric(), DetectionFile(folder / "predictions.json")
    for item in dataset.items("val"):
        batch, wanted = task.collate([task.prepare(dataset.load(item))])
        with torch.no_grad():
            found = task.decode(model, model(batch), (batch.shape[2], batch.shape[3]), wanted)
        metric.update(found, wanted)
        stored.add(found)
    source = ExportSource(
        model=model, arch={}, chosen_inside=model.chosen_inside > 0, preprocess=Preprocess(),
        classes=[ExportClass(c.name, c.color) for c in dataset.classes], size=size, scores=task.scores, outputs=task.outputs,
        selection=task.selection(model, size), weights_digest="0" * 64, task="detection", aspect=aspect,
    )  # fmt: skip
    EXPORTER.write(source, OnnxExport(format="onnx"), folder / "model.onnx")
    return Trained(dataset, model, folder / "model.onnx", stored.close(), metric.compute()[0]["map"])


@pytest.fixture(scope="module")
def any_size(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return kept_aspect(trained.model, tmp_path_factory.mktemp("any_size"))


def kept_aspect(model: Detector, folder: Path) -> Trained:
    """A network where images keep their aspect ratio, on landscape and portrait images."""
    val = annotations(4)
    upright = annotations(3, (66, 60), first=4)
    for one in upright["annotations"]:
        one["id"] += len(val["annotations"])
    val = {
        **val,
        "images": val["images"] + upright["images"],
        "annotations": val["annotations"] + upright["annotations"],
    }
    root = write_coco(folder / "data", {"train": 4})
    paint(root, "val", val)
    store(root, "val", val)
    dataset = open_dataset(CocoDataset(format="coco", root=str(root)))
    assert isinstance(dataset, BoxDataset)
    augment = AugmentSpec(resize=ResizeSpec(short=64, max=90), pad_to=16)
    return exported(dataset, model, DetectionTask(dataset.classes, augment), (64, 96), augment.aspect(), folder)


def gate(trained: Trained, model: Path, folder: Path, **changes: Any) -> GateReport:
    arguments: dict[str, Any] = {
        "items": trained.dataset.items("val"), "predictions": trained.predictions,
        "classes": [c.name for c in trained.dataset.classes], "truth": BoxTruth(trained.dataset.boxes), "gate": Gate(),
        "folder": folder, "claimed": trained.map, "threads": 1,
    }  # fmt: skip
    report = verify(model, **(arguments | changes))
    assert report is not None
    return report


def test_a_good_file_passes_without_torch(trained: Trained, tmp_path: Path) -> None:
    report = gate(trained, trained.onnx, tmp_path)
    assert report.failures == []
    assert report.passed
    assert report.images == 6
    assert report.score == pytest.approx(trained.map, abs=0.1)
    assert trained.map > 10, "the network finds nothing: the test would prove nothing"
    assert report.agreement is not None
    assert report.agreement >= 99.9
    assert report.as_dict()["map"] == report.score
    assert json.loads((tmp_path / "gate_report.json").read_text())["torch_loaded"] is False


def unpadded(data: dict[str, Any]) -> None:
    data["input"]["aspect"]["pad_to"] = 1


def shorter(data: dict[str, Any]) -> None:
    data["input"]["aspect"]["short"] = 56


def test_images_keep_their_aspect_ratio_in_the_file_too(any_size: Trained, tmp_path: Path) -> None:
    """Free height and width: landscape and portrait files are resized, padded and scored without torch."""
    assert len(any_size.dataset.items("val")) == 7
    report = gate(any_size, any_size.onnx, tmp_path)
    assert report.failures == []
    assert report.images == 7
    assert report.score == pytest.approx(any_size.map, abs=0.1)
    assert any_size.map > 10
    for change in (unpadded, shorter):
        lying = gate(any_size, edited(any_size.onnx, tmp_path, change), tmp_path)
        assert any("detections (by score) agree" in sentence for sentence in lying.failures)


@pytest.mark.long
def test_a_graph_that_chooses_its_proposals_passes(tmp_path: Path) -> None:
    """Faster R-CNN: suppression and region pooling (either) are in the graph, and each class has its own box.

    Where images keep their aspect ratio the graph is told what of its input is padding.
    """
    arch = FasterRCNNArch(
        family="faster_rcnn", backbone="mobilenet_v2", width=0.35, fpn_channels=16, head_channels=32, anchor_scale=4.0
    )
    for folder in ("one", "aligned", "any", "one_gate", "aligned_gate", "any_gate"):
        (tmp_path / folder).mkdir()
    found = learnt(arch, 60, tmp_path / "one")
    model = build_model(arch.model_copy(update={"roi_aligned": True, "roi_sampling_ratio": 0}), num_classes=3)
    assert isinstance(model, Detector)
    model.load_state_dict(found.model.state_dict())
    task = DetectionTask(found.dataset.classes, AugmentSpec(size=SIZE))
    other = exported(found.dataset, model.eval(), task, SIZE, None, tmp_path / "aligned")
    free = kept_aspect(found.model, tmp_path / "any")
    for one, name in ((found, "one_gate"), (other, "aligned_gate"), (free, "any_gate")):
        report = gate(one, one.onnx, tmp_path / name)
        assert report.failures == []
        assert report.score == pytest.approx(one.map, abs=0.1)
        assert one.map > 10
    proposals_end_where_the_image_does(free)
    it_teaches_too(free)
    assert not gate(found, edited(found.onnx, tmp_path, lax), tmp_path).passed
    assert not gate(found, other.onnx, tmp_path).passed, "the two poolings are not the same"


def proposals_end_where_the_image_does(free: Trained) -> None:
    session = onnxruntime.InferenceSession(str(free.onnx), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).normal(size=(1, 3, 128, 160)).astype(np.float32)
    for size in ((128, 160), (100, 131)):
        scores, boxes = session.run(None, {"image": image, "size": np.array([size], dtype=np.float32)})
        assert scores.shape[1] == boxes.shape[1] == free.model.chosen_inside
        assert boxes[..., 2].max() == size[1]
        assert boxes[..., 3].max() == size[0]


def it_teaches_too(free: Trained) -> None:
    """The second input is fed by the reader of teachers; levels are the network's."""
    file = read_onnx(free.onnx)
    assert file.inside == "size"
    plan = plan_onnx(file, TeacherSpec.model_validate({"weights": {"file": "model.onnx"}}), task="detection")
    runtime = OnnxRuntime(free.onnx, plan, torch.device("cpu"))
    images = torch.rand(2, 3, 64, 96)
    tensor = next(tensor for tensor, level in plan.features.items() if level == "p4")
    with torch.no_grad():
        wanted = free.model(images).features["p4"]
    found = runtime(free.model.normalise(images), [tensor, "boxes"])
    torch.testing.assert_close(found[tensor], wanted, rtol=1e-3, atol=1e-4)
    assert found["boxes"].shape[:2] == (2, free.model.chosen_inside)


@pytest.mark.long
def test_deformable_convolutions_pass_at_one_size_and_at_any(tmp_path: Path) -> None:
    """RepPoints: what is read at places that depend on the image, in graphs of fixed and of free height and width."""
    arch = RepPointsArch(family="reppoints", backbone="mobilenet_v2", width=0.35, fpn_channels=64, head_depth=1)
    for folder in ("one", "any", "one_gate", "any_gate"):
        (tmp_path / folder).mkdir()
    one = learnt(arch, 70, tmp_path / "one")
    augment = AugmentSpec(resize=ResizeSpec(short=64, max=90), pad_to=16)
    task = DetectionTask(one.dataset.classes, augment)
    free = exported(one.dataset, one.model, task, (64, 96), augment.aspect(), tmp_path / "any")
    for found, name in ((one, "one_gate"), (free, "any_gate")):
        report = gate(found, found.onnx, tmp_path / name)
        assert report.failures == []
        assert report.score == pytest.approx(found.map, abs=0.1)
        assert found.map > 10


def permuted(data: dict[str, Any]) -> None:
    data["classes"] = data["classes"][1:] + data["classes"][:1]


def as_bgr(data: dict[str, Any]) -> None:
    data["input"]["channel_order"] = "bgr"


def lax(data: dict[str, Any]) -> None:
    data["selection"]["iou"] = 0.99


def strict(data: dict[str, Any]) -> None:
    data["selection"]["threshold"] = 0.6


@pytest.mark.parametrize("change", [permuted, as_bgr, lax, strict])
def test_a_lying_file_fails(trained: Trained, tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    report = gate(trained, edited(trained.onnx, tmp_path, change), tmp_path)
    assert not report.passed
    assert any("detections (by score) agree" in sentence for sentence in report.failures)


def test_a_file_that_says_impossible_things_is_a_sentence(trained: Trained, tmp_path: Path) -> None:
    def fewer(data: dict[str, Any]) -> None:
        data["selection"]["levels"] = data["selection"]["levels"][:-1]

    def renamed(data: dict[str, Any]) -> None:
        data["classes"][0]["name"] = "lorry"

    (few,) = gate(trained, edited(trained.onnx, tmp_path, fewer), tmp_path).failures
    assert "candidates" in few
    (other,) = gate(trained, edited(trained.onnx, tmp_path, renamed), tmp_path).failures
    assert "lorry" in other


def test_a_false_claim_fails(trained: Trained, tmp_path: Path) -> None:
    report = gate(trained, trained.onnx, tmp_path, claimed=trained.map + 1)
    assert any("The run reported" in sentence for sentence in report.failures)


def test_the_shipped_reader_finds_what_torch_finds(trained: Trained, tmp_path: Path) -> None:
    """`predict.py` as a script, in a process of its own, on one image file."""
    item = trained.dataset.items("val")[0]
    table, picture = tmp_path / "boxes.json", tmp_path / "overlay.png"
    script = [sys.executable, predict.__file__, str(item.image), "--model", str(trained.onnx), "-o", str(picture)]
    done = subprocess.run(
        [*script, "--json", str(table), "--threshold", "0"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(table.read_text())
    first = json.loads(trained.predictions.read_text())[0]
    assert abs(len(rows) - len(first)) <= 2, "only what sits on the threshold may differ"
    rows, expected = rows[:3], first[:3]  # the surest
    assert len(rows) > 1
    names = [c.name for c in trained.dataset.classes]
    for row, (x1, y1, x2, y2, score, label) in zip(rows, expected, strict=True):
        assert row["class"] == names[int(label)]
        assert row["score"] == pytest.approx(score, abs=1e-3)
        assert row["box"] == pytest.approx([x1 * 60 / 96, y1 * 40 / 64, x2 * 60 / 96, y2 * 40 / 64], abs=0.02)
    assert np.asarray(Image.open(picture)).shape == (40, 60, 3)
    assert rows[0]["class"] in done.stdout


def test_a_detector_is_not_taken_for_a_segmenter(trained: Trained) -> None:
    with pytest.raises(predict.ModelFileError, match="made for detection"):
        predict.Segmenter(trained.onnx)
    assert isinstance(predict.load(trained.onnx), predict.Detector)
