"""timm's classifiers, whole: timm's scores and maps on timm's weights, and everything refused that cannot be one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from pydantic import TypeAdapter
from torch import nn

from acamkd_core.engine.placebo import keep_head
from acamkd_core.engine.profile import count_macs, count_parameters
from acamkd_core.models.base import TaskModel
from acamkd_core.models.registry import build_model
from acamkd_core.models.timm_backbone import load_timm, timm_classes
from acamkd_core.models.timm_facts import try_classifier
from acamkd_core.models.weights import inherit, load_weights
from acamkd_core.spec.archs import Arch, entry_levels
from acamkd_core.spec.catalog import arch_summary, levels_of
from acamkd_core.spec.errors import CoreError, SpecInvalid
from acamkd_core.spec.job import JobSpec, parse_job
from acamkd_core.spec.labels import arch_label
from acamkd_core.spec.models import Preprocess
from acamkd_core.spec.timm_models import classifier_facts, load_timm_models, timm_facts
from tests.acamkd_core.models.conftest import scramble

timm = load_timm("tests")
ARCH: TypeAdapter[Arch] = TypeAdapter(Arch)
RAW = Preprocess(mean=(0, 0, 0), std=(1, 1, 1))
CLASSES = 7
HALVING = ["c2", "c3", "c4", "c5"]
# Name, image size, levels: CNN; ConvNeXt; EfficientNet; channels last, told to take any size; ViT; two heads; one size only;
# maps at strides 16 to 64 and two heads with norms; maps that are no halvings.
KINDS: list[tuple[str, tuple[int, int], list[str]]] = [
    ("test_resnet", (64, 96), HALVING),
    ("test_convnext", (70, 93), HALVING),
    ("test_efficientnet", (64, 96), HALVING),
    ("swin_tiny_patch4_window7_224", (64, 96), HALVING),
    ("test_vit", (64, 96), ["b2", "b3", "b5", "b6"]),
    ("deit_tiny_distilled_patch16_224", (224, 224), ["b3", "b6", "b9", "b12"]),
    ("test_maxvit", (160, 160), HALVING),
    ("levit_128s", (224, 224), ["c4", "c5", "c6"]),
    ("pit_ti_224", (224, 224), []),
]


def build(name: str, classes: int = CLASSES, preprocess: Preprocess = RAW) -> TaskModel:
    arch = ARCH.validate_python({"family": "timm", "backbone": f"timm:{name}"})
    return build_model(arch, num_classes=classes, preprocess=preprocess).eval()


def theirs_of(name: str, classes: int = CLASSES) -> nn.Module:
    facts = timm_facts(f"timm:{name}")
    options = {"strict_img_size": False} if facts is not None and facts.sizes == "asked" else {}
    net: nn.Module = timm.create_model(name, num_classes=classes, **options).eval()
    scramble(net)
    return net


@pytest.mark.parametrize(("name", "size", "levels"), KINDS, ids=[kind[0] for kind in KINDS])
def test_timms_file_gives_timms_scores_and_maps(
    name: str, size: tuple[int, int], levels: list[str], tmp_path: Path
) -> None:
    theirs, ours = theirs_of(name), build(name)
    safetensors.torch.save_model(theirs, str(tmp_path / "model.safetensors"))
    for layout in (None, "timm"):
        report = load_weights(ours, tmp_path / "model.safetensors", strict=True, layout=layout)
        assert (report.layout, report.missing, report.unexpected, report.mismatched) == ("timm", [], [], {})
    assert count_parameters(ours) == count_parameters(theirs)
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        out, expected = ours(images), theirs(images)
    torch.testing.assert_close(out.raw, expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(out.features["logits"].flatten(1), out.raw)
    assert list(out.features) == list(ours.levels) == [*levels, "logits"]
    for level in levels:
        facts = ours.levels[level]
        sides = [(side // facts.stride, -(-side // facts.stride)) for side in size]
        assert out.features[level].shape[1] == facts.channels, level
        assert all(side in pair for side, pair in zip(out.features[level].shape[2:], sides, strict=True)), level
    arch = ARCH.validate_python({"family": "timm", "backbone": f"timm:{name}"})
    known = {one.name: (one.channels, one.stride) for one in levels_of(arch, CLASSES)}
    assert known == {level: (one.channels, one.stride) for level, one in ours.levels.items()}
    assert (arch_label(arch), arch_summary(arch)) == (name, f"timm:{name}")


@pytest.mark.parametrize(
    ("name", "size", "levels"), [kind for kind in KINDS if kind[2]], ids=lambda value: str(value)[:20]
)
def test_the_maps_are_those_of_timms_own_extractor(name: str, size: tuple[int, int], levels: list[str]) -> None:
    """Which levels those are is counted here anew: the last map of each stride, or every quarter of a row of blocks."""
    ours = build(name)
    scramble(ours)
    facts = timm_facts(f"timm:{name}")
    options = {"strict_img_size": False} if facts is not None and facts.sizes == "asked" else {}
    net = timm.create_model(name, num_classes=0, features_only=True, **options)
    strides = net.feature_info.reduction() if levels[0] != "b3" and levels[0] != "b2" else []
    if strides:
        wanted = [len(strides) - 1 - strides[::-1].index(2 ** int(level[1:])) for level in levels]
    else:
        wanted = [int(level[1:]) - 1 for level in levels]
    extractor = timm.create_model(name, num_classes=0, features_only=True, out_indices=wanted, **options).eval()
    state = {key.removeprefix("backbone.net."): value for key, value in ours.state_dict().items()}
    keys = extractor.state_dict().keys()
    named = {key: next(own for own in (key, key.removeprefix("model."), _unflat(key)) if own in state) for key in keys}
    extractor.load_state_dict({key: state[own] for key, own in named.items()})
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        expected, found = extractor(images), ours(images).features
    for level, wanted_map in zip(levels, expected, strict=True):
        own = found[level]
        torch.testing.assert_close(
            own, wanted_map.permute(0, 3, 1, 2) if wanted_map.shape[1:] != own.shape[1:] else wanted_map,
            rtol=1e-6, atol=1e-6,
        )  # fmt: skip


def _unflat(key: str) -> str:
    """`stages_0.x`, as an extractor that takes a network apart has it, is the network's `stages.0.x`."""
    stem, _, rest = key.partition(".")
    name, _, number = stem.rpartition("_")
    return f"{name}.{number}.{rest}"


