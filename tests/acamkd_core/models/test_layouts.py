"""Importers: a foreign network and ours, filled through the key map, compute the same scores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn
from torch.nn import functional as F

from acamkd_core.models.base import TaskModel
from acamkd_core.models.registry import build_model
from acamkd_core.models.weights import load_weights
from acamkd_core.spec.archs import Arch
from acamkd_core.spec.models import Preprocess
from acamkd_core.torchvision_compat import torchvision
from tests.acamkd_core.models.cirkd_reference import CirkdDeepLab
from tests.acamkd_core.models.conftest import scramble

ARCH: TypeAdapter[Arch] = TypeAdapter(Arch)
RAW = Preprocess(mean=(0, 0, 0), std=(1, 1, 1))  # both networks get the same tensor


def build(num_classes: int, **fields: Any) -> TaskModel:
    arch = ARCH.validate_python({"family": "deeplabv3", "output_stride": 8, "aspp_rates": (12, 24, 36), **fields})
    return build_model(arch, num_classes=num_classes, preprocess=RAW).eval()


def test_torchvision_deeplabv3_resnet50(tmp_path: Path) -> None:
    theirs = torchvision.models.segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=7, aux_loss=True
    ).eval()
    scramble(theirs)
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    ours = build(7, backbone="resnet50", aux_head=True)
    report = load_weights(ours, tmp_path / "x.pth", strict=True)
    assert report.layout == "torchvision"
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], {})
    images = torch.rand(1, 3, 73, 90)
    with torch.no_grad():
        expected, out = theirs(images), ours(images)
        scores = F.interpolate(out.raw, size=(73, 90), mode="bilinear", align_corners=False)
        torch.testing.assert_close(scores, expected["out"], rtol=1e-5, atol=1e-5)
        aux = F.interpolate(ours.aux_head(out.features["c4"]), size=(73, 90), mode="bilinear", align_corners=False)
        torch.testing.assert_close(aux, expected["aux"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2"])
def test_torchvision_imagenet_classifier_as_backbone(tmp_path: Path, name: str) -> None:
    theirs: nn.Module = getattr(torchvision.models, name)().eval()
    scramble(theirs)
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    ours = build(5, backbone=name, output_stride=32, aspp_channels=16)
    report = load_weights(ours, tmp_path / "x.pth", backbone_only=True)
    assert (report.layout, report.missing, report.unexpected) == ("torchvision", [], [])
    trunk = nn.Sequential(*list(theirs.children())[:-2]) if name != "mobilenet_v2" else theirs.features[:18]
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(images).features["c5"], trunk(images))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_cirkd(tmp_path: Path, name: str) -> None:
    """ResNet-18 with the deep stem covers stem, dilated blocks and auxiliary head; MobileNetV2 the flat blocks."""
    aux = name == "resnet18"
    theirs = CirkdDeepLab(name, num_classes=6, channels=128).eval()
    scramble(theirs)
    torch.save({f"module.{key}": value for key, value in theirs.state_dict().items()}, tmp_path / "x.pth")
    ours = build(6, backbone=name, aspp_channels=128, align_corners=True, aux_head=aux, deep_stem=aux)
    report = load_weights(ours, tmp_path / "x.pth", strict=True)
    assert report.layout == "cirkd"
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], {})
    images = torch.rand(1, 3, 65, 97)
    with torch.no_grad():
        scores, auxiliary = theirs(images)
        out = ours(images)
        torch.testing.assert_close(out.raw, scores, rtol=1e-5, atol=1e-5)
        if aux:
            torch.testing.assert_close(ours.aux_head(out.features["c4"]), auxiliary, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "prefix"), [("resnet18", "pretrained."), ("mobilenet_v2", "pretrained.net.")])
def test_cirkds_imagenet_files_are_bare_backbones(tmp_path: Path, name: str, prefix: str) -> None:
    """The deep stem's second and third convolution must come too, and the classifier behind is no surprise."""
    theirs = CirkdDeepLab(name, num_classes=6, channels=16).eval()
    scramble(theirs)
    bare = {key.removeprefix(prefix): v for key, v in theirs.state_dict().items() if key.startswith(prefix)}
    torch.save(
        bare | {"fc.weight": torch.rand(1000, 512), "classifier.weight": torch.rand(1000, 9)}, tmp_path / "x.pth"
    )
    deep = name == "resnet18"
    ours = build(6, backbone=name, aspp_channels=16, align_corners=True, aux_head=deep, deep_stem=deep)
    report = load_weights(ours, tmp_path / "x.pth", backbone_only=True)
    assert (report.layout, report.missing, report.unexpected, report.mismatched) == ("cirkd", [], [], {})
    images = torch.rand(1, 3, 65, 97)
    with torch.no_grad():
        _, c5 = theirs.pretrained(images)
        torch.testing.assert_close(ours(images).features["c5"], c5, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif("ACAMKD_TEST_DATA" not in os.environ, reason="ACAMKD_TEST_DATA names no data folder")
def test_pretrained_backbone_file() -> None:
    file = Path(os.environ["ACAMKD_TEST_DATA"]) / "weights" / "mobilenet_v2_1.0_imagenet_backbone.pth"
    if not file.is_file():
        pytest.skip(f"no {file.name} in the data folder")
    ours = build(5, backbone="mobilenet_v2")
    report = load_weights(ours, file, backbone_only=True)
    assert (report.layout, report.missing, report.unexpected, report.mismatched) == ("torchvision", [], [], {})
    first = torch.load(file, weights_only=True)["features.0.0.weight"]
    assert torch.equal(ours.get_submodule("backbone.features.0.0").weight, first)
