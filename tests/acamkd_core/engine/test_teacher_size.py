"""Whole jobs whose teacher sees the student's view at another size: scored, compared, resumed, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acamkd_core.engine.build import Built, build, load_data
from acamkd_core.engine.evaluate import evaluate
from acamkd_core.engine.parts import Run
from acamkd_core.models.resized import Resized
from acamkd_core.spec.errors import SpecInvalid
from acamkd_core.spec.job import JobSpec, parse_job
from acamkd_core.tasks.detection_decode import Detections
from tests import onnx_graphs
from tests import program_files as programs
from tests.acamkd_core.engine import test_detection_run as detection
from tests.acamkd_core.engine.test_detection_run import cache, teacher  # noqa: F401  (a detector that was trained)
from tests.acamkd_core.engine.world import BASE, World, go, kinds, points, stopped_at_five

LARGE = [96, 128]  # twice the scenes of `world`
SHORT: dict[str, Any] = {"schedule": {"iterations": 2}, "evaluation": {"every": 2, "panels": 1}}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def built(base: dict[str, Any], folder: Path, cache_folder: Path, **changes: Any) -> Built:
    spec = parse_job(base | changes)
    assert isinstance(spec, JobSpec)
    run = Run(folder, cache_folder)
    return build(load_data(spec, run), run, torch.device("cpu"))


def named(events: list[Any]) -> set[str]:
    return {name for step, name in points(events) if step == 2}


def test_a_segmenter_scores_as_on_images_resized_by_hand(world: World, tmp_path: Path) -> None:
    parts = built(BASE, tmp_path, world.folder, teacher=world.taught() | {"size": LARGE}, distill=["logit"]).parts
    assert isinstance(parts.teacher, Resized)

    def by_hand(model: nn.Module, images: Tensor) -> Tensor:
        assert images.shape[-2:] == (48, 64)
        logits = model(F.interpolate(images, size=(96, 128), mode="bilinear", align_corners=False)).raw
        return F.interpolate(logits, size=(48, 64), mode="bilinear", align_corners=False).argmax(dim=1)

    found = evaluate(parts.teacher, parts.task, parts.val, parts.device)
    wanted = evaluate(parts.teacher.inner, parts.task, parts.val, parts.device, predict=by_hand)
    plain = evaluate(parts.teacher.inner, parts.task, parts.val, parts.device)
    assert found is not None
    assert wanted is not None
    assert plain is not None
    assert (found.metrics, found.per_class) == (wanted.metrics, wanted.per_class)
    assert found.metrics != plain.metrics


def test_a_detector_scores_as_on_images_resized_by_hand(tmp_path: Path, cache: Path, teacher: Path) -> None:  # noqa: F811
    """The job's images have half the sides of those that the teacher learnt from."""
    given = detection.distilled(teacher)["teacher"] | {"size": [64, 96]}
    parts = built(detection.BASE, tmp_path, cache, augment={"size": [32, 48]}, teacher=given, distill=["pkd"]).parts
    assert isinstance(parts.teacher, Resized)
    seen: list[Detections] = []

    def by_hand(model: nn.Module, images: Tensor) -> list[Detections]:
        large = F.interpolate(images, size=(64, 96), mode="bilinear", align_corners=False)
        found = parts.task.decode(model, model(large), (64, 96))
        return [Detections(one.boxes / 2, one.scores, one.labels) for one in found]

    found = evaluate(parts.teacher, parts.task, parts.val, parts.device, each=seen.extend)
    wanted = evaluate(parts.teacher.inner, parts.task, parts.val, parts.device, predict=by_hand)
    assert found is not None
    assert wanted is not None
    assert found.metrics == wanted.metrics
    assert found.metrics["map"] > 0
    assert max(float(one.boxes.max()) for one in seen) <= 48


def test_a_segmenter_teaches_by_every_kind_of_method(world: World, tmp_path: Path) -> None:
    terms = [
        "logit", "acam", {"method": "cwd", "at": "c4"}, {"method": "maskd", "at": "logits", "token_iterations": 2},
        {"method": "pkd", "placebo": "random_head"},
    ]  # fmt: skip
    result, events = go(
        tmp_path, world.folder, teacher=world.taught() | {"size": LARGE}, distill=terms, **SHORT
    )  # fmt: skip
    assert result.status == "succeeded", result.error
    assert named(events) >= {"loss/logit", "loss/acam/spatial", "loss/cwd", "loss/maskd", "loss/pkd"}
    strides = {
        pair["teacher_level"]: (pair["student"][1], pair["teacher"][1]) for pair in kinds(events, "resolved")[0].pairs
    }
    own, half = strides["logits"]
    assert own == 2 * half
    profiles = {event.role: event for event in kinds(events, "profile")}
    assert "96x128" in profiles["teacher"].latency_conditions
    assert "48x64" in profiles["student"].latency_conditions
    # The same network as the student, on four times the pixels; pooled branches do not grow.
    assert 3.8 < profiles["teacher"].macs / profiles["student"].macs <= 4
    assert any(
        "the teacher sees 96x128 where the student sees 48x64" in event.message for event in kinds(events, "log")
    )
    assert {panel.kind for panel in kinds(events, "panel")} >= {"teacher", "mask_spatial"}


