"""timm's networks as backbones: the same features as timm's own extractor, and everything refused that cannot be one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from pydantic import TypeAdapter
from torch import nn

from acamkd_core.models.backbones import build_backbone
from acamkd_core.models.base import TaskModel
from acamkd_core.models.registry import build_model
from acamkd_core.models.timm_backbone import load_timm, timm_preprocess, timm_weights
from acamkd_core.models.timm_facts import try_network
from acamkd_core.models.weights import load_weights
from acamkd_core.ranks import synchronised_norm
from acamkd_core.spec.archs import Arch, entry_levels
from acamkd_core.spec.catalog import arch_summary, levels_of
from acamkd_core.spec.errors import CoreError, SpecInvalid
from acamkd_core.spec.job import parse_job
from acamkd_core.spec.labels import arch_label
from acamkd_core.spec.models import Preprocess
from acamkd_core.spec.timm_models import load_timm_models, timm_facts
from tests.acamkd_core.models.conftest import scramble

timm = load_timm("tests")
ARCH: TypeAdapter[Arch] = TypeAdapter(Arch)
RAW = Preprocess(mean=(0, 0, 0), std=(1, 1, 1))
# Rounds its maps up; rounds them down; blocks in one row; channels last and told to take any size; wraps the whole network.
KINDS = ["test_resnet", "test_convnext", "mobilenetv3_small_050", "swin_tiny_patch4_window7_224", "cspnext_tiny"]


def build(family: str = "deeplabv3", **fields: Any) -> TaskModel:
    small = {
        "deeplabv3": {"aspp_channels": 16},
        "pspnet": {"psp_channels": 16},
        "retinanet": {"fpn_channels": 16, "head_depth": 1},
    }
    arch = ARCH.validate_python({"family": family, **small.get(family, {}), **fields})
    return build_model(arch, num_classes=4).eval()


@pytest.mark.parametrize("name", KINDS)
def test_the_features_are_those_of_timms_own_extractor(name: str) -> None:
    facts = timm_facts(f"timm:{name}")
    assert facts is not None
    options = {"strict_img_size": False} if facts.sizes == "asked" else {}
    theirs = timm.create_model(name, features_only=True, **options).eval()
    scramble(theirs)
    ours = build_backbone(f"timm:{name}").eval()
    ours.get_submodule("net").load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found, expected = ours(images), theirs(images)[-4:]
    assert list(found) == ["c2", "c3", "c4", "c5"]
    for (level, ours_NCHW), their_map in zip(found.items(), expected, strict=True):
        last = their_map.shape[1:3] == ours_NCHW.shape[2:]
        assert torch.equal(ours_NCHW, their_map.permute(0, 3, 1, 2) if last else their_map), level
        assert ours_NCHW.shape[1] == ours.levels[level].channels
        assert 64 // ours_NCHW.shape[2] == 96 // ours_NCHW.shape[3] == ours.levels[level].stride


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050"])
def test_output_stride_is_timms_own(name: str, stride: int) -> None:
    theirs = timm.create_model(name, features_only=True, output_stride=stride).eval()
    ours = build_backbone(f"timm:{name}", output_stride=stride).eval()
    ours.get_submodule("net").load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images)["c5"], theirs(images)[-1])
    assert [level.stride for level in ours.levels.values()] == [min(nominal, stride) for nominal in (4, 8, 16, 32)]
    assert ours(images)["c5"].shape[2:] == (64 // stride, 64 // stride)


@pytest.mark.parametrize("name", KINDS)
def test_maps_of_any_input_size_are_halvings_rounded_up(name: str) -> None:
    """Anchors and class maps are laid out by that rule; a network that rounds down sees a padded image."""
    found = build_backbone(f"timm:{name}").eval()(torch.randn(1, 3, 70, 93))
    assert [one.shape[2:] for one in found.values()] == [(-(-70 // s), -(-93 // s)) for s in (4, 8, 16, 32)]


def test_padding_leaves_what_is_far_from_the_edge_alone() -> None:
    ours = build_backbone("timm:test_convnext").eval()
    images = torch.randn(1, 3, 256, 320)
    with torch.no_grad():
        whole, cut = ours(images)["c2"], ours(images[..., :250, :315])["c2"]
    assert cut.shape[2:] == (63, 79)
    torch.testing.assert_close(cut[..., :40, :40], whole[..., :40, :40])


def test_the_committed_facts_are_those_of_this_timm() -> None:
    models = load_timm_models()
    known = {*models.backbones, *(name for names in models.refused.values() for name in names)}
    assert models.version == timm.__version__, "run `python -m acamkd_core.models.timm_facts` and commit"
    assert known == set(timm.list_models())
    samples = [*KINDS, "vgg11", "hrnet_w18_small", "test_vit", "maxvit_pico_rw_256", "inception_v3"]
    for name in samples:
        found = try_network(name)
        assert found == (models.backbones.get(name) or models.reason(name)), name
    assert {type(try_network(name)) for name in ("vgg11", "test_vit")} == {type(timm_facts("timm:vgg11")), str}


@pytest.mark.parametrize(
    ("fields", "field", "message", "hint"),
    [
        ({"backbone": "timm:convnext_tinny"}, "backbone", "has no 'convnext_tinny'", "timm:convnext_tiny"),
        ({"backbone": "timm:resnet18.a1_in1k"}, "backbone", "names weights", "backbone_weights: timm:resnet18.a1_in1k"),
        ({"backbone": "timm:vit_base_patch16_224"}, "backbone", "its maps have stride 16;", "timm:"),
        ({"backbone": "timm:maxvit_tiny_tf_224"}, "backbone", "one size only", "near it"),
        ({"backbone": "timm:swin_tiny_patch4_window7_224"}, "output_stride", "output stride 16", "possible: 32"),
        ({"backbone": "timm:resnet18", "deep_stem": True}, "deep_stem", "ResNet", None),
        ({"backbone": "timm:resnet18", "width": 0.5}, "width", "mobilenet_v2", None),
        ({"backbone": "resnet19"}, "backbone", "unknown backbone 'resnet19'", "did you mean 'resnet18'"),
    ],
)
def test_a_backbone_that_cannot_be_is_refused_at_submit(
    fields: dict[str, Any], field: str, message: str, hint: str | None
) -> None:
    with pytest.raises(SpecInvalid) as error:
        parse_job({"dataset": "scenes", "student": {"arch": {"family": "deeplabv3", **fields}}})
    (problem,) = error.value.problems
    assert problem.field == f"student.arch.{field}"
    assert message in problem.message
    assert hint is None or hint in (problem.hint or "")


@pytest.mark.parametrize(("weights", "message"), [("timm:resnet1x", "has no 'resnet1x'"), ("timm:", "has no ''")])
def test_unknown_weights_are_refused_at_submit(weights: str, message: str) -> None:
    student = {"arch": {"family": "deeplabv3", "backbone": "resnet18"}, "backbone_weights": weights}
    with pytest.raises(SpecInvalid) as error:
        parse_job({"dataset": "scenes", "student": student})
    (problem,) = error.value.problems
    assert (problem.field, message in problem.message) == ("student.backbone_weights.timm", True)


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("deeplabv3", {"output_stride": 8, "aux_head": True}),
        ("pspnet", {"output_stride": 16}),
        ("lraspp", {}),
        ("retinanet", {}),
        ("fcos", {"fpn_channels": 64, "head_depth": 1}),
        ("reppoints", {"fpn_channels": 64, "head_depth": 1}),
        ("faster_rcnn", {"fpn_channels": 16, "head_channels": 16}),
    ],
)
def test_every_family_takes_one(family: str, fields: dict[str, Any]) -> None:
    model = build(family, backbone="timm:test_resnet", **fields)
    out = model(torch.rand(2, 3, 64, 96))
    assert list(out.features) == list(model.levels)
    for name, level in model.levels.items():
        assert out.features[name].shape[1:] == (level.channels, -(-64 // level.stride), -(-96 // level.stride)), name
    arch = ARCH.validate_python({"family": family, "backbone": "timm:test_resnet", **fields})
    known = {one.name: (one.channels, one.stride) for one in levels_of(arch, 4)}
    narrow = {"c2", "c3", "c4", "c5"} if family in ("deeplabv3", "pspnet", "retinanet") else set(known)
    assert {name: known[name] for name in narrow} == {
        name: (model.levels[name].channels, model.levels[name].stride) for name in narrow
    }
    entries = entry_levels(family, "timm:test_resnet")
    assert entries is not None
    assert {name for name, level in model.levels.items() if level.onward} == set(entries)
    if family in ("deeplabv3", "pspnet"):
        for name in entries:
            assert torch.equal(model.onward({name: out.features[name]})[0].raw, out.raw), name
    assert arch_label(arch).endswith("-test_resnet")
    assert "timm:test_resnet" in arch_summary(arch)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "mobilenetv3_small_050", "test_efficientnet"])
def test_stages_freeze_up_to_their_level_and_no_further(name: str) -> None:
    model = build("retinanet", backbone=f"timm:{name}").train()
    model.freeze(2, norm=False)
    out = model.backbone(torch.randn(2, 3, 64, 64))
    assert not out["c2"].requires_grad
    assert not out["c3"].requires_grad
    assert out["c4"].requires_grad
    assert all(p.requires_grad for stage in model.backbone.stages()[2:] for p in stage.parameters())
    stages = {id(p) for stage in model.backbone.stages() for p in stage.parameters()}
    assert stages == {id(p) for p in model.backbone.parameters()}


def test_a_network_without_stages_refuses_to_freeze_them() -> None:
    with pytest.raises(CoreError) as error:
        build("retinanet", backbone="timm:cspnext_tiny").freeze(1, norm=True)
    assert (error.value.code, error.value.info.field) == ("student.freeze_stages", "student.freeze.stages")


def test_a_machine_without_timm_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # what `import` finds where it is not installed
    with pytest.raises(CoreError) as error:
        build("retinanet", backbone="timm:test_resnet")
    assert (error.value.code, error.value.info.field) == ("model.no_timm", "arch.backbone")
    assert "acamkd[timm]" in (error.value.info.hint or "")


def test_norms_with_an_activation_inside_are_not_synchronised_away() -> None:
    with pytest.raises(CoreError) as error:
        synchronised_norm(build("retinanet", backbone="timm:mobilenetv3_small_050"))
    assert (error.value.code, error.value.info.field) == ("train.sync_bn", "train.sync_bn")
    ordinary = synchronised_norm(build("retinanet", backbone="timm:test_resnet"))
    assert any(isinstance(module, nn.SyncBatchNorm) for module in ordinary.modules())


@pytest.mark.parametrize("name", [name for name in KINDS if "swin" not in name])
def test_a_file_of_timms_classifier_fills_the_backbone(name: str, tmp_path: Path) -> None:
    theirs = timm.create_model(name).eval()
    scramble(theirs)
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    model = build("retinanet", backbone=f"timm:{name}")
    report = load_weights(model, tmp_path / "model.safetensors", backbone_only=True)
    assert report.layout == "timm"
    assert (report.missing, report.mismatched) == ([], {})
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = theirs.forward_intermediates(images, intermediates_only=True)
        torch.testing.assert_close(model.backbone(images)["c4"], maps[-2])


@pytest.mark.parametrize(
    ("name", "fields"),
    [("resnet18", {}), ("resnet50s", {"deep_stem": True}), ("mobilenetv2_100", {})],
)
def test_timms_files_fill_our_own_backbones(name: str, fields: dict[str, Any], tmp_path: Path) -> None:
    theirs = timm.create_model(name).eval()
    scramble(theirs)
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    own = {"resnet50s": "resnet50", "mobilenetv2_100": "mobilenet_v2"}.get(name, name)
    for layout in (None, "timm"):
        model = build(backbone=own, output_stride=32, **fields)
        report = load_weights(model, tmp_path / "x.pth", backbone_only=True, layout=layout)
        assert (report.missing, report.unexpected, report.mismatched) == ([], [], {})
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = theirs.forward_intermediates(images, intermediates_only=True)
        torch.testing.assert_close(model.backbone(images)["c5"], maps[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "fields"),
    [("mobilenetv2_050", {"family": "mobilenet_v2", "width": 0.5}), ("resnet18", {"family": "resnet"})],
)
def test_timms_classifiers_are_our_classifiers(name: str, fields: dict[str, Any], tmp_path: Path) -> None:
    theirs = timm.create_model(name, num_classes=7).eval()
    scramble(theirs)
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "x.safetensors")
    own = {**fields, "backbone": name} if fields["family"] == "resnet" else fields
    model = build_model(ARCH.validate_python(own), num_classes=7, preprocess=RAW).eval()
    report = load_weights(model, tmp_path / "x.safetensors", layout="timm", strict=True)
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], {})
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(images).raw, theirs(images), rtol=1e-4, atol=1e-4)


def cached(folder: Path, hub: str, net: nn.Module) -> None:
    """Puts weights where huggingface_hub looks for what it has downloaded before."""
    repository = folder / f"models--{hub.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    safetensors.torch.save_file(net.state_dict(), snapshot / "model.safetensors")


def test_named_weights_come_through_timms_own_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    theirs = timm.create_model("test_resnet").eval()
    scramble(theirs)
    with pytest.raises(CoreError) as error:
        timm_weights("test_resnet.r160_in1k", "student.backbone_weights")
    assert error.value.code == "weights.download_failed"
    assert "huggingface.co/timm/test_resnet.r160_in1k" in (error.value.info.hint or "")
    cached(tmp_path, "timm/test_resnet.r160_in1k", theirs)
    found = timm_weights("test_resnet.r160_in1k", "student.backbone_weights")
    assert found.keys() == theirs.state_dict().keys()
    assert all(torch.equal(found[key], value) for key, value in theirs.state_dict().items())


@pytest.mark.parametrize("name", ["resnet18.nope", "no_such_net"])
def test_weights_that_timm_does_not_have_are_named(name: str) -> None:
    with pytest.raises(CoreError) as error:
        timm_weights(name, "student.backbone_weights")
    assert (error.value.code, error.value.info.value) == ("weights.unknown_timm", name)
    assert name != "resnet18.nope" or "resnet18." in (error.value.info.hint or "")


def test_preprocessing_is_what_the_pretrained_network_was_fed() -> None:
    imagenet, half = Preprocess(), Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert timm_preprocess("resnet18.a1_in1k", "x") == imagenet
    assert timm_preprocess("test_resnet", "x") == half
    assert timm_preprocess("inception_v3.tv_in1k", "x") == half
