"""Teachers that are programs (.pt2): the same numbers as the network in torch, whole jobs, and no code where it may not run."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from acamkd_core.models.base import TaskModel
from acamkd_core.models.program_runtime import named_outputs
from acamkd_core.models.registry import build_model
from acamkd_core.spec.archs import Arch
from acamkd_core.spec.native import read_native_header
from tests import program_files as programs
from tests.acamkd_core.engine.onnx_files import native_network
from tests.acamkd_core.engine.test_detection_run import BASE as DETECTION
from tests.acamkd_core.engine.world import BASE, TERMS, World, go, kinds, points, stopped_at_five, taught_alike

EXPECT = {"miou": 10.0, "tolerance": 100.0}
STRANGE: dict[str, Any] = {"features": {0: "c2"}, "raw": 1}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class Exported(nn.Module):
    """A network of ours without its own normalisation, as others would hand it over."""

    def __init__(self, network: TaskModel, levels: list[str]) -> None:
        super().__init__()
        network.normalise = nn.Identity()  # type: ignore[assignment]
        self.network, self.levels = network, levels

    def forward(self, images: Tensor) -> Any:
        out = self.network(images)
        maps = {level: out.features[level] for level in self.levels}
        return {"maps": maps, "scores": out.raw} if isinstance(out.raw, Tensor) else maps


@pytest.fixture(scope="module")
def own(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world's teacher as a program."""
    network = Exported(native_network(world.teacher), ["c4", "c5", "aspp"])
    return programs.save(tmp_path_factory.mktemp("pt2") / "teacher.pt2", network)


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return programs.save(tmp_path_factory.mktemp("pt2") / "strange.pt2")


def teacher(path: Path, told: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"weights": str(path), "allow_code": True, "pt2": told or STRANGE, "expect": EXPECT} | more


def test_a_program_teaches_exactly_as_the_network_in_torch(world: World, own: Path, tmp_path: Path) -> None:
    header = read_native_header(world.teacher)
    assert header is not None
    outputs = {"features": {f"maps.{level}": level for level in ("c4", "c5", "aspp")}, "raw": "scores"}
    told: dict[str, Any] = {"distill": TERMS, "evaluation": {"every": 4, "panels": 1}, "exports": ["safetensors"]}
    given = teacher(own, outputs, preprocess=header.preprocess.model_dump(mode="json"))
    result, events = go(tmp_path / "pt2", world.folder, teacher=given, **told)
    assert result.status == "succeeded", result.error
    reference, expected = go(tmp_path / "torch", world.folder, teacher=world.taught(), **told)
    assert reference.status == "succeeded", reference.error

    resolved = taught_alike(events, expected)
    assert {panel.kind for panel in kinds(events, "panel")} >= {"teacher", "mask_spatial"}

    digest = hashlib.sha256(own.read_bytes()).hexdigest()
    assert resolved.spec["teacher"]["pt2"]["sha256"] == resolved.automatic["teacher.pt2.sha256"] == digest
    assert resolved.spec["teacher"]["allow_code"] is True
    profile = {event.role: event for event in kinds(events, "profile")}["teacher"]
    assert (profile.arch, profile.macs, profile.parameters) == ("program teacher.pt2", None, 306_171)
    assert "cpu by torch.export, 1 thread" in profile.latency_conditions
    assert f"runs the code of teacher.pt2, sha256 {digest}" in [event.detail for event in kinds(events, "stage")]
    with zipfile.ZipFile(tmp_path / "pt2" / "exports" / "bundle.zip") as bundle:
        files = {name.partition("/")[2]: bundle.read(name).decode(errors="replace") for name in bundle.namelist()}
    assert "| Teacher | program teacher.pt2 (0.31 M parameters) |" in files["README.md"]
    assert f"a program, `teacher.pt2`, sha256 `{digest}`: its code ran" in files["README.md"]
    facts = json.loads(files["config.json"])["teacher_program"]
    assert facts == {"file": "teacher.pt2", "sha256": digest, "ran_code": True}