def test_its_own_size_changes_nothing_where_it_is_the_jobs(world: World, tmp_path: Path) -> None:
    terms: list[Any] = ["logit", "acam"]
    short = SHORT | {"evaluation": {"every": 2, "panels": 0}, "distill": terms}
    _, plain = go(tmp_path / "a", world.folder, teacher=world.taught(), **short)
    _, same = go(tmp_path / "b", world.folder, teacher=world.taught() | {"size": [48, 64]}, **short)
    assert points(plain) == points(same)


def test_a_stopped_run_goes_on_bit_for_bit_with_crops(world: World, tmp_path: Path) -> None:
    """Crops are seen at `teacher.size`, whole images by the same factor."""
    common: dict[str, Any] = {
        "teacher": world.taught() | {"size": [48, 40]}, "distill": ["acam"],
        "augment": {"scale": [0.5, 2.0], "crop": [32, 32]},
    }  # fmt: skip
    whole, all_events = go(tmp_path / "whole", world.folder, **common)
    assert whole.status == "succeeded", whole.error
    checkpoint, early = stopped_at_five(tmp_path / "a", world.folder, **common)
    second, late = go(tmp_path / "b", world.folder, resume=checkpoint, **common)
    assert second.status == "succeeded", second.error
    assert points(early) | points(late) == points(all_events)
    assert second.weights_digest == whole.weights_digest
    profile = {event.role: event for event in kinds(all_events, "profile")}["teacher"]
    assert "72x80" in profile.latency_conditions


def test_a_cache_keeps_the_levels_of_the_large_images(world: World, tmp_path: Path) -> None:
    result, events = go(
        tmp_path, world.folder, teacher=world.taught() | {"size": LARGE}, distill=[{"method": "cwd", "at": "c5"}],
        augment={"flip": 0}, train={"cache_teacher": 1.0, "grad_checkpoint": True}, **SHORT | {"schedule": {"iterations": 4}},
    )  # fmt: skip
    assert result.status == "succeeded", result.error
    assert any("the teacher's outputs are kept" in event.message for event in kinds(events, "log"))


def test_a_retinanet_on_large_images_teaches_an_ssdlite_on_small_ones(
    tmp_path: Path, cache: Path, teacher: Path  # noqa: F811
) -> None:  # fmt: skip
    """At twice the size p5 has the grid of the student's first map."""
    levels: dict[str, Any] = {"at": ["m1", "m2"], "teacher_at": ["p5", "p6"]}
    result, events = detection.go(
        tmp_path, cache, student={"arch": {"family": "ssdlite", "width": 0.35}},
        teacher=detection.distilled(teacher)["teacher"] | {"size": [128, 192]},
        distill=[{"method": name, **levels} for name in ("acam", "cwd", "fgd")], exports=[], **SHORT,
    )  # fmt: skip
    assert result.status == "succeeded", result.error
    assert named(events) >= {"loss/acam/spatial", "loss/cwd", "loss/fgd/foreground"}
    pairs = kinds(events, "resolved")[0].pairs
    assert {(pair["student_level"], pair["student"][1], pair["teacher"][1]) for pair in pairs} == {
        ("m1", 16, 16), ("m2", 32, 32),
    }  # fmt: skip
    assert "teacher/map" in result.metrics
    assert {panel.kind for panel in kinds(events, "panel")} >= {"teacher", "mask_spatial"}


def test_a_detector_of_the_same_family_with_crossed_heads_and_tokens(
    tmp_path: Path, cache: Path, teacher: Path  # noqa: F811
) -> None:  # fmt: skip
    at = ["p3", "p4", "p5"]
    result, events = detection.go(
        tmp_path, cache, teacher=detection.distilled(teacher)["teacher"] | {"size": [128, 192]}, exports=[],
        distill=[
            {"method": "crosskd", "at": at}, {"method": "maskd", "at": at, "token_iterations": 2},
            {"method": "fgd", "at": at}, {"method": "pkd", "at": at, "placebo": "other_image"},
        ], **SHORT,
    )  # fmt: skip
    assert result.status == "succeeded", result.error
    assert named(events) >= {"loss/crosskd/class", "loss/crosskd/box", "loss/maskd", "loss/fgd/foreground", "loss/pkd"}