def test_the_committed_facts_are_those_of_this_timm() -> None:
    models = load_timm_models()
    known = {*models.classifiers, *(name for names in models.no_classifiers.values() for name in names)}
    assert known == set(timm.list_models()), "run `python -m acamkd_core.models.timm_facts --missing` and commit"
    assert not set(models.classifiers) & {name for names in models.no_classifiers.values() for name in names}
    for name in [*(kind[0] for kind in KINDS), "gemma4_vit_167m_enc", "inception_v3"]:
        assert try_classifier(name, timm_facts(f"timm:{name}")) == (
            models.classifiers.get(name) or models.reason(name, classifier=True)
        ), name


def test_a_network_of_other_classes_is_refused_as_a_teacher_and_its_trunk_starts_a_student(tmp_path: Path) -> None:
    theirs = theirs_of("test_convnext", classes=10)
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    with pytest.raises(CoreError) as error:
        load_weights(build("test_convnext"), tmp_path / "x.pth", strict=True, field="teacher.weights")
    assert (error.value.code, error.value.info.value) == ("weights.other_classes", 10)
    for classes in (CLASSES, 10):  # of as many classes too: a start is a start
        student = build("test_convnext", classes)
        before = {key: value.clone() for key, value in student.state_dict().items()}
        report = load_weights(student, tmp_path / "x.pth", backbone_only=True)
        assert (report.layout, report.missing, report.unexpected, report.mismatched) == ("timm", [], [], {})
        changed = {key for key, value in student.state_dict().items() if not torch.equal(value, before[key])}
        assert not any(key.startswith("backbone.net.head.fc.") for key in changed)
        assert "backbone.net.stages.3.blocks.0.conv_dw.weight" in changed


def test_our_own_files_come_back_whole(tmp_path: Path) -> None:
    first, second = build("deit_tiny_distilled_patch16_224"), build("deit_tiny_distilled_patch16_224")
    torch.save(first.state_dict(), tmp_path / "x.pth")
    report = load_weights(second, tmp_path / "x.pth", strict=True)
    assert (report.layout, report.missing, report.unexpected) == ("native", [], [])


