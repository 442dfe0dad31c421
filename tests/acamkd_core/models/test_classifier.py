"""Classifiers: torchvision's networks tensor by tensor, the papers' counts, levels and the way on from each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from acamkd_core.engine.profile import count_macs, count_parameters
from acamkd_core.models.weights import load_weights
from acamkd_core.spec.archs import FAMILY_TASKS
from acamkd_core.spec.catalog import arch_summary, levels_of, load_catalog
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.labels import arch_label
from acamkd_core.spec.models import WeightsSpec
from acamkd_core.torchvision_compat import torchvision
from tests.acamkd_core.models.conftest import scramble
from tests.acamkd_core.models.test_families import ARCH, build

NETWORKS: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({"family": "mobilenet_v2", "width": 0.35}, "mobilenet_v2", {"width_mult": 0.35}),
    ({"family": "mobilenet_v2", "width": 1.4}, "mobilenet_v2", {"width_mult": 1.4}),
    ({"family": "mobilenet_v3"}, "mobilenet_v3_large", {}),
    ({"family": "mobilenet_v3", "backbone": "mobilenet_v3_small"}, "mobilenet_v3_small", {}),
    ({"family": "resnet", "backbone": "resnet18"}, "resnet18", {}),
    ({"family": "resnet", "backbone": "resnet50"}, "resnet50", {}),
]
FIELDS = [fields for fields, _, _ in NETWORKS]
CLASSES = 7


def _theirs(name: str, options: dict[str, Any]) -> nn.Module:
    net: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **options)
    scramble(net)
    return net.eval()


def _normalised(images: Tensor) -> Tensor:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)


@pytest.mark.parametrize(("fields", "name", "options"), NETWORKS, ids=lambda value: str(value)[:40])
def test_torchvisions_file_gives_torchvisions_scores(
    tmp_path: Path, fields: dict[str, Any], name: str, options: dict[str, Any]
) -> None:
    theirs, ours = _theirs(name, options), build(fields, CLASSES).eval()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    report = load_weights(ours, tmp_path / "w.pth", strict=True)
    assert report.layout == "torchvision_classifier"
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], {})
    assert count_parameters(ours) == count_parameters(theirs)
    images = torch.rand(2, 3, 64, 80)
    with torch.no_grad():
        torch.testing.assert_close(ours(images).raw, theirs(_normalised(images)), rtol=1e-5, atol=1e-6)


def test_a_published_name_loads_and_other_classes_keep_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    net = torchvision.models.mobilenet_v3_small()
    enum = torchvision.models.MobileNet_V3_Small_Weights
    monkeypatch.setattr(enum, "get_state_dict", lambda *_args, **_options: net.state_dict())
    source = WeightsSpec(torchvision="MobileNet_V3_Small_Weights.IMAGENET1K_V1")
    student = build({"family": "mobilenet_v3", "backbone": "mobilenet_v3_small"}, CLASSES)
    report = load_weights(student, source)
    assert sorted(report.mismatched) == ["class_head.classifier.3.bias", "class_head.classifier.3.weight"]
    assert torch.equal(student.get_parameter("class_head.classifier.0.weight"), net.classifier[0].weight)
    assert torch.equal(student.get_parameter("backbone.features.12.0.weight"), net.features[12][0].weight)
    with pytest.raises(CoreError) as error:
        load_weights(student, source, strict=True)
    assert (error.value.code, error.value.info.value) == ("weights.other_classes", 1000)


@pytest.mark.parametrize(
    ("preset", "parameters", "macs"),
    [
        # MobileNetV2's paper prints 3.4M and 300M, 6.9M and 585M: docs/networks.md says why the second row differs.
        ("mobilenet_v2-1.0", 3_504_872, 300_774_272),
        ("mobilenet_v2-1.4", 6_108_776, 582_195_824),
        # torchvision's published counts.
        *(
            (preset, weights.meta["num_params"], weights.meta["_ops"] * 1e9)
            for preset, weights in (
                ("mobilenet_v3-large", torchvision.models.MobileNet_V3_Large_Weights.IMAGENET1K_V1),
                ("mobilenet_v3-small", torchvision.models.MobileNet_V3_Small_Weights.IMAGENET1K_V1),
                ("resnet18", torchvision.models.ResNet18_Weights.IMAGENET1K_V1),
                ("resnet34", torchvision.models.ResNet34_Weights.IMAGENET1K_V1),
                ("resnet50", torchvision.models.ResNet50_Weights.IMAGENET1K_V1),
                ("resnet101", torchvision.models.ResNet101_Weights.IMAGENET1K_V1),
            )
        ),
    ],
)
def test_counts(preset: str, parameters: int, macs: float) -> None:
    model = build(preset, 1000, device="meta")
    assert count_parameters(model) == parameters
    # torchvision prints three digits; small differences are its squeeze-and-excite pooling.
    assert count_macs(model, 224, 224) == pytest.approx(macs, abs=6e5, rel=2e-3)
    facts = load_catalog().preset(preset)
    assert facts is not None
    assert (facts.parameters, facts.num_classes, facts.image_size) == (parameters, 1000, (224, 224))
    assert facts.macs == count_macs(model, 224, 224)


def test_the_released_1_4_checkpoint_is_counted_without_batch_norm() -> None:
    """TensorFlow-Slim's table has 6.06M: convolutions and classifier only. In 1.0 the same count is 3.47M, as printed there."""
    for preset, millions in (("mobilenet_v2-1.0", 3.47), ("mobilenet_v2-1.4", 6.06)):
        model = build(preset, 1000, device="meta")
        norms = sum(count_parameters(m) for m in model.modules() if isinstance(m, nn.BatchNorm2d))
        assert round((count_parameters(model) - norms) / 1e6, 2) == millions