def test_a_stopped_run_goes_on_bit_for_bit_and_only_with_the_same_program(
    world: World, strangers: Path, tmp_path: Path
) -> None:
    path = tmp_path / "teacher.pt2"
    path.write_bytes(strangers.read_bytes())
    common: dict[str, Any] = {"teacher": teacher(path), "distill": ["logit", {"method": "acam", "at": "c2"}]}
    whole, all_events = go(tmp_path / "whole", world.folder, **common)
    assert whole.status == "succeeded", whole.error

    checkpoint, early = stopped_at_five(tmp_path / "a", world.folder, **common)
    second, late = go(tmp_path / "b", world.folder, resume=checkpoint, **common)
    assert second.status == "succeeded", second.error
    assert points(early) | points(late) == points(all_events)
    assert second.weights_digest == whole.weights_digest

    programs.rewritten(strangers, path, lambda name, content: content)  # the same program in other bytes
    other, _ = go(tmp_path / "c", world.folder, resume=checkpoint, **common)
    assert other.error is not None
    assert other.error.code == "checkpoint.other_spec"


def test_crops_half_precision_of_the_student_and_maskd(world: World, tmp_path: Path) -> None:
    """Dynamic sides; the program keeps its own type under the student's autocast and channels-last images."""
    path = programs.save(tmp_path / "free.pt2", sides=True)
    result, events = go(
        tmp_path / "a", world.folder, teacher=teacher(path), augment=BASE["augment"] | {"crop": [32, 32]},
        distill=["logit", {"method": "maskd", "at": "logits", "token_iterations": 2}], schedule={"iterations": 2},
        train={"precision": "bf16", "channels_last": True},
    )  # fmt: skip
    assert result.status == "succeeded", result.error
    assert kinds(events, "resolved")[0].pairs[0]["teacher"] == [11, 4]
    assert "loss/maskd" in {name for _, name in points(events)}


def script(path: Path) -> Path:
    torch.jit.trace(programs.Segmenter().eval(), torch.rand(2, 3, 48, 64)).save(path)
    return path


def state(path: Path) -> Path:
    torch.save(programs.Segmenter().state_dict(), path)
    return path


def junk(path: Path) -> Path:
    path.write_bytes(b"no archive")
    return path


def future(path: Path) -> Path:
    return programs.rewritten(programs.save(path.with_name("now.pt2")), path, programs.of_the_future)