@pytest.mark.parametrize("name", ["test_resnet", "deit_tiny_distilled_patch16_224"])
def test_the_head_is_what_timm_calls_the_classifier(name: str) -> None:
    """A placebo teacher keeps all but the head, and a student can inherit it: both of them where there are two."""
    teacher, fresh, student = build(name), build(name), build(name)
    for model in (teacher, fresh, student):
        scramble(model)
    drawn = {key: value.clone() for key, value in fresh.state_dict().items()}
    keep_head(fresh, teacher)
    own = {key for key, value in fresh.state_dict().items() if torch.equal(value, drawn[key]) and value.dim() == 2}
    words = {"test_resnet": ["fc"], "deit_tiny_distilled_patch16_224": ["head", "head_dist"]}[name]
    assert {key for key in own if key.startswith("backbone.net.") and len(drawn[key]) == CLASSES} == {
        f"backbone.net.{word}.weight" for word in words
    }
    images = torch.randn(2, 3, *(classifier_facts(f"timm:{name}").size))  # type: ignore[union-attr]
    with torch.no_grad():
        last = list(teacher.levels)[-2]
        assert torch.equal(fresh(images).features[last], teacher(images).features[last])
        assert not torch.equal(fresh(images).raw, teacher(images).raw)
    assert inherit(student, teacher, "head") == f"{2 * len(words)} of {2 * len(words)} tensors from the teacher"
    assert all(torch.equal(student.state_dict()[f"backbone.net.{w}.weight"], teacher.state_dict()[f"backbone.net.{w}.weight"]) for w in words)  # fmt: skip


def test_nothing_enters_a_network_but_its_scores() -> None:
    model = build("test_resnet")
    out = model(torch.randn(2, 3, 64, 64))
    assert entry_levels("timm", "timm:test_resnet") == ("logits",)
    assert [name for name, level in model.levels.items() if level.onward] == ["logits"]
    assert torch.equal(model.onward({"logits": out.features["logits"]})[0].raw, out.raw)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet", "mobilenetv3_small_050"])
def test_stages_freeze_up_to_their_level_and_no_further(name: str) -> None:
    model = build(name).train()
    model.freeze(2, norm=False)
    out = model(torch.randn(2, 3, 64, 64))
    assert not out.features["c2"].requires_grad
    assert not out.features["c3"].requires_grad
    assert out.features["c4"].requires_grad
    out.raw.sum().backward()
    still = {id(p) for stage in model.backbone.stages()[:2] for p in stage.parameters()}
    assert still == {id(p) for p in model.parameters() if not p.requires_grad}
    assert all(p.grad is not None for p in model.parameters() if id(p) not in still)


def test_a_network_without_stages_freezes_its_norms_only() -> None:
    model = build("test_vit")
    model.freeze(0, norm=True)
    with pytest.raises(CoreError) as error:
        model.freeze(1, norm=False)
    assert (error.value.code, error.value.info.field) == ("student.freeze_stages", "student.freeze.stages")


def test_one_image_is_refused_where_batch_norm_has_one_value(tmp_path: Path) -> None:
    images = torch.randn(1, 3, 32, 32)
    with pytest.raises(CoreError) as error:
        build("test_resnet").train()(images)
    assert (error.value.code, error.value.info.field) == ("model.batch_of_one", "batch.global_size")
    build("test_resnet").train()(torch.randn(1, 3, 64, 64))
    build("test_vit").train()(images)  # it has no batch norm


def test_a_machine_without_timm_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # what `import` finds where it is not installed
    with pytest.raises(CoreError) as error:
        build("test_resnet")
    assert (error.value.code, error.value.info.field) == ("model.no_timm", "arch.backbone")