def test_a_graph_of_a_fixed_size_teaches_jobs_of_another(world: World, tmp_path: Path) -> None:
    path = onnx_graphs.write(tmp_path / "fixed.onnx", onnx_graphs.segmenter())
    given: dict[str, Any] = {"weights": str(path), "expect": {"miou": 10.0, "tolerance": 100.0}}
    large: dict[str, Any] = {"augment": {"size": [96, 128]}, "distill": ["logit"]}
    refused, _ = go(tmp_path / "a", world.folder, teacher=given, **large)
    assert refused.error is not None
    assert (refused.error.code, refused.error.field) == ("onnx.fixed_size", "augment.size")
    assert str(refused.error.hint).startswith("teacher: {size: [48, 64]} shows it the job's images resized to that")
    result, events = go(tmp_path / "b", world.folder, teacher=given | {"size": [48, 64]}, **large, **SHORT)
    assert result.status == "succeeded", result.error
    assert kinds(events, "resolved")[0].pairs[0]["teacher"] == [11, 8]
    profile = {event.role: event for event in kinds(events, "profile")}["teacher"]
    assert "48x64" in profile.latency_conditions

    other, _ = go(tmp_path / "c", world.folder, teacher=given | {"size": [96, 128]}, **large)
    assert other.error is not None
    assert (other.error.code, other.error.field, other.error.hint) == (
        "onnx.fixed_size", "teacher.size", "teacher: {size: [48, 64]}",
    )  # fmt: skip
    crops: dict[str, Any] = {"augment": {"crop": [24, 32]}, "distill": ["logit"]}
    cropped, _ = go(tmp_path / "d", world.folder, teacher=given | {"size": [48, 64]}, **crops)
    assert cropped.error is not None
    assert (cropped.error.code, cropped.error.field) == ("onnx.fixed_size", "augment.crop")
    assert "it would see 96x128" in cropped.error.message


def test_a_program_of_a_fixed_size_teaches_jobs_of_another(world: World, tmp_path: Path) -> None:
    path = programs.save(tmp_path / "fixed.pt2", size=(32, 32))
    given: dict[str, Any] = {
        "weights": str(path), "allow_code": True, "pt2": {"features": {0: "c2"}, "raw": 1},
        "expect": {"miou": 10.0, "tolerance": 100.0},
    }  # fmt: skip
    result, _ = go(tmp_path / "a", world.folder, teacher=given | {"size": [32, 32]}, distill=["logit"], **SHORT)
    assert result.status == "succeeded", result.error
    other, _ = go(tmp_path / "b", world.folder, teacher=given | {"size": [64, 64]}, distill=["logit"])
    assert other.error is not None
    assert (other.error.code, other.error.field) == ("pt2.fixed_size", "teacher.size")


DETECTORS: dict[str, Any] = {
    "dataset": detection.DATA, "student": {"arch": detection.ARCH},
    "teacher": {"arch": detection.ARCH, "weights": "t.safetensors", "size": [128, 192]},
}  # fmt: skip
CLASSIFIERS: dict[str, Any] = {
    "dataset": {"format": "image_folder", "root": "shapes"}, "student": {"arch": {"family": "mobilenet_v2"}},
    "distill": ["logit"],
}  # fmt: skip


def vit(**more: Any) -> dict[str, Any]:
    return {"arch": {"family": "timm", "backbone": "timm:vit_small_patch16_384"}, "weights": "v.safetensors", **more}


@pytest.mark.parametrize(("job", "field", "words"), [
    (DETECTORS | {"distill": ["logit"]}, "distill.0.method", "candidate by candidate"),
    (DETECTORS | {"distill": ["pkd"], "augment": {"resize": {"short": 64, "max": 96}}}, "teacher.size", "keeps its own shape"),
    (DETECTORS | {"distill": ["pkd"], "teacher": DETECTORS["teacher"] | {"size": [4, 192]}}, "teacher.size.0", "greater"),
    (CLASSIFIERS | {"teacher": vit(size=[224, 224])}, "teacher.size", "takes images of 384 x 384 only, not 224 x 224"),
])  # fmt: skip
def test_specs_that_make_no_sense(job: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        parse_job(job)
    [problem] = caught.value.problems
    assert problem.field == field
    assert words in problem.message
    assert problem.hint or field == "teacher.size.0"


def test_a_network_of_one_size_leaves_the_jobs_size_alone() -> None:
    spec = parse_job(CLASSIFIERS | {"teacher": vit(size=[384, 384]), "augment": {"size": [224, 224]}})
    assert isinstance(spec, JobSpec)
    assert (spec.augment.size, spec.teacher_size) == ((224, 224), (384, 384))
    decided = parse_job(CLASSIFIERS | {"teacher": vit()})
    assert isinstance(decided, JobSpec)
    assert decided.augment.size == (384, 384)
    left_open = parse_job(CLASSIFIERS | {"teacher": vit(size=[384, 384])})
    assert isinstance(left_open, JobSpec)
    assert left_open.augment.size is None
