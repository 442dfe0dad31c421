"""Options that save memory or time: the same numbers, or a fall-back that is said aloud."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from acamkd_core.engine.checkpoint import Position
from acamkd_core.engine.parts import Parts
from acamkd_core.engine.savings import recomputed
from acamkd_core.engine.teacher import Teacher
from acamkd_core.models.registry import build_model
from acamkd_core.spec.errors import SpecInvalid
from acamkd_core.spec.job import parse_job
from acamkd_core.spec.native import NativeHeader
from tests.acamkd_core.engine.test_trainer import go as train_toy
from tests.acamkd_core.engine.test_trainer import series, spec
from tests.acamkd_core.engine.toy import toy_parts
from tests.acamkd_core.engine.world import BASE, World, go, kinds, points

STILL = {"flip": 0.0, "colour": 0.0, "scale": [1.0, 1.0]}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def losses(events: list[Any]) -> dict[tuple[int, str], float | None]:
    return {key: value for key, value in points(events).items() if key[1].startswith("loss/")}


@pytest.mark.parametrize(
    "arch",
    [
        {"family": "deeplabv3", "width": 0.35, "aspp_channels": 16},
        {"family": "lraspp", "head_channels": 16},
        {"family": "fcos", "backbone": "resnet18", "fpn_channels": 64, "head_depth": 1},
    ],
    ids=lambda arch: arch["family"],
)
def test_recomputed_activations_give_the_same_gradients_and_statistics(arch: dict[str, Any]) -> None:
    """To the last bit, batch norm's running statistics and dropout among them; and the second pass really happens."""
    header = NativeHeader.model_validate({"arch": arch, "num_classes": 3})
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def step(wanted: bool) -> tuple[nn.Module, int, float]:
        torch.manual_seed(0)
        model = build_model(header.arch, num_classes=3).train()
        with recomputed(model, wanted) as blocks:
            passes = 0

            def count(*_: Any) -> None:
                nonlocal passes
                passes += 1

            norms = [module for module in model.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
            for norm in norms:
                norm.register_forward_hook(count)
            torch.manual_seed(1)
            sum(level.square().mean() for level in model(images).features.values()).backward()
        return model, blocks, passes / len(norms)

    plain, none, once = step(False)
    saved, blocks, twice = step(True)
    assert none == 0
    assert blocks >= 8
    assert once == 1
    assert 1.5 < twice < 2  # the stem is no block, and a pass ends where nothing more is needed
    for (name, ours), (_, theirs) in zip(saved.named_parameters(), plain.named_parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name
        assert ours.grad is None or torch.equal(ours.grad, theirs.grad), name
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, saved.state_dict()[name]), name
    saved.eval()  # the patch is gone: what is exported and profiled is the plain network
    assert not any("forward" in vars(module) for module in saved.modules())


def test_a_run_with_recomputed_activations_has_the_same_series(world: World, tmp_path: Path) -> None:
    common = {"teacher": world.taught(), "distill": "acam", "train": {"ema": 0.9}}
    plain, theirs = go(tmp_path / "a", world.folder, **common)
    saved, ours = go(tmp_path / "b", world.folder, **(common | {"train": {"ema": 0.9, "grad_checkpoint": True}}))
    assert saved.status == "succeeded", saved.error
    assert points(ours) == without_pull(points(theirs))
    assert saved.weights_digest == plain.weights_digest


def without_pull(found: dict[tuple[int, str], Any]) -> dict[tuple[int, str], Any]:
    """What is computed again or compiled cannot be gone back through twice, so that no pull is measured."""
    assert any(name == "kd/pull" for _, name in found)
    return {key: value for key, value in found.items() if key[1] not in ("kd/pull", "kd/agreement")}


def calm() -> Any:
    """Toy networks without dropout, whose masks a compiler draws in its own way."""
    parts = toy_parts(6, 6)
    parts.student.body[3] = nn.Identity()  # type: ignore[attr-defined]
    return parts


@pytest.mark.long
@pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler, and this machine has no g++"
)
def test_a_compiled_student_learns_the_same(tmp_path: Path) -> None:
    job = {"schedule": {"iterations": 6}}
    eager, theirs = train_toy(calm(), tmp_path / "a", spec(**job))
    fast, ours = train_toy(calm(), tmp_path / "b", spec(**job, train={"compile": True}))
    assert [e.message for e in kinds(ours, "log") if "compiled" in e.message] == [
        "the student's forward pass is compiled"
    ]
    wanted = without_pull(series(theirs))
    assert series(ours).keys() == wanted.keys()
    for key, value in wanted.items():
        assert series(ours)[key] == pytest.approx(value, rel=1e-4, abs=1e-5), key
    for name, tensor in eager.last_student.items():
        torch.testing.assert_close(fast.last_student[name], tensor, rtol=1e-4, atol=1e-5)


