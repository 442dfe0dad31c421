"""Two real processes with the same global batch are one process, for every family of losses; and they score exactly."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from acamkd_core.datasets.loader import epoch_order
from acamkd_core.engine import checkpoint as ckpt
from acamkd_core.models.registry import build_model
from acamkd_core.native_file import write_native
from acamkd_core.ranks import plain_norm
from acamkd_core.spec.native import NativeHeader
from tests.acamkd_core.engine.several import events_of, start_child, train_all, until
from tests.acamkd_core.engine.world import go, kinds, points

# 5 validation images do not divide by two; unlabelled images make one process count fewer labelled pixels than the other.
SCENES = {
    "format": "scenes",
    "train_images": 9,
    "val_images": 5,
    "test_images": 3,
    "unlabelled_images": 5,
    "size": [64, 96],
}
BACKBONE = {"backbone": "mobilenet_v2", "width": 0.35}
PYRAMID = {**BACKBONE, "fpn_channels": 32, "head_depth": 1}
FAMILIES: dict[str, dict[str, Any]] = {
    # Without dropout, whose masks belong to a process.
    "segmenter": {"family": "lraspp", "backbone": "mobilenet_v2", "width": 0.35, "head_channels": 16},
    "fcos": {"family": "fcos", **PYRAMID, "fpn_channels": 64},
    "retinanet": {"family": "retinanet", **PYRAMID, "anchor_scale": 2},
    "reppoints": {"family": "reppoints", **PYRAMID, "fpn_channels": 64},
    "ssdlite": {"family": "ssdlite", "width": 0.35},
}
CLASSES = {"segmenter": 11, "fcos": 5, "retinanet": 5, "reppoints": 5, "ssdlite": 5}
METHODS: dict[str, list[dict[str, Any]]] = {
    "segmenter": [{"method": "acam", "at": ["logits", "c5"]}, {"method": "cwd", "at": "logits"}],
    "fcos": [{"method": "acam", "at": ["p3", "p5"]}, {"method": "fgd", "at": "p4"}, {"method": "logit"}],
    "retinanet": [
        {"method": "acam", "at": ["p3", "p4"]},
        {"method": "logit"},
        {"method": "crosskd", "at": "p3"},
        {"method": "maskd", "at": "p4", "token_iterations": 4},
    ],
    "reppoints": [{"method": "acam", "at": ["p4"]}, {"method": "pkd", "at": "p3"}],
    "ssdlite": [{"method": "feature_mse", "at": "m1"}],
}
SIZES = {"reppoints": [96, 160]}
"""Of teachers that see the view at another size."""


def teacher_arch(name: str) -> dict[str, Any]:
    arch = FAMILIES[name]
    return {**arch, "fpn_channels": 96} if "fpn_channels" in arch else {**arch, "width": 0.5}


def spec(name: str, teacher: Path, **changes: Any) -> dict[str, Any]:
    metric = "miou" if name == "segmenter" else "map"
    return {
        "dataset": SCENES,
        "task": "semantic_segmentation" if name == "segmenter" else "detection",
        "student": {"arch": FAMILIES[name], "freeze": {"norm": "eval"}},
        "teacher": {"weights": str(teacher), "expect": {metric: 50.0, "tolerance": 100.0}, "size": SIZES.get(name)},
        "distill": METHODS[name],
        "augment": {"scale": [0.7, 1.5]},
        "optimizer": {"lr": 0.01},
        "schedule": {"iterations": 4},
        "batch": {"global_size": 4, "accumulate": 2 if name == "fcos" else 1},
        "train": {"grad_clip": 5.0, "grad_checkpoint": name == "retinanet"},
        "evaluation": {"every": 4, "panels": 1, "batch_size": 2},
        "exports": [],
    } | changes  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Folders of the same jobs in one process and in two."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("ranks")
    specs = {}
    for name in FAMILIES:
        torch.manual_seed(1)
        header = NativeHeader.model_validate({"arch": teacher_arch(name), "num_classes": CLASSES[name]})
        network = build_model(header.arch, num_classes=header.num_classes)
        write_native(folder / f"{name}.safetensors", network.state_dict(), header)
        specs[name] = spec(name, folder / f"{name}.safetensors")
        alone, events = go(folder / "1" / name, folder / "cache", **specs[name])
        assert alone.status == "succeeded", alone.error
        (folder / "1" / name / "events.jsonl").write_text("".join(f"{event.model_dump_json()}\n" for event in events))
    train_all(folder / "2", folder / "cache", specs, 2)
    return {name: (folder / "1" / name, folder / "2" / name) for name in FAMILIES}


@pytest.mark.parametrize("name", list(FAMILIES))
def test_two_processes_are_one(runs: dict[str, tuple[Path, Path]], name: str) -> None:
    one, two = (events_of(folder) for folder in runs[name])
    ours, theirs = points(two), points(one)
    losses = {key for key in theirs if key[1].startswith("loss/")}
    assert len(losses) >= 4 * 3
    assert {key for key in ours if key[1].startswith("loss/")} == losses
    for key in losses:
        assert ours[key] == pytest.approx(theirs[key], rel=1e-5, abs=1e-6), key
    last = [ckpt.load(folder / "checkpoints" / "iteration-00000004.ckpt") for folder in runs[name]]
    for part in ("student", "methods"):
        single, double = (getattr(one, part) for one in last)
        assert single.keys() == double.keys()
        for key, tensor in single.items():
            if "ratio_start" not in key:  # a statistic of rank 0's images
                torch.testing.assert_close(
                    double[key], tensor, rtol=1e-5, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
                )


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_image_is_scored_once_and_rank_0_alone_speaks(runs: dict[str, tuple[Path, Path]], name: str) -> None:
    one, two = (events_of(folder) for folder in runs[name])
    for kind in ("resolved", "profile", "evaluation", "metrics", "checkpoint", "panel", "export", "result"):
        assert len(kinds(two, kind)) == len(kinds(one, kind)), kind
    # The teacher is the same in both, so its score is: to the last bit.
    ours, theirs = (kinds(events, "evaluation")[0] for events in (two, one))
    assert (ours.role, ours.metrics, ours.per_class) == ("teacher", theirs.metrics, theirs.per_class)
    for ours, theirs in zip(kinds(two, "evaluation"), kinds(one, "evaluation"), strict=True):
        assert ours.metrics == pytest.approx(theirs.metrics, abs=0.2)  # one pixel or box at a tie may fall elsewhere


def test_a_student_with_synchronised_norm_is_exported_with_plain_norm() -> None:
    """On GPUs only it trains; what it has learnt must be what an exported file computes."""
    torch.manual_seed(0)
    arch = NativeHeader.model_validate({"arch": FAMILIES["segmenter"], "num_classes": 3}).arch
    network = build_model(arch, num_classes=3)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 2.0)
    network.freeze(1, norm=False)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        before = network.eval()(images).raw
        network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
        assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in network.modules())
        names = network.state_dict().keys()
        plain = plain_norm(network)
        assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in plain.modules())
        assert plain.state_dict().keys() == names
        assert torch.equal(plain(images).raw, before)


PAIR: dict[str, Any] = {
    "dataset": {"format": "scenes", "train_images": 8, "val_images": 3, "test_images": 2, "size": [32, 48]},
    "student": {"arch": {"family": "deeplabv3", "width": 0.35, "aspp_channels": 16}},
    "batch": {"global_size": 4},
    "evaluation": {"every": 400, "panels": 0},
    "resources": {"processes": 2},
    "exports": [],
}


def logged(folder: Path) -> int:
    """The last training step that the run has told of."""
    if not (folder / "events.jsonl").exists():
        return 0
    return max((event.iteration for event in kinds(events_of(folder), "metrics")), default=0)


def test_a_stop_ends_all_ranks_at_the_same_step_with_one_checkpoint(tmp_path: Path) -> None:
    """The child that a worker starts: one SIGTERM to it, one checkpoint, exit code 3; and a lifeline that ends all."""
    folder, cache = tmp_path / "run", tmp_path / "cache"
    child = start_child(folder, cache, PAIR | {"schedule": {"iterations": 400}})
    ranks = []
    try:
        until(lambda: logged(folder) >= 3 or child.poll() is not None)
        ranks = psutil.Process(child.pid).children()
        assert len(ranks) == 2, (folder / "log.txt").read_text()
        child.terminate()
        assert child.wait(120) == 3, (folder / "log.txt").read_text()
        (result,) = kinds(events_of(folder), "result")
        assert (result.status, result.iteration) == ("stopped", logged(folder))
        (checkpoint,) = (folder / "checkpoints").glob("*.ckpt")
        assert ckpt.load(checkpoint).position.iteration == result.iteration
        assert psutil.wait_procs(ranks, 10)[1] == []

        again = tmp_path / "again"
        child = start_child(again, cache, PAIR | {"schedule": {"iterations": 400}}, resume=checkpoint)
        until(lambda: logged(again) >= result.iteration + 2 or child.poll() is not None)
        ranks = psutil.Process(child.pid).children()
        assert len(ranks) == 2, (again / "log.txt").read_text()
        assert child.stdin is not None
        child.stdin.close()  # the supervisor is dead: nobody is told, and nobody may stay
        assert psutil.wait_procs([psutil.Process(child.pid), *ranks], 30)[1] == []
    finally:
        end(child, ranks)


def end(child: Any, ranks: list[psutil.Process]) -> None:
    child.kill()
    child.wait(10)
    for process in ranks:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.mark.long
def test_what_one_rank_alone_runs_into_is_what_the_run_says(tmp_path: Path) -> None:
    """A file that only rank 1 reads is damaged after the inspection: the run ends with that, and does not hang."""
    folder, cache = tmp_path / "run", tmp_path / "cache"
    result, _ = go(tmp_path / "first", cache, **{**PAIR, "resources": {}, "schedule": {"iterations": 1}})
    assert result.status == "succeeded", result.error
    victim = int(epoch_order(0, 0, 8)[:4][1::2][0])
    image = sorted(cache.rglob("images/train/*.png"))[victim]
    image.write_bytes(image.read_bytes()[:200])
    child = start_child(
        folder, cache, PAIR | {"schedule": {"iterations": 50}, "evaluation": {"every": 50, "panels": 0}}
    )
    try:
        assert child.wait(120) == 1, (folder / "log.txt").read_text()
    finally:
        end(child, [])
    (told,) = kinds(events_of(folder), "result")
    assert (told.status, told.error.code) == ("failed", "dataset.unreadable")
    assert image.name in told.error.message
