"""ONNX files for tests: a trained network as we export it, and the same as others would write it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from pydantic import TypeAdapter
from torch.nn import functional as F

from acamkd_core.datasets.base import ClassInfo
from acamkd_core.exports.base import ExportClass, ExportSource
from acamkd_core.exports.onnx import EXPORTER
from acamkd_core.models.base import TaskModel
from acamkd_core.models.registry import build_model
from acamkd_core.models.weights import load_weights
from acamkd_core.spec.archs import Arch
from acamkd_core.spec.exports import OnnxExport
from acamkd_core.spec.models import Preprocess
from acamkd_core.spec.native import read_native_header
from acamkd_core.tasks.classification import ClassificationTask
from acamkd_core.tasks.detection import DetectionTask


def native_network(weights: Path) -> TaskModel:
    """The network of a file of ours, in evaluation mode."""
    header = read_native_header(weights)
    assert header is not None
    model = build_model(header.arch, num_classes=header.num_classes, preprocess=header.preprocess)
    load_weights(model, weights, strict=True)
    return model.eval()


def export(weights: Path, path: Path, size: tuple[int, int]) -> Path:
    """A segmenter of ours as `model.onnx`, as a job would export it."""
    header = read_native_header(weights)
    assert header is not None
    source = ExportSource(
        model=native_network(weights), arch=header.arch.model_dump(mode="json"), preprocess=header.preprocess,
        classes=[ExportClass(name, (i, i, i)) for i, name in enumerate(header.class_names)], size=size,
        scores=lambda model, out, wanted: F.interpolate(out.raw, size=wanted, mode="bilinear"), weights_digest="0" * 64,
    )  # fmt: skip
    return EXPORTER.write(source, OnnxExport(format="onnx"), path).path


def edited(source: Path, path: Path, change: Callable[[onnx.ModelProto], Any]) -> Path:
    """A copy of a file with something in its graph changed."""
    model = onnx.load(source)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def foreign(model: onnx.ModelProto) -> None:
    """Takes our metadata off: the file of a stranger."""
    del model.metadata_props[:]


def export_detector(arch: dict[str, Any], classes: list[ClassInfo], path: Path, size: tuple[int, int]) -> Path:
    """A detector with random weights as `model.onnx`."""
    torch.manual_seed(0)
    parsed: Any = TypeAdapter(Arch).validate_python(arch)
    model = build_model(parsed, num_classes=len(classes)).eval()
    task = DetectionTask(classes)
    source = ExportSource(
        model=model, arch=arch, preprocess=Preprocess(), classes=[ExportClass(one.name, one.color) for one in classes],
        size=size, scores=task.scores, outputs=task.outputs, selection=task.selection(model, size), task="detection",
        weights_digest="0" * 64,
    )  # fmt: skip
    return EXPORTER.write(source, OnnxExport(format="onnx"), path).path


def export_classifier(weights: Path, path: Path, size: tuple[int, int]) -> Path:
    """A classifier of ours as `model.onnx`."""
    header = read_native_header(weights)
    assert header is not None
    task = ClassificationTask([ClassInfo(i, name, (i, i, i)) for i, name in enumerate(header.class_names)])
    source = ExportSource(
        model=native_network(weights), arch=header.arch.model_dump(mode="json"), preprocess=header.preprocess,
        classes=[ExportClass(one.name, one.color) for one in task.classes], size=size, scores=task.scores,
        outputs=task.outputs, task="classification", weights_digest="0" * 64,
    )  # fmt: skip
    return EXPORTER.write(source, OnnxExport(format="onnx"), path).path