def test_without_a_compiler_the_run_goes_on_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without g++, as PyTorch finds it: by the path of its compiler. Numbers are those of a run without."""
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", (None, str(tmp_path / "no-such-compiler")))
    monkeypatch.setattr(config, "fx_graph_cache", False)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", "")
    torch._dynamo.reset()
    job = {"schedule": {"iterations": 6}}
    plain, theirs = train_toy(toy_parts(6, 6), tmp_path / "a", spec(**job))
    fallen, ours = train_toy(toy_parts(6, 6), tmp_path / "b", spec(**job, train={"compile": True}))
    torch._dynamo.reset()
    (alarm,) = kinds(ours, "alarm")
    assert (alarm.severity, alarm.info.code) == ("warning", "compile.unavailable")
    assert series(ours) == series(theirs)
    for name, tensor in plain.last_student.items():
        assert torch.equal(tensor, fallen.last_student[name])


def test_a_kept_output_is_the_one_that_would_be_computed(world: World, tmp_path: Path) -> None:
    """Bit for bit, over three epochs with accumulation, whether all samples, some or none are kept, and after a stop."""
    common: dict[str, Any] = {
        "teacher": world.taught(), "distill": [{"method": "acam"}, {"method": "feature_mse", "at": "aspp"}],
        "augment": STILL, "batch": {"global_size": 4, "accumulate": 2}, "schedule": {"iterations": 9},
        "evaluation": {"every": 9, "panels": 0},
    }  # fmt: skip
    runs = {}
    for gib in (0.5, 1e-5, 1e-9):
        runs[gib], events = go(tmp_path / str(gib), world.folder, **common, train={"cache_teacher": gib})
        assert runs[gib].status == "succeeded", runs[gib].error
        if gib == 0.5:
            theirs = losses(events)
            said = [e.message for e in kinds(events, "log") if "are kept" in e.message]
            assert said == ["the teacher's outputs are kept: 0.00 GiB for 12 samples"]
        else:
            assert [e.info.code for e in kinds(events, "alarm")].count("teacher.cache_small") == 1
            assert losses(events) == theirs
    assert len({run.weights_digest for run in runs.values()}) == 1
    # Without a cache the teacher's batches differ from single images in their last bits only; two steps on a batch of four
    # make up to 2e-4 of them, depending on the processor.
    _, events = go(tmp_path / "none", world.folder, **common)
    for key, value in losses(events).items():
        assert key[0] > 2 or theirs[key] == pytest.approx(value, rel=1e-3, abs=1e-5), key

    def at_5(events: list[Any]) -> bool:
        return any(event.iteration >= 5 for event in kinds(events[-3:], "metrics"))

    common["train"] = {"cache_teacher": 0.5}
    cut, early = go(tmp_path / "c", world.folder, stop=at_5, **common)
    assert (cut.status, cut.iteration) == ("stopped", 5)
    (checkpoint,) = (tmp_path / "c" / "checkpoints").glob("*5.ckpt")
    again, late = go(tmp_path / "d", world.folder, resume=checkpoint, **common)
    assert losses(early) | losses(late) == theirs
    assert again.weights_digest == runs[0.5].weights_digest


def test_what_is_kept_is_not_computed_again(tmp_path: Path) -> None:
    """Eight samples, three epochs: eight passes of the teacher, and none when they come again."""
    parts = toy_parts(6, 6)
    teacher = Teacher(parts, spec(augment=STILL, train={"cache_teacher": 1.0}), Position())
    passes: list[int] = []
    assert parts.teacher is not None
    parts.teacher.register_forward_hook(lambda module, inputs, output: passes.append(len(inputs[0])))
    images = torch.rand(8, 3, 16, 16)
    first = teacher(images, list(range(8)))
    for order in ([3, 1, 7, 0], [5, 2, 4, 6]):
        again = teacher(images[order], order)
        assert first is not None
        assert again is not None
        for name in ("body", "logits"):
            assert torch.equal(again.features[name], first.features[name][order])
    assert passes == [1] * 8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"augment": {"flip": 0.5}}, "flip: 0"),
        ({"augment": {**STILL, "scale": [0.5, 2.0], "colour": 0.1}}, "colour: 0, scale: [1, 1]"),
        ({"augment": {**STILL, "size": [48, 64], "crop": [32, 32]}}, "no crop"),
        ({"augment": STILL, "distill": {"method": "crosskd"}, "student": {"arch": {"family": "fcos"}}}, "crosskd"),
    ],
)
def test_samples_that_change_are_refused_a_cache(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        parse_job(BASE | {"teacher": "x.safetensors", "distill": "acam", "train": {"cache_teacher": 1}} | changes)
    assert [problem.field for problem in caught.value.problems] == ["train.cache_teacher"]
    assert said in caught.value.problems[0].message


def test_a_teacher_in_bf16_is_checked_and_the_choice_survives_a_resume(world: World, tmp_path: Path) -> None:
    common: dict[str, Any] = {"teacher": world.taught(), "distill": "acam"}
    fast = common | {"train": {"teacher_precision": "bf16"}}
    whole, events = go(tmp_path / "a", world.folder, **fast)
    assert [e.message for e in kinds(events, "log") if e.message.startswith("the teacher runs in bf16")]
    exact, theirs = go(tmp_path / "b", world.folder, **common)
    assert whole.weights_digest != exact.weights_digest  # it did run in another type
    assert losses(events)[1, "loss/total"] == pytest.approx(losses(theirs)[1, "loss/total"], rel=0.02)

    def at_5(events: list[Any]) -> bool:
        return any(event.iteration >= 5 for event in kinds(events[-3:], "metrics"))

    go(tmp_path / "c", world.folder, stop=at_5, **fast)
    (checkpoint,) = (tmp_path / "c" / "checkpoints").glob("*5.ckpt")
    again, late = go(tmp_path / "d", world.folder, resume=checkpoint, **fast)
    assert again.weights_digest == whole.weights_digest
    assert not [e for e in kinds(late, "log") if e.message.startswith("the teacher runs in")]


def test_a_teacher_that_loses_too_much_in_bf16_runs_in_fp32(tmp_path: Path) -> None:
    """A convolution whose output is a small signal on 100, which the next layer takes off: bf16 has steps of 0.5 there."""

    def parts() -> Parts:
        made = toy_parts(4, 4)
        body = made.teacher.body  # type: ignore[union-attr]
        with torch.no_grad():
            body[0].bias += 100  # type: ignore[index, operator]
            body[1].running_mean += 100  # type: ignore[index, operator]
        return made

    job = {"schedule": {"iterations": 4}}
    exact, _ = train_toy(parts(), tmp_path / "a", spec(**job, train={"teacher_precision": "fp32"}))
    fallen, events = train_toy(parts(), tmp_path / "b", spec(**job, train={"teacher_precision": "bf16"}))
    (alarm,) = [e for e in kinds(events, "alarm") if e.info.code == "teacher.precision"]
    assert alarm.info.message.startswith("the teacher runs in fp32: in bf16 its level body differs by")
    for name, tensor in exact.last_student.items():
        assert torch.equal(fallen.last_student[name], tensor)
    _, events = train_toy(toy_parts(4, 4), tmp_path / "c", spec(**job, train={"teacher_precision": "auto"}))
    assert len([e for e in kinds(events, "log") if e.message.startswith("the teacher runs in")]) == 1
