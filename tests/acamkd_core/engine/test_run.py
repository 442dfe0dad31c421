"""Whole runs on generated scenes: what is said in which order, what is kept, and what ends a run before it starts."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from acamkd_core.models.registry import build_model
from acamkd_core.models.state import read_state, weights_digest
from acamkd_core.spec.archs import DeepLabV3Arch
from acamkd_core.spec.events import parse_event
from acamkd_core.spec.native import read_native_header
from tests.acamkd_core.datasets.factories import save, write_folder
from tests.acamkd_core.engine.world import NET, SCENES, World, go, kinds, points, stopped_at_five


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_a_whole_run_says_everything_once_and_in_order(world: World, tmp_path: Path) -> None:
    result, events = go(
        tmp_path, world.folder, teacher=world.taught(), distill="acam", exports=["safetensors", "onnx"],
        evaluation={"every": 4, "panels": 2},
    )  # fmt: skip
    assert (result.status, result.reason, result.iteration) == ("succeeded", "done", 8)
    lines = [event.model_dump_json() for event in events]
    assert [parse_event(line).model_dump_json() for line in lines] == lines  # nothing is lost in the file

    stages = [event.stage for event in kinds(events, "stage") if event.stage != "data"]
    assert stages == ["build", "teacher_check", "train", "test", "export", "verify", "done"]
    scored = [(e.role, e.split, e.iteration) for e in kinds(events, "evaluation")]
    # The teacher before training; val selects; test once, at the end.
    assert scored == [("teacher", "val", 0), ("student", "val", 4), ("student", "val", 8), ("student", "test", 8)]
    assert events.index(kinds(events, "evaluation")[0]) < events.index(kinds(events, "checkpoint")[0])

    profile = {event.role: event for event in kinds(events, "profile")}
    network = build_model(DeepLabV3Arch.model_validate(NET), num_classes=11).eval()
    assert profile["student"].parameters == sum(p.numel() for p in network.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 48, 64))
    assert profile["student"].macs == counter.get_total_flops() // 2
    assert profile["teacher"].latency_conditions == "cpu, 1 thread, batch 1, 48x64, fp32, median of 15 runs"

    panels = kinds(events, "panel")
    assert {p.image for p in panels} == {0, 2}  # the same two of four at every evaluation
    for iteration in (4, 8):
        shown = [p.kind for p in panels if p.iteration == iteration and p.image == 0]
        once = ["image", "truth", "teacher"] if iteration == 4 else []
        assert sorted(shown) == sorted([*once, "prediction", "error", *["mask_spatial"] * 11, "mask_channel"])
    for panel in panels:
        with Image.open(tmp_path / panel.path) as picture:
            assert picture.size[0] >= 4
        if panel.kind.startswith("mask"):
            assert 0 <= panel.stats["min"] <= panel.stats["mean"] <= panel.stats["max"] <= 1

    names = {name for _, name in points(events)}
    assert names >= {
        "loss/task", "loss/acam/spatial", "loss/acam/channel", "loss/acam/diversity", "loss/total", "lr", "kd/share",
        "kd/mse_ratio", "mask/logits/spatial/effective_rank", "mask/logits/channel/mean", "val/miou", "val/iou/road",
        "test/miou",
    }  # fmt: skip
    for iteration in range(1, 9):
        terms = [
            v for (i, n), v in points(events).items() if i == iteration and n.startswith("loss/") and n != "loss/total"
        ]
        assert sum(terms) == pytest.approx(points(events)[iteration, "loss/total"], rel=1e-9)

    exports = {event.format: event for event in kinds(events, "export")}
    assert (exports["onnx"].verified, exports["safetensors"].verified, exports["zip"].verified) == (True, None, True)
    assert exports["onnx"].gate["images"] == 4
    best = max(e.metrics["miou"] for e in kinds(events, "evaluation") if (e.role, e.split) == ("student", "val"))
    assert result.metrics["best/miou"] == best == result.metrics["val/miou"]  # the best was exported
    assert result.metrics["export/onnx/miou"] == pytest.approx(best, abs=0.1)
    with zipfile.ZipFile(tmp_path / "exports" / "bundle.zip") as archive:
        inside = {name.split("/")[1] for name in archive.namelist()}
        card = archive.read("student/README.md").decode()
    assert inside == {
        "model.onnx", "model.safetensors", "predict.py", "requirements.txt", "labels.txt", "config.json", "README.md",
    }  # fmt: skip
    assert str(tmp_path) not in card
    # Method parameters never reach an export.
    state = read_state(tmp_path / "exports" / "model.safetensors")
    assert weights_digest(state) == result.weights_digest
    assert state.keys() == network.state_dict().keys()
    header = read_native_header(tmp_path / "exports" / "model.safetensors")
    assert header is not None
    assert list(header.class_names) == [c["name"] for c in kinds(events, "resolved")[0].dataset["classes"]]
    assert header.num_classes == 11


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stopped_run_goes_on_bit_for_bit_with_any_number_of_loader_processes(
    world: World, tmp_path: Path, workers: int
) -> None:
    """Real images, augmentation, channels-last, dropout, a method with noise of its own, 2 epochs and a bit."""
    common: dict[str, Any] = {
        "teacher": world.taught(),
        "distill": [{"method": "acam", "ablation": "noise"}, {"method": "feature_mse", "at": "aspp"}],
        "evaluation": {"every": 4, "panels": 1},
    }
    whole, all_events = go(tmp_path / "whole", world.folder, **common)
    split: dict[str, Any] = common | {"batch": {"global_size": 4, "workers": workers}}

    checkpoint, early = stopped_at_five(tmp_path / "a", world.folder, **split)
    second, late = go(tmp_path / "b", world.folder, resume=checkpoint, **split)
    assert second.status == "succeeded", second.error
    assert [event.iteration for event in kinds(late, "rewound")] == [5]
    assert not [event for event in kinds(late, "evaluation") if event.role == "teacher"]  # scored once a job
    assert points(early) | points(late) == points(all_events)
    assert second.weights_digest == whole.weights_digest
    assert second.metrics == whole.metrics


def test_memory_format_changes_no_value() -> None:
    """Scores and gradients, in float64 (kernels add up in another order) and without dropout (drawn in memory's order)."""
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        model = build_model(DeepLabV3Arch.model_validate(NET | {"aux_head": True}), num_classes=5).double().train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.to(memory_format=layout)  # type: ignore[call-overload]
        images = torch.rand(2, 3, 48, 64, dtype=torch.float64).contiguous(memory_format=layout)
        out = model(images)
        (out.raw.square().mean() + out.aux.square().mean()).backward()
        found.append([out.raw, *(p.grad for p in model.parameters())])
    assert found[1][0].is_contiguous(memory_format=torch.channels_last)
    for plain, last in zip(*found, strict=True):
        torch.testing.assert_close(plain, last, rtol=1e-8, atol=1e-12)


def test_a_run_takes_numbers_below_the_normal_ones_for_zero(world: World, tmp_path: Path) -> None:
    """They made ACAM-KD's step several times as long on CPUs: `python -m benchmarks.denormals`."""
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor has no such mode")
    tiny = torch.full((8,), 1e-39)
    assert (tiny * 1.0).ne(0).all()
    result, _ = go(tmp_path, world.folder, schedule={"iterations": 1})
    assert result.status == "succeeded", result.error
    assert (tiny * 1.0).eq(0).all()


def test_unlabelled_images_give_the_distillation_terms_only(world: World, tmp_path: Path) -> None:
    """Two labelled and many unlabelled images: some batches have no label at all, and still teach."""
    data = SCENES | {"train_images": 2, "unlabelled_images": 10}
    result, events = go(
        tmp_path, world.folder, dataset=data, teacher=world.taught(), distill="feature_mse", batch={"global_size": 2},
        schedule={"epochs": 1}, evaluation={"every": 6, "panels": 0},
    )  # fmt: skip
    assert result.status == "succeeded", result.error
    series = points(events)
    without = [i for i in range(1, 7) if series[i, "loss/task"] == 0.0]
    assert without
    assert all((series[i, "loss/feature_mse"] or 0) > 0 for i in range(1, 7))
    alone, events = go(
        tmp_path / "alone", world.folder, dataset=data, batch={"global_size": 2}, schedule={"epochs": 1},
        evaluation={"every": 6, "panels": 0},
    )  # fmt: skip
    assert alone.status == "succeeded", alone.error
    assert all(v is not None for v in points(events).values())


def before_a_step(result: Any, events: list[Any], code: str) -> Any:
    assert (result.status, result.reason) == ("failed", "spec_or_data"), result.error
    assert result.error.code == code
    assert kinds(events, "checkpoint") == []
    assert kinds(events, "result")[-1].error == result.error
    return result.error


def test_a_teacher_that_is_not_what_was_promised_stops_the_run(world: World, tmp_path: Path) -> None:
    job: dict[str, Any] = {"distill": "logit"}
    error = before_a_step(
        *go(tmp_path / "a", world.folder, teacher=world.taught(miou=90.0, tolerance=0.3), **job),
        "teacher.unexpected_score",
    )
    assert (error.field, "expected 90.00" in error.message) == ("teacher.expect", True)
    broken = {"weights": str(world.teacher), "preprocess": {"mean": [50, 50, 50]}}
    error = before_a_step(*go(tmp_path / "b", world.folder, teacher=broken, **job), "teacher.below_constant")
    assert "teacher.preprocess" in error.hint
    # With `expect` the user has said what to expect: an alarm, and the run goes on.
    broken["expect"] = {"miou": 5, "tolerance": 100}
    result, events = go(tmp_path / "c", world.folder, teacher=broken, schedule={"iterations": 1}, **job)
    assert result.status == "succeeded"
    assert "teacher.below_constant" in [event.info.code for event in kinds(events, "alarm")]


def test_classes_that_disagree_are_told_before_anything_is_trained(world: World, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "toy", {"train": 8, "val": 4}, size=(32, 40))
    job: dict[str, Any] = {"dataset": str(folder), "teacher": world.taught(), "distill": "logit"}
    error = before_a_step(*go(tmp_path / "a", tmp_path, **job), "teacher.other_classes")
    assert "11 classes" in error.message
    weights = {"class_weights": [1, 2]}
    error = before_a_step(*go(tmp_path / "b", tmp_path, dataset=str(folder), task_loss=weights), "task.class_weights")
    assert error.field == "task_loss.class_weights"
    (folder / "classes.json").write_text(json.dumps({"classes": ["road"], "ignore_index": 9}))
    for mask in (folder / "masks").rglob("*.png"):
        save(mask, np.zeros((32, 40), np.uint8))
    error = before_a_step(*go(tmp_path / "c", tmp_path, dataset=str(folder)), "model.classes")
    assert "background" in error.hint


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"batch": {"global_size": 50}}, "batch.too_large", "batch.global_size"),
        ({"teacher": "nowhere.pth", "distill": "logit"}, "weights.not_found", "teacher.weights.file"),
        ({"teacher": "job:x", "distill": "logit"}, "weights.needs_server", "teacher.weights"),
        ({"dataset": "/no/such/folder"}, "dataset.not_found", "dataset.root"),
        ({"resources": {"gpus": 1}}, "device.no_gpu", "resources.gpus"),
        ({"train": {"precision": "fp16"}}, "precision.fp16_on_cpu", "train.precision"),
        ({"train": {"teacher_precision": "fp16"}}, "precision.fp16_on_cpu", "train.teacher_precision"),
        ({"schedule": {"epochs": 1, "warmup_iterations": 3}}, "schedule.warmup", "schedule.warmup_iterations"),
    ],
)
def test_what_cannot_work_is_an_error_with_its_field(
    world: World, tmp_path: Path, changes: dict[str, Any], code: str, field: str
) -> None:
    assert before_a_step(*go(tmp_path, world.folder, **changes), code).field == field