REFUSED: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str, str, str]] = {
    "batch": (lambda p: programs.save(p, batch=False), {}, "pt2.fixed_batch", "teacher.weights", "batches of 2 only"),
    "hidden batch": (
        lambda p: programs.save(p, programs.FirstImage()), {}, "pt2.fixed_batch", "teacher.weights", "its batch is fixed",
    ),
    "size": (lambda p: programs.save(p, size=(32, 32)), {}, "pt2.fixed_size", "augment.size", "takes images of 32x32"),
    "inputs": (
        lambda p: programs.save(p, programs.TwoInputs(), more=(torch.ones(1),)), {}, "pt2.input", "teacher.weights",
        "one floating-point tensor",
    ),
    "ids": (
        lambda p: programs.save(p, programs.Ids()), {"raw": 0}, "pt2.no_output", "teacher.pt2.raw",
        "no output '0' of floating-point",
    ),
    "output": (
        programs.save, {"raw": 1, "features": {"c9": "c5"}}, "pt2.no_output", "teacher.pt2.features", "no output 'c9'",
    ),
    "classes": (programs.save, {"raw": 0}, "teacher.other_classes", "teacher", "scores 8 classes"),
    "infinite": (
        lambda p: programs.save(p, programs.NotFinite()), STRANGE, "weights.not_finite", "teacher.weights", "not finite",
    ),
    "TorchScript": (script, {}, "pt2.unreadable", "teacher.weights", "no program of torch.export"),
    "state dict": (state, {}, "pt2.unreadable", "teacher.weights", "no program of torch.export"),
    "junk": (junk, {}, "pt2.unreadable", "teacher.weights", "no program of torch.export"),
    "future": (future, {}, "pt2.unreadable", "teacher.weights", "which torch 9.0.0 has written"),
    "digest": (programs.save, STRANGE | {"sha256": "0" * 64}, "pt2.other_digest", "teacher.pt2.sha256", "its sha256 is"),
    "missing": (lambda p: p, {}, "path.missing", "teacher.weights", "no such program"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_training(world: World, tmp_path: Path, name: str) -> None:
    make, told, code, field, words = REFUSED[name]
    given = teacher(make(tmp_path / "teacher.pt2"), told or STRANGE)
    result, events = go(tmp_path / "a", world.folder, teacher=given, distill=["logit"])
    assert result.error is not None
    assert (result.error.code, result.error.field, result.reason) == (code, field, "spec_or_data"), result.error
    assert words in result.error.message
    assert result.error.hint or name == "infinite" or name == "missing"
    assert not kinds(events, "checkpoint")
    assert not any("Traceback" in event.message for event in kinds(events, "log"))


def test_code_runs_from_the_folders_for_programs_alone(world: World, strangers: Path, tmp_path: Path) -> None:
    """The planted pickle makes a file when it is loaded: inside the folders it does, or the others would prove nothing."""
    folder, outside = tmp_path / "programs", tmp_path / "elsewhere"
    folder.mkdir()
    outside.mkdir()
    marker = tmp_path / "ran"
    path = programs.poisoned(strangers, outside / "teacher.pt2", marker)
    (folder / "link.pt2").symlink_to(path)
    for weights, roots, code in (
        (path, [], "pt2.off"),
        (path, [folder], "path.outside_roots"),
        (folder / ".." / "elsewhere" / "teacher.pt2", [folder], "path.outside_roots"),
        (folder / "link.pt2", [folder], "path.outside_roots"),
    ):
        result, _ = go(
            tmp_path / "a", world.folder, teacher=teacher(weights), distill=["logit"], code_roots=roots
        )  # fmt: skip
        assert result.error is not None
        assert (result.error.code, result.error.field, result.reason) == (code, "teacher.weights", "spec_or_data")
        assert result.error.hint is not None
        assert not marker.exists()
    # By the name of other weights it is read as tensors, which run nothing.
    (outside / "teacher.pth").symlink_to(path)
    named = {"arch": BASE["student"]["arch"], "weights": str(outside / "teacher.pth")}
    result, _ = go(tmp_path / "a", world.folder, teacher=named, distill=["logit"], code_roots=[outside])
    assert result.status == "failed"
    assert result.reason == "spec_or_data", result.error
    assert not marker.exists()

    result, _ = go(tmp_path / "a", world.folder, teacher=teacher(path), distill=["logit"], code_roots=[outside])
    assert result.error is not None
    assert result.error.code == "pt2.unreadable"
    assert marker.exists()


def test_a_detector_teaches_by_its_pyramid(world: World, tmp_path: Path) -> None:
    parsed: Any = TypeAdapter(Arch).validate_python(DETECTION["student"]["arch"])
    torch.manual_seed(0)
    network = Exported(build_model(parsed, num_classes=3), ["p3", "p4"])
    path = programs.save(tmp_path / "teacher.pt2", network, (64, 96))
    given = {"weights": str(path), "allow_code": True, "pt2": {"features": {"p3": "p3", "p4": "p4"}}}
    job = DETECTION | {"exports": [], "schedule": {"iterations": 2}}
    terms = [{"method": "fgd", "at": ["p3", "p4"]}, {"method": "cwd", "at": ["p3"]}]
    result, events = go(tmp_path / "a", world.folder, **(job | {"teacher": given, "distill": terms}))
    assert result.status == "succeeded", result.error
    assert "teacher.unscored" in [event.info.code for event in kinds(events, "alarm")]
    for told, code in (({"raw": "p3"}, "pt2.no_scores"), ({}, "pt2.no_features")):
        refused, _ = go(tmp_path / "b", world.folder, **(job | {"teacher": given | {"pt2": told}, "distill": terms}))
        assert refused.error is not None
        assert refused.error.code == code


def test_outputs_have_names() -> None:
    a, b, c = (torch.zeros(1) for _ in range(3))
    assert dict(named_outputs(a)) == {"0": a}
    assert dict(named_outputs((a, [b, None, c]))) == {"0": a, "1.0": b, "1.2": c}
    assert dict(named_outputs({"out": a, "maps": {"c5": b}})) == {"out": a, "maps.c5": b}