@pytest.mark.parametrize("fields", FIELDS, ids=lambda f: "-".join(str(v) for v in f.values()))
def test_levels_are_as_published(fields: dict[str, Any]) -> None:
    model = build(fields, CLASSES, device="meta")
    for height, width in [(64, 96), (97, 131)]:
        out = model(torch.empty(2, 3, height, width, device="meta"))
        assert list(out.features) == list(model.levels) == ["c2", "c3", "c4", "c5", "logits"]
        for name, level in model.levels.items():
            size = (-(-height // level.stride), -(-width // level.stride)) if level.stride else (1, 1)
            assert tuple(out.features[name].shape) == (2, level.channels, *size), name
        assert out.raw.shape == (2, CLASSES)
    computed = {f.name: (f.channels, f.stride) for f in levels_of(ARCH.validate_python(fields), CLASSES)}
    assert computed == {name: (level.channels, level.stride) for name, level in model.levels.items()}


@pytest.mark.parametrize("fields", [FIELDS[0], FIELDS[3], FIELDS[4]], ids=lambda f: str(f["family"]))
def test_every_level_leads_on_to_the_same_scores(fields: dict[str, Any]) -> None:
    model = build(fields, CLASSES).eval()
    scramble(model)
    out = model(torch.rand(2, 3, 64, 96))
    assert all(level.onward for level in model.levels.values())
    for name, entered in zip(out.features, model.onward(out.features), strict=True):
        assert torch.equal(entered.raw, out.raw), name
    changed = model.onward({name: value + 1 for name, value in out.features.items()})
    assert not any(torch.equal(entered.raw, out.raw) for entered in changed)
    assert torch.equal(model.head(out.features["c5"]), out.raw)


def test_one_small_training_image_is_refused_and_a_larger_one_trains() -> None:
    model = build(FIELDS[0], CLASSES).train()
    with pytest.raises(CoreError) as error:
        model(torch.rand(1, 3, 32, 32))
    assert error.value.code == "model.batch_of_one"
    model(torch.rand(1, 3, 32, 33)).raw.sum().backward()
    assert model.eval()(torch.rand(1, 3, 32, 32)).raw.shape == (1, CLASSES)


def test_short_names() -> None:
    names = [(arch_label(arch), arch_summary(arch)) for arch in map(ARCH.validate_python, FIELDS)]
    assert names == [
        ("MobileNetV2 0.35", "mobilenet_v2 x0.35"),
        ("MobileNetV2 1.4", "mobilenet_v2 x1.4"),
        ("MobileNetV3-L", "mobilenet_v3 · mobilenet_v3_large"),
        ("MobileNetV3-S", "mobilenet_v3 · mobilenet_v3_small"),
        ("ResNet-18", "resnet · resnet18"),
        ("ResNet-50", "resnet · resnet50"),
    ]
    assert {FAMILY_TASKS[fields["family"]] for fields in FIELDS} == {"classification"}
