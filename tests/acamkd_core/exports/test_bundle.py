"""What a user downloads: it runs with no trace of the project, says what it is, and has the same bytes every time."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from acamkd_core.exports.bundle import write_bundle
from acamkd_core.exports.card import CardFacts, model_card
from acamkd_core.exports.verify import GateReport
from tests.acamkd_core.exports.conftest import COLORS, SIZE, World, torch_ids

GOOD = GateReport(passed=True, failures=[], images=6, score=81.0, checkpoint_score=81.02, agreement=99.99, seconds=1.5)


def facts(world: World, gate: GateReport | None = GOOD) -> CardFacts:
    return CardFacts(
        name="city-run",
        student="nearest colour",
        teacher="deeplabv3-resnet101",
        distill=["acam at logits, weight 1"],
        dataset="patches",
        dataset_digest="3f9c1e000000",
        classes=world.source.classes,
        size=SIZE,
        metrics={"val/miou": 81.02, "test/miou": 79.5},
        per_class={"sky": 90.0, "road": 80.0, "tree": 70.0, "car": None},
        gate=gate,
        parameters=16,
    )


@pytest.fixture(scope="module")
def unpacked(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip, unpacked where a stranger would."""
    folder = tmp_path_factory.mktemp("download")
    bundle = write_bundle(folder / "city-run", folder / "city-run.zip", [world.onnx], facts(world))
    assert bundle.verified
    with zipfile.ZipFile(bundle.zip) as archive:
        archive.extractall(folder / "there")
    return folder / "there" / "city-run"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package folder with what `requirements.txt` names, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    for name in ("numpy", "PIL", "onnxruntime"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.submodule_search_locations
        home = Path(spec.submodule_search_locations[0])
        (folder / name).symlink_to(home)
        libraries = home.with_name({"PIL": "pillow"}.get(name, name) + ".libs")  # of Linux wheels
        if libraries.is_dir():
            (folder / libraries.name).symlink_to(libraries)
    return folder


def predict(folder: Path, bare: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python predict.py` in the folder, by an interpreter that knows three packages: no torch, no project, no yaml."""
    code = (
        f"import sys, runpy; sys.path.append({str(bare)!r}); sys.argv = ['predict.py', *{list(arguments)!r}]; "
        "runpy.run_path('predict.py', run_name='__main__')"
    )
    # -I: no environment, no user packages; -S: not even the virtual environment's.
    command = [sys.executable, "-I", "-S", "-c", code]
    return subprocess.run(command, cwd=folder, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)


def test_the_bare_interpreter_is_bare(bare: Path) -> None:
    code = f"import sys; sys.path.append({str(bare)!r}); import numpy, PIL, onnxruntime; import torch"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert "No module named 'torch'" in done.stderr


def test_predict_equals_torch(world: World, unpacked: Path, bare: Path, tmp_path: Path) -> None:
    source = world.items[0].image
    done = predict(unpacked, bare, str(source), "-o", str(tmp_path / "o.png"), "--mask", str(tmp_path / "ids.png"))
    assert done.returncode == 0, done.stderr
    expected = torch_ids(world.model, source)
    with (
        Image.open(source) as picture,
        Image.open(tmp_path / "ids.png") as mask,
        Image.open(tmp_path / "o.png") as over,
    ):
        assert mask.mode == "P"
        assert picture.size == mask.size == over.size
        full = Image.fromarray(expected).resize(picture.size, Image.Resampling.NEAREST)
        assert (np.asarray(mask) == np.asarray(full)).mean() > 0.999
        # Half picture, half colour of the class, at one pixel, by hand.
        colour = list(COLORS.values())[np.asarray(full)[20, 20]]
        wanted = [(a + b) / 2 for a, b in zip(picture.getpixel((20, 20)), colour, strict=True)]
        assert np.abs(np.array(over.getpixel((20, 20))) - wanted).max() <= 1
    shares = {line.split()[0]: float(line.split()[1]) for line in done.stdout.splitlines() if line.endswith("%")}
    assert sum(shares.values()) == pytest.approx(100, abs=0.05)
    assert shares["sky"] == pytest.approx((expected == 0).mean() * 100, abs=0.2)


def test_predict_says_what_is_wrong(world: World, unpacked: Path, bare: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    shutil.copytree(unpacked, tmp_path / "broken")
    (tmp_path / "broken" / "model.onnx").write_bytes(b"\x00" * 100)
    for folder, image, sentence in (
        (unpacked, "nowhere.jpg", "there is no file nowhere.jpg"),
        (unpacked, str(tmp_path / "text.jpg"), "is no readable image"),
        (tmp_path / "broken", str(world.items[0].image), "model.onnx is no loadable ONNX file"),
    ):
        done = predict(folder, bare, image)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr


def test_predict_turns_photos_upright(world: World, unpacked: Path, bare: Path, tmp_path: Path) -> None:
    with Image.open(world.items[0].image) as picture:
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned: shown a quarter clockwise
        picture.save(tmp_path / "photo.png", exif=exif)
        size = picture.size
    assert predict(unpacked, bare, str(tmp_path / "photo.png"), "-o", str(tmp_path / "o.png")).returncode == 0
    with Image.open(tmp_path / "o.png") as over:
        assert over.size == size[::-1]


def test_equal_inputs_give_equal_bytes(world: World, tmp_path: Path) -> None:
    first = write_bundle(tmp_path / "a" / "city", tmp_path / "a.zip", [world.onnx], facts(world))
    slower = replace(GOOD, seconds=99.0)
    (tmp_path / "b" / "city").mkdir(parents=True)
    (tmp_path / "b" / "city" / "left over").write_text("from before")
    second = write_bundle(tmp_path / "b" / "city", tmp_path / "b.zip", [world.onnx], facts(world, slower))
    assert first.zip.read_bytes() == second.zip.read_bytes()
    with zipfile.ZipFile(first.zip) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    expected = ["README.md", "config.json", "labels.txt", "model.onnx", "predict.py", "requirements.txt"]
    assert names == [f"city/{name}" for name in expected]


def test_the_card_is_a_hugging_face_card(unpacked: Path) -> None:
    card = (unpacked / "README.md").read_text(encoding="utf-8")
    _, front, body = card.split("---\n", 2)
    data = yaml.safe_load(front)
    assert data["pipeline_tag"] == "image-segmentation"
    assert data["license"] == "unknown"
    assert "knowledge-distillation" in data["tags"]
    values = {entry["name"]: entry["value"] for entry in data["model-index"][0]["results"][0]["metrics"]}
    assert values == {"mIoU (val)": 81.02, "mIoU (test)": 79.5}
    assert "deeplabv3-resnet101" in body
    assert "UNVERIFIED" not in body
    assert (unpacked / "labels.txt").read_text().splitlines() == list(COLORS)
    config = json.loads((unpacked / "config.json").read_text())
    assert config["verified"] is True
    assert config["dataset"] == {"name": "patches", "digest": "3f9c1e000000"}


def test_what_did_not_pass_is_called_unverified(world: World) -> None:
    failed = replace(GOOD, passed=False, failures=["The file scores 12.00 mIoU, the checkpoint 81.02."])
    for gate, files in ((failed, ["model.onnx"]), (None, ["model.onnx"]), (None, ["model.safetensors"])):
        card = model_card(facts(world, gate), files)
        assert "**UNVERIFIED**" in card
        assert "Verified:" not in card
    assert "The file scores 12.00 mIoU" in model_card(facts(world, failed), ["model.onnx"])
