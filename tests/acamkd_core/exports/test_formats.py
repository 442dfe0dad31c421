"""Exported files of the real families: reloaded and compared with torch, and free of this machine's traces."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from acamkd_core.datasets.base import ClassInfo
from acamkd_core.exports.base import ExportClass, ExportSource
from acamkd_core.exports.onnx import OnnxExporter
from acamkd_core.exports.predict import ModelFileError, Segmenter
from acamkd_core.exports.registry import exporter, formats
from acamkd_core.models.base import TaskModel
from acamkd_core.models.registry import build_model
from acamkd_core.models.weights import load_weights, weights_digest
from acamkd_core.spec.archs import DeepLabV3Arch, LRASPPArch, MobileDeepLabV3Arch, PSPNetArch
from acamkd_core.spec.exports import OnnxExport, SafetensorsExport
from acamkd_core.spec.models import Preprocess
from acamkd_core.spec.native import read_native_header
from acamkd_core.tasks.segmentation import SegmentationTask
from tests.acamkd_core.exports.conftest import World

NAMES = ["road", "sky", "tree", "car", "sign"]
CAFFE = Preprocess(order="bgr", range=255, mean=(104.0, 116.7, 122.7), std=(1, 1, 1))
ARCHS = {
    "deeplabv3": DeepLabV3Arch(family="deeplabv3", width=0.35, aspp_channels=16, align_corners=True),
    "deeplabv3-resnet18-aux": DeepLabV3Arch(
        family="deeplabv3", backbone="resnet18", output_stride=8, aspp_channels=16, aux_head=True
    ),
    "mobile_deeplabv3": MobileDeepLabV3Arch(family="mobile_deeplabv3", width=0.35),
    "pspnet": PSPNetArch(family="pspnet", backbone="mobilenet_v2", width=0.35, psp_channels=16, align_corners=True),
    "lraspp": LRASPPArch(family="lraspp"),
}


def source_of(name: str, size: tuple[int, int], preprocess: Preprocess = CAFFE) -> ExportSource:
    """An untrained network with lively batch-norm statistics, so that its scores vary from pixel to pixel."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    arch = ARCHS[name]
    model: TaskModel = build_model(arch, num_classes=len(NAMES), preprocess=preprocess)
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(4, 3, *size))
    classes = [ExportClass(name, (40 * index, 10, 200)) for index, name in enumerate(NAMES)]
    task = SegmentationTask([ClassInfo(i, c.name, c.color) for i, c in enumerate(classes)], 255)
    return ExportSource(
        model=model,
        arch=arch.model_dump(mode="json"),
        preprocess=preprocess,
        classes=classes,
        size=size,
        scores=task.scores,
        weights_digest=weights_digest(model.state_dict()),
    )


@pytest.mark.parametrize("name", list(ARCHS))
def test_onnx_equals_torch(name: str, tmp_path: Path) -> None:
    size = (45, 70)  # neither a multiple of the stride nor square
    source = source_of(name, size)
    done = OnnxExporter().write(source, OnnxExport(format="onnx"), tmp_path / "model.onnx")
    assert source.model.training, "the exporter must leave the network as it was"
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = Segmenter(done.path, threads=1).logits(image)
    source.model.eval()
    with torch.no_grad():
        # The whole path by hand: [0, 1] RGB in, the network's own normalisation, bilinear to the input size.
        raw = source.model(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255).raw
        corners = ARCHS[name].align_corners
        expected = F.interpolate(raw, size=size, mode="bilinear", align_corners=corners)[0].numpy()
    assert found.shape == (len(NAMES), *size)
    assert expected.std() > 0.01
    assert np.abs(found - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


def test_the_file_says_what_it_is_and_nothing_of_this_machine(tmp_path: Path) -> None:
    source = source_of("mobile_deeplabv3", (32, 48))
    files = [OnnxExporter().write(source, OnnxExport(format="onnx"), tmp_path / f"{n}.onnx").path for n in "ab"]
    content = files[0].read_bytes()
    assert content == files[1].read_bytes(), "two exports of the same weights differ"
    for trace in (sys.prefix, str(Path(__file__).parents[3]), "site-packages", "stack_trace"):
        assert trace.encode() not in content
    proto = onnx.load(files[0])
    assert {entry.domain: entry.version for entry in proto.opset_import}[""] == 20
    (batch, *rest) = [d.dim_param or d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    assert isinstance(batch, str)
    assert rest == [3, 32, 48]
    data = json.loads({prop.key: prop.value for prop in proto.metadata_props}["acamkd"])
    assert [entry["name"] for entry in data["classes"]] == NAMES
    assert data["opset"] == 20
    assert data["input"]["channel_order"] == "bgr"
    assert data["input"]["size"] == [32, 48]
    assert data["input"]["mean"] == [104.0, 116.7, 122.7]
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert session.run(None, {"image": np.zeros((3, 3, 32, 48), np.float32)})[0].shape == (3, 5, 32, 48)


def test_safetensors_starts_a_network_again(tmp_path: Path) -> None:
    source = source_of("deeplabv3", (32, 48))
    done = exporter("safetensors").write(source, SafetensorsExport(format="safetensors"), tmp_path / "m.safetensors")
    header = read_native_header(done.path)
    assert header is not None
    assert header.arch == ARCHS["deeplabv3"]
    assert header.preprocess == CAFFE
    assert list(header.class_names) == NAMES
    again = build_model(header.arch, num_classes=header.num_classes, preprocess=header.preprocess)
    load_weights(again, done.path, strict=True)
    images = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(again.eval()(images).raw, source.model.eval()(images).raw)
    assert weights_digest(safetensors.torch.load_file(done.path)) == source.weights_digest


def test_every_format_of_the_spec_has_an_exporter() -> None:
    assert formats() == ["onnx", "safetensors"]
    for name in formats():
        assert exporter(name).file_name.startswith("model.")
    with pytest.raises(KeyError, match="no export format 'tflite'"):
        exporter("tflite")


def test_classes_that_no_reader_could_tell_apart_are_refused(world: World, tmp_path: Path) -> None:
    twins = replace(world.source, classes=[world.source.classes[0]] * len(world.source.classes))
    with pytest.raises(ModelFileError, match="not unique"):
        OnnxExporter().write(twins, OnnxExport(format="onnx"), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