def test_multiply_adds_are_counted_of_the_whole_network() -> None:
    """ViT by hand: the patch embedding, four products and two of attention a block, the classifier."""
    model = build("test_vit")
    tokens, dim, depth = (64 // 16) ** 2 + 1, 64, 6
    block = tokens * dim * (4 * dim + 2 * 3 * dim) + 2 * tokens * tokens * dim  # test_vit's MLP is three times as wide
    assert count_macs(model, 64, 64) == (tokens - 1) * 3 * 256 * dim + depth * block + dim * CLASSES


# What a job is refused for, or what follows from it, before anything is built.

BASE: dict[str, Any] = {"dataset": {"format": "image_folder", "root": "x"}}


def problem(**job: Any) -> tuple[str | None, str, str]:
    with pytest.raises(SpecInvalid) as error:
        parse_job({**BASE, **job})
    (found,) = error.value.problems
    return found.field, found.message, found.hint or ""


def network(name: str) -> dict[str, Any]:
    return {"arch": {"family": "timm", "backbone": f"timm:{name}"}}


def parsed(**job: Any) -> JobSpec:
    spec = parse_job({**BASE, **job})
    assert isinstance(spec, JobSpec)
    return spec


@pytest.mark.parametrize(
    ("backbone", "message", "hint"),
    [
        ("timm:convnext_tinny", "has no 'convnext_tinny'", "timm:convnext_tiny"),
        ("timm:resnet18.a1_in1k", "names weights", "weights: timm:resnet18.a1_in1k"),
        ("timm:gemma4_vit_167m_enc", "cannot be a classifier: it makes no class scores", "near it"),
        ("convnext_tiny", "unknown backbone 'convnext_tiny'", "timm:NAME"),
    ],
)
def test_a_name_that_cannot_be_is_refused_at_submit(backbone: str, message: str, hint: str) -> None:
    found = problem(student={"arch": {"family": "timm", "backbone": backbone}})
    assert found[0] == "student.arch.backbone"
    assert message in found[1]
    assert hint in found[2]


def test_a_network_of_one_size_decides_on_the_jobs_size() -> None:
    teacher = {**network("vit_small_patch16_384"), "weights": "x.safetensors"}
    assert parsed(student="resnet18", teacher=teacher, distill="logit").augment.size == (384, 384)
    assert parsed(student="resnet18").augment.size is None
    found = problem(student="resnet18", teacher=teacher, distill="logit", augment={"size": [224, 224]})
    assert found[0] == "augment.size"
    assert "the teacher timm:vit_small_patch16_384 takes images of 384 x 384 only, not 224 x 224" in found[1]
    assert found[2] == "augment: {size: [384, 384]}, or teacher: {size: [384, 384]}"
    found = problem(student=network("deit_tiny_patch16_224"), teacher=teacher, distill="logit")
    assert "which is all that the other network takes" in found[1]
    found = problem(student="resnet18", teacher=teacher, distill="logit", augment={"short_side": 256})
    assert (found[0], found[2]) == ("augment.short_side", "at least 384")


def test_sizes_that_break_a_network_are_refused() -> None:
    found = problem(student=network("swin_tiny_patch4_window7_224"), augment={"size": [200, 224]})
    assert (found[0], found[2]) == ("augment.size", "augment: {size: [192, 224]}")
    found = problem(student=network("inception_v3"), augment={"size": [64, 64]})
    assert "halves images too often for 64 x 64" in found[1]
    assert found[2] == "augment: {size: [96, 96]}, or larger"
    assert parsed(student=network("test_convnext"), augment={"size": [33, 47]}).augment.size == (33, 47)


def test_timms_weights_alone_say_the_network() -> None:
    spec = parsed(student="mobilenet_v2-1.0", teacher="timm:deit_tiny_patch16_224.fb_in1k", distill="logit")
    assert spec.teacher is not None
    assert spec.teacher.arch == ARCH.validate_python(network("deit_tiny_patch16_224")["arch"])
    assert (spec.task, spec.augment.size) == ("classification", (224, 224))
    again = JobSpec.model_validate(spec.model_dump())
    assert again.teacher == spec.teacher
    field, message, _ = problem(student="resnet18", teacher="timm:gemma4_vit_167m_enc", distill="logit")
    assert (field, "makes no class scores" in message) == ("teacher.weights.timm", True)


@pytest.mark.parametrize(("name", "level"), [("test_vit", "b6"), ("test_convnext", "c5"), ("levit_128s", "c6")])
def test_methods_that_need_positions_look_at_the_last_map(name: str, level: str) -> None:
    teacher = {**network("test_resnet"), "weights": "x"}
    size = {"augment": {"size": [224, 224]}}
    spec = parsed(student=network(name), teacher=teacher, distill=["acam", "logit"], **size)
    assert [term.at for term in spec.distill] == [(level,), ("logits",)]


def test_timm_names_imagenets_classes_by_wordnet_id() -> None:
    names = timm_classes("resnet18.a1_in1k", "teacher.weights")
    assert (len(names), names[0], names[999]) == (1000, "n01440764", "n15075141")
    assert len(timm_classes("vit_tiny_patch16_224.augreg_in21k", "teacher.weights")) == 21843
    assert timm_classes("vit_base_patch16_siglip_224.webli", "teacher.weights") == []
