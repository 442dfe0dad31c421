"""The gate passes a good file and fails each way in which a file can lie. Files are really edited, processes real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from acamkd_core.exports import gate_segmentation
from acamkd_core.exports.predict import ModelFileError, parse_contract
from acamkd_core.exports.verify import GateReport, MaskValues, PredictionFile, verify
from acamkd_core.spec.exports import Gate
from tests.acamkd_core.exports.conftest import CLASSES, COLORS, SIZE, World
from tests.acamkd_core.exports.edit import edited


def run_gate(world: World, model: Path, folder: Path, **changes: Any) -> GateReport:
    arguments: dict[str, Any] = {
        "items": world.items,
        "predictions": world.predictions,
        "classes": list(COLORS),
        "truth": world.mask,
        "gate": Gate(),
        "folder": folder,
        "threads": 1,
    }
    report = verify(model, **(arguments | changes))
    assert report is not None
    return report


def test_a_good_file_passes(world: World, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = run_gate(world, world.onnx, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert report.failures == []
    assert report.passed
    assert report.images == len(world.items)
    assert report.agreement is not None
    assert report.agreement >= 99.9
    assert report.score == pytest.approx(report.checkpoint_score, abs=0.1)
    # The network is right about clean patches, wrong only near edges: a gate that compared nothing would not know.
    assert report.score is not None
    assert 60 < report.score < 100
    assert seen[-1] == (len(world.items), len(world.items))
    assert json.loads((tmp_path / "gate_report.json").read_text())["torch_loaded"] is False


def swap_mean_and_deviation(data: dict[str, Any]) -> None:
    data["input"]["mean"], data["input"]["std"] = data["input"]["std"], data["input"]["mean"]


def read_as_bgr(data: dict[str, Any]) -> None:
    data["input"]["channel_order"] = "bgr"


def permute_classes(data: dict[str, Any]) -> None:
    data["classes"] = data["classes"][1:] + data["classes"][:1]


def wrong_range(data: dict[str, Any]) -> None:
    data["input"]["range"] = 255


@pytest.mark.parametrize("change", [swap_mean_and_deviation, read_as_bgr, permute_classes, wrong_range])
def test_a_lying_file_fails(world: World, tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    report = run_gate(world, edited(world.onnx, tmp_path, change), tmp_path)
    assert not report.passed
    assert any("pixels agree" in sentence for sentence in report.failures)
    assert report.agreement is not None
    assert report.agreement < 90


def test_permuted_channels_fail(world: World, tmp_path: Path) -> None:
    proto = onnx.load(world.onnx)
    weights = [item for item in proto.graph.initializer if list(item.dims)[:1] == [len(COLORS)]]
    assert weights
    for item in weights:
        item.CopyFrom(onnx.numpy_helper.from_array(np.roll(onnx.numpy_helper.to_array(item), 1, axis=0), item.name))
    onnx.save(proto, tmp_path / "rolled.onnx")
    assert not run_gate(world, tmp_path / "rolled.onnx", tmp_path).passed


def test_other_class_names_are_named(world: World, tmp_path: Path) -> None:
    def rename(data: dict[str, Any]) -> None:
        data["classes"][0]["name"] = "heaven"

    report = run_gate(world, edited(world.onnx, tmp_path, rename), tmp_path)
    assert not report.passed
    assert report.failures == ["The file's class names differ from the dataset's: heaven, sky."]


@pytest.mark.parametrize("damage", ["cut", "no metadata", "absent"])
def test_a_damaged_file_is_a_sentence(world: World, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "bad.onnx"
    if damage == "cut":
        path.write_bytes(world.onnx.read_bytes()[:-200])
    elif damage == "no metadata":
        proto = onnx.load(world.onnx)
        del proto.metadata_props[:]
        onnx.save(proto, path)
    report = run_gate(world, path, tmp_path)
    assert not report.passed
    assert len(report.failures) == 1
    expected = {
        "cut": "no loadable ONNX file",
        "no metadata": "carries no `acamkd` metadata",
        "absent": "no model file",
    }
    assert expected[damage] in report.failures[0]


def test_a_reported_metric_that_predictions_do_not_give_fails(world: World, tmp_path: Path) -> None:
    good = run_gate(world, world.onnx, tmp_path)
    assert run_gate(world, world.onnx, tmp_path, claimed=good.checkpoint_score).passed
    report = run_gate(world, world.onnx, tmp_path, claimed=99.5)
    assert not report.passed
    assert "reported 99.50" in report.failures[0]


def test_a_gate_that_breaks_is_a_report(world: World, tmp_path: Path) -> None:
    (tmp_path / "not_an_array.npy").write_bytes(b"hello")
    report = run_gate(world, world.onnx, tmp_path, predictions=tmp_path / "not_an_array.npy")
    assert not report.passed
    assert report.failures[0].startswith("The gate did not finish (1)")


def test_a_stop_ends_the_gate(world: World, tmp_path: Path) -> None:
    stopped = verify(
        world.onnx,
        items=world.items,
        predictions=world.predictions,
        classes=list(COLORS),
        truth=world.mask,
        gate=Gate(images=2),
        folder=tmp_path,
        should_stop=lambda: True,
    )
    assert stopped is None
    assert not (tmp_path / "gate_report.json").exists()


def test_the_gate_dies_with_its_parent(world: World, tmp_path: Path) -> None:
    run_gate(world, world.onnx, tmp_path)
    manifest = tmp_path / "gate_manifest.json"
    data = json.loads(manifest.read_text())
    data["images"] *= 20_000  # many minutes of work, and predictions for all of it (a file with holes)
    few = np.load(data["predictions"])
    many = np.lib.format.open_memmap(
        tmp_path / "many.npy", mode="w+", dtype=few.dtype, shape=(len(data["images"]), *few.shape[1:])
    )
    del many
    data["predictions"] = str(tmp_path / "many.npy")
    manifest.write_text(json.dumps(data))
    process = subprocess.Popen(
        [sys.executable, "-m", "acamkd_core.exports.gate", "--lifeline", str(manifest)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline().startswith(b"progress 1 ")
    process.stdin.close()
    assert process.wait(timeout=20) == 3
    process.stdout.close()


GOOD: dict[str, Any] = {
    "format_version": 1,
    "input": {
        "size": [8, 8],
        "channel_order": "rgb",
        "range": 1,
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
        "resize": "bilinear",
    },
    "classes": [{"name": "a", "color": [1, 2, 3]}, {"name": "b", "color": [4, 5, 6]}],
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((), []),
        ((), None),
        (("format_version",), 2),
        (("input",), 3),
        (("input", "size"), [1e999, 8]),
        (("input", "size"), [8]),
        (("input", "std"), [1, 0, 1]),
        (("input", "std"), [1, float("nan"), 1]),
        (("input", "mean"), [0, 0]),
        (("input", "channel_order"), "grb"),
        (("input", "resize"), "magic"),
        (("classes",), []),
        (("classes", 1, "name"), "a"),
        (("classes", 0, "color"), [1, 2, 256]),
        (("classes", 0, "color"), "red"),
    ],
)
def test_metadata_that_no_reader_could_follow_is_refused(path: tuple[Any, ...], value: Any) -> None:
    assert parse_contract(json.dumps(GOOD)).size == (8, 8)
    data = json.loads(json.dumps(GOOD))
    if path:
        holder = data
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = value
    else:
        data = value
    with pytest.raises(ModelFileError):
        parse_contract(json.dumps(data))


def test_iou_by_hand() -> None:
    """Two of three true pixels hit, one false alarm: 2 / 4; the other class 1 / 3; the third never counts."""
    confusion = gate_segmentation.Confusion(3)
    target = np.array([[0, 0, 0], [1, 1, -1]])
    prediction = np.array([[0, 0, 1], [0, 1, 2]])
    confusion.update(prediction, target)
    assert confusion.iou() == [pytest.approx(50.0), pytest.approx(100 / 3), None]
    assert confusion.miou() == pytest.approx((50 + 100 / 3) / 2)


def test_colour_and_palette_masks_mean_the_same(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, len(COLORS), SIZE).astype(np.uint8)
    rgb = np.array(list(COLORS.values()), dtype=np.uint8)[ids]
    ids[0, 0], rgb[0, 0] = 255, 0
    palette = Image.fromarray(ids)
    palette.putpalette([9] * 768)
    palette.save(tmp_path / "palette.png")
    Image.fromarray(rgb).save(tmp_path / "colours.png")
    mask = json.loads(json.dumps({"ids": MaskValues.of(CLASSES).ids, "colors": MaskValues.of(CLASSES).colors}))
    expected = np.where(ids == 255, -1, ids.astype(int))
    for name in ("palette.png", "colours.png"):
        assert (gate_segmentation.read_mask(tmp_path / name, mask, SIZE) == expected).all()


def test_missing_predictions_are_refused(tmp_path: Path) -> None:
    stack = PredictionFile(tmp_path / "p.npy", 3, SIZE)
    stack.add(np.zeros((2, *SIZE)))
    with pytest.raises(ValueError, match="2 predictions for 3 images"):
        stack.close()


def test_secrets_do_not_reach_the_gate(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `sitecustomize` named by PYTHONSTARTUP or a database URL must not travel; PATH must."""
    seen: dict[str, str] = {}
    real = subprocess.Popen

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.update(kwargs["env"])
        return real(*args, **kwargs)

    monkeypatch.setenv("ACAMKD_DATABASE_URL", "postgresql://secret")
    monkeypatch.setattr(subprocess, "Popen", spy)
    assert run_gate(world, world.onnx, tmp_path).passed
    assert seen["PATH"] == os.environ["PATH"]
    assert not [name for name in seen if name.startswith("ACAMKD")]