def test_levels_that_do_not_exist(world: World, tmp_path: Path) -> None:
    term = {"method": "feature_mse", "at": ["c5", "c9"]}
    error = before_a_step(*go(tmp_path, world.folder, teacher=world.taught(), distill=[term]), "level.unknown")
    assert (error.field, error.value) == ("distill.0.at", "c9")
    assert "aspp" in error.hint


@pytest.mark.parametrize(
    ("device", "code"), [("cuda", "device.no_gpu"), ("cuda:9", "device.no_gpu"), ("tpu", "device.unknown")]
)
def test_devices_that_are_not_there(world: World, tmp_path: Path, device: str, code: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has one")
    before_a_step(*go(tmp_path, world.folder, device=device), code)


def test_a_stop_is_heard_while_the_teacher_is_scored(world: World, tmp_path: Path) -> None:
    def checking(events: list[Any]) -> bool:
        return any(event.type == "stage" and event.stage == "teacher_check" for event in events)

    result, events = go(tmp_path, world.folder, teacher=world.taught(), distill="logit", stop=checking)
    assert (result.status, result.iteration) == ("stopped", 0)
    assert kinds(events, "evaluation") == []


def test_masks_are_counted_level_by_level_when_left_to_us(world: World, tmp_path: Path) -> None:
    for at, resolved in ((["logits"], 11), (["aspp", "c5"], 6), (["aspp", "logits"], None)):
        _, events = go(
            tmp_path / "-".join(at), world.folder, teacher=world.taught(), distill=[{"method": "acam", "at": at}],
            schedule={"iterations": 1}, evaluation={"every": 1, "panels": 1},
        )  # fmt: skip
        assert kinds(events, "resolved")[0].spec["distill"][0]["masks"] == resolved
        shown = [p.caption.split()[0] for p in kinds(events, "panel") if p.kind == "mask_spatial"]
        assert {level: shown.count(level) for level in at} == {level: 11 if level == "logits" else 6 for level in at}
        places = [(p.iteration, p.image, p.kind, p.index) for p in kinds(events, "panel")]
        assert len(set(places)) == len(places)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_folder_that_cannot_be_written_is_no_bug_of_ours(world: World, tmp_path: Path) -> None:
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "model.safetensors.part").symlink_to("/dev/full")
    result, events = go(tmp_path, world.folder, schedule={"iterations": 1}, exports=["safetensors"])
    assert (result.status, result.reason) == ("failed", "spec_or_data")
    assert result.error is not None
    assert result.error.code == "disk.full"
    assert (tmp_path / kinds(events, "checkpoint")[-1].path).is_file()


