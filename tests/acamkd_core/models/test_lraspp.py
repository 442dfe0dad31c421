"""LR-ASPP against torchvision's: same outputs on equal weights, its published counts; and going on where the way forks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch.nn import functional as F

from acamkd_core.engine.profile import count_macs, count_parameters
from acamkd_core.models.registry import build_model
from acamkd_core.models.weights import load_weights
from acamkd_core.spec.archs import Arch
from acamkd_core.spec.catalog import arch_summary
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.labels import arch_label
from acamkd_core.spec.models import Preprocess
from acamkd_core.torchvision_compat import torchvision
from tests.acamkd_core.models.conftest import scramble
from tests.acamkd_core.models.test_families import build

ARCH: TypeAdapter[Arch] = TypeAdapter(Arch)
RAW = Preprocess(mean=(0, 0, 0), std=(1, 1, 1))  # both networks get the same tensor
V2 = {"family": "lraspp", "backbone": "mobilenet_v2", "width": 0.35, "head_channels": 16}


def test_torchvisions_file_gives_torchvisions_scores(tmp_path: Path) -> None:
    theirs = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=7
    ).eval()
    scramble(theirs)
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    ours = build_model(ARCH.validate_python({"family": "lraspp"}), num_classes=7, preprocess=RAW).eval()
    report = load_weights(ours, tmp_path / "x.pth", strict=True)
    assert report.layout == "torchvision"
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], {})
    images = torch.rand(1, 3, 73, 90)
    with torch.no_grad():
        scores = F.interpolate(ours(images).raw, size=(73, 90), mode="bilinear", align_corners=False)
        torch.testing.assert_close(scores, theirs(images)["out"], rtol=1e-6, atol=1e-6)
    with pytest.raises(CoreError) as error:
        load_weights(build({"family": "lraspp"}, 5), tmp_path / "x.pth", strict=True)
    assert error.value.code == "weights.other_classes"


@pytest.mark.parametrize("output_stride", [16, 32])
def test_an_imagenet_classifier_is_its_backbone(tmp_path: Path, output_stride: int) -> None:
    theirs = torchvision.models.mobilenet_v3_large(dilated=output_stride == 16).eval()
    scramble(theirs)
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    arch = ARCH.validate_python({"family": "lraspp", "output_stride": output_stride})
    ours = build_model(arch, num_classes=5, preprocess=RAW).eval()
    report = load_weights(ours, tmp_path / "x.pth", backbone_only=True)
    assert (report.layout, report.missing, report.unexpected, report.mismatched) == ("torchvision", [], [], {})
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(images).features["c5"], theirs.features(images))


def test_counts_are_the_published_ones() -> None:
    """torchvision publishes 3,221,538 weights at 21 classes and 2.086 G multiply-adds at 520 x 520."""
    published = torchvision.models.get_weight("LRASPP_MobileNet_V3_Large_Weights.DEFAULT").meta
    model = build("lraspp-mobilenet_v3_large", 21, device="meta")
    assert count_parameters(model) == published["num_params"] == 3_221_538
    assert count_macs(model, 520, 520) / 1e9 == pytest.approx(published["_ops"], abs=6e-4)


def test_on_mobilenet_v2_by_hand() -> None:
    model = build("lraspp-mobilenet_v2", 21, device="meta")
    head = 320 * 128 + 2 * 128 + 320 * 128 + 32 * 21 + 21 + 128 * 21 + 21
    assert count_parameters(model) == 1_811_712 + head
    trunk = count_macs(build({"family": "mobile_deeplabv3"}, 21, device="meta"), 512, 512) - (
        (320 * 256 + 2 * 256 * 256 + 256 * 21) * 32 * 32 + 320 * 256
    )
    by_hand = (320 * 128) * 32 * 32 + 320 * 128 + (32 * 21 + 128 * 21) * 64 * 64
    assert count_macs(model, 512, 512) == trunk + by_hand


@pytest.mark.parametrize("fields", [V2, {"family": "lraspp"}], ids=["v2", "v3"])
def test_it_goes_on_from_every_level_before_the_fork(fields: dict[str, object]) -> None:
    model = build(fields).eval()
    scramble(model)
    out = model(torch.rand(2, 3, 64, 96))
    open_levels = [name for name, level in model.levels.items() if level.onward]
    assert open_levels == ["c2", "c3", "logits"]
    for name in open_levels:
        (entered,) = model.onward({name: out.features[name]})
        assert torch.equal(entered.raw, out.raw), name
        (changed,) = model.onward({name: out.features[name] + 1})
        assert not torch.equal(changed.raw, out.raw), name
    gated, logits = model.head(out.features["c3"], out.features["c5"])
    assert torch.equal(gated, out.features["lraspp"])
    assert torch.equal(logits, out.raw)


def test_frozen_stages_are_the_blocks_up_to_their_level() -> None:
    model = build({"family": "lraspp"})
    model.freeze(2, norm=False)
    learning = {
        name.split(".")[2]
        for name, p in model.get_submodule("backbone").named_parameters(prefix="b")
        if p.requires_grad
    }
    assert learning == {str(index) for index in range(5, 17)}


@pytest.mark.parametrize("fields", [{"width": 0.5}, {"output_stride": 8}, {"backbone": "resnet18"}])
def test_what_the_family_has_not_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ARCH.validate_python({"family": "lraspp", **fields})


def test_its_short_names() -> None:
    assert arch_label(ARCH.validate_python({"family": "lraspp"})) == "LR-ASPP-MBV3"
    assert arch_label(ARCH.validate_python(V2)) == "LR-ASPP-MBV2 0.35"
    assert arch_summary(ARCH.validate_python(V2)) == "lraspp · mobilenet_v2 x0.35 · OS 16"
