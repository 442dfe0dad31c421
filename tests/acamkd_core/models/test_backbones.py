"""ResNeXt backbones against torchvision's own networks and the published counts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from acamkd_core.models.backbones import build_backbone
from acamkd_core.models.registry import build_model
from acamkd_core.models.weights import load_weights
from acamkd_core.spec.archs import DeepLabV3Arch, PSPNetArch, RetinaNetArch
from acamkd_core.spec.labels import arch_label
from acamkd_core.torchvision_compat import torchvision

CLASSIFIER = 2048 * 1000 + 1000


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "published"),
    [
        # torchvision's own `num_params` of its weights; 44.18M is what timm and mmpretrain print for 32x4d.
        ("resnext101_64x4d", torchvision.models.ResNeXt101_64X4D_Weights.IMAGENET1K_V1.meta["num_params"]),
        ("resnext101_32x8d", torchvision.models.ResNeXt101_32X8D_Weights.IMAGENET1K_V2.meta["num_params"]),
        ("resnext101_32x4d", 44_177_704),
    ],
)
def test_parameter_counts(name: str, published: int) -> None:
    with torch.device("meta"):
        assert count(build_backbone(name)) + CLASSIFIER == published


def test_maps_are_torchvisions_on_its_weights(tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnext101_32x8d().eval()
    path = tmp_path_factory.mktemp("weights") / "resnext.pth"
    torch.save(theirs.state_dict(), path)
    model = build_model(
        RetinaNetArch(family="retinanet", backbone="resnext101_32x8d", fpn_channels=8, head_depth=1), num_classes=2
    )
    report = load_weights(model, path, layout="torchvision", backbone_only=True)
    assert not report.unexpected
    assert not report.missing
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        stem = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(stem))))
        found = model.eval().backbone(images)["c5"]
    torch.testing.assert_close(found, expected)


def test_segmenters_and_detectors_take_them() -> None:
    """At output stride 8 the grouped 3x3 convolutions are dilated, as the others are."""
    with torch.device("meta"):
        segmenters = [
            build_model(DeepLabV3Arch(family="deeplabv3", backbone="resnext101_32x4d", output_stride=8), num_classes=3),
            build_model(PSPNetArch(family="pspnet", backbone="resnext101_64x4d", deep_stem=True), num_classes=3),
        ]
    for model in segmenters:
        grouped = [m for m in model.backbone.stages()[3].modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
        assert {conv.dilation for conv in grouped} == {(2, 2), (4, 4)}
        assert model.levels["c5"].stride == 8
    assert arch_label(RetinaNetArch(family="retinanet", backbone="resnext101_64x4d")) == "RetinaNet-X101-64x4d"