def test_several_scales_are_a_second_score_beside_the_first(world: World, tmp_path: Path) -> None:
    """At the end only, under names of its own; the card says which number is which."""
    changes: dict[str, Any] = {"task_loss": {"ohem": {"min_kept": 50}}, "exports": ["safetensors"]}
    plain, _ = go(tmp_path / "plain", world.folder, **changes)
    views = {"every": 4, "panels": 0, "scales": [0.5, 1.0, 1.5], "flip": True}
    result, events = go(tmp_path / "views", world.folder, evaluation=views, **changes)
    assert result.status == "succeeded", result.error
    second = {name: value for name, value in result.metrics.items() if "_ms/" in name}
    assert set(second) == {"test_ms/miou", "test_ms/pixel_accuracy", "test_ms/mean_accuracy"}
    assert {name: value for name, value in result.metrics.items() if name not in second} == plain.metrics
    assert result.weights_digest == plain.weights_digest
    told = {name for event in kinds(events, "metrics") for name in event.values if "_ms/" in name}
    assert told == set(second)
    with zipfile.ZipFile(tmp_path / "views" / "exports" / "bundle.zip") as archive:
        card = archive.read(next(name for name in archive.namelist() if name.endswith("README.md"))).decode()
    assert f"| test_ms/miou | {second['test_ms/miou']:.2f} |" in card
    assert "images scaled by 0.5, 1, 1.5 and their mirror images" in card
    assert "name: mIoU (test_ms)" in card
