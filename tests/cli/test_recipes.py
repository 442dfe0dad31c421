"""`acamkd recipes`: list, show, and a job file with its paths set."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from acamkd_core.spec.job import JobSpec, parse_job
from acamkd_core.spec.yaml_text import load_yaml
from cli.main import run_command
from recipes.library import FOLDER, INDEX, find, job_of, load_index, text_of
from tests.cli.running import clean_environment

PAIR = "cityscapes-deeplabv3-r101-r18-acam"


def job_at(path: Path) -> JobSpec:
    spec = parse_job(load_yaml(path.read_text(encoding="utf-8")))
    assert isinstance(spec, JobSpec)
    return spec


def test_the_list_has_every_recipe_with_its_number_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["recipes"]) == 0
    shown = capsys.readouterr().out
    (line,) = [line for line in shown.splitlines() if line.startswith(PAIR)]
    for word in ("Cityscapes", "DeepLabV3-R101", "acam", "77.53 mIoU", "not reproduced", "arXiv 2503.06307"):
        assert word in line
    assert sum(line.startswith(("coco-", "cityscapes-", "voc-", "imagenet-")) for line in shown.splitlines()) == len(
        load_index().recipes
    )
    assert run_command(["recipes", "list"]) == 0
    assert capsys.readouterr().out == shown
    assert run_command(["recipes", "-q", "pspnet", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["method"] for one in found} == {"alone", "cwd", "maskd", "acam"}
    assert all(one["expected"]["metric"] == "miou" for one in found)


def test_show_prints_the_job_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["recipes", "show", PAIR]) == 0
    printed = capsys.readouterr()
    assert printed.out == text_of(find(PAIR))
    assert "stated: SGD, lr 0.02" in printed.err
    assert run_command(["recipes", "show", PAIR, "-o", "json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["job"] == job_of(find(PAIR))
    assert known["deviations"]


def test_a_copy_has_its_paths_set_and_the_rest_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "city").mkdir()
    teacher = tmp_path / "teacher.pth"
    teacher.touch()
    target = tmp_path / "elsewhere" / "job.yaml"
    arguments = ["--dataset", str(tmp_path / "city"), "--teacher", str(teacher), "--set", "optimizer.lr=0.01"]
    assert run_command(["recipes", "copy", PAIR, "--out", str(target), *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(target)
    assert "still to set: student.backbone_weights.file" in printed.err
    written = load_yaml(target.read_text(encoding="utf-8"))
    expected = job_of(find(PAIR))
    expected["dataset"]["root"] = str(tmp_path / "city")
    expected["teacher"]["weights"]["file"] = str(teacher)
    expected["optimizer"]["lr"] = 0.01
    assert written == expected
    assert target.read_text(encoding="utf-8").startswith(f"# {PAIR}: ")
    assert run_command(["recipes", "copy", PAIR, "--out", str(target)]) == 1
    assert "--force replaces it" in capsys.readouterr().err
    assert run_command(["recipes", "copy", PAIR, "--out", str(target), "--force"]) == 0
    assert load_yaml(target.read_text(encoding="utf-8")) == job_of(find(PAIR))


def test_a_teacher_of_ours_brings_its_own_preprocessing(tmp_path: Path) -> None:
    """The recipe's describe the published file: kept for a .pth, they would be wrong for a finished job."""
    target = tmp_path / "job.yaml"
    for teacher, weights in (
        ("job:city-teacher", {"job": "city-teacher"}),
        ("model:t@champion", {"model": "t@champion"}),
    ):
        assert run_command(["recipes", "copy", PAIR, "--out", str(target), "--force", "--teacher", teacher, "--dataset",
                            "dataset:city"]) == 0  # fmt: skip
        written = load_yaml(target.read_text(encoding="utf-8"))
        assert written["teacher"] == {"arch": "deeplabv3-resnet101-61.1m", "weights": weights}
        assert written["dataset"] == {
            "format": "registered", "name": "city", "splits": {"train": "train", "val": "val"},
        }  # fmt: skip
        assert job_at(target).teacher is not None
    assert run_command(["recipes", "copy", PAIR, "--out", str(target), "--force", "--teacher", "teacher.onnx"]) == 0
    assert load_yaml(target.read_text(encoding="utf-8"))["teacher"] == {"weights": {"file": "teacher.onnx"}}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["show", "cityscapes-deeplabv3-r101-r18-acm"], 1, f"did you mean {PAIR}"),
        (["copy", "coco-retinanet-r50-alone", "--teacher", "x.pth"], 1, "trains its student alone"),
        (["copy", PAIR, "--set", "optimizer.rate=1"], 2, "optimizer.rate"),
    ],
)
def test_mistakes_say_what_to_do(
    arguments: list[str], code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "job.yaml")] if arguments[0] == "copy" else []
    assert run_command(["recipes", *arguments, *out]) == code
    assert words in capsys.readouterr().err
    assert not (tmp_path / "job.yaml").exists()


def test_listing_needs_no_torch_and_no_checkout(tmp_path: Path) -> None:
    """What a wheel holds is enough: the package's own files, from any folder."""
    code = "import sys; from cli.main import run_command; assert run_command(['recipes']) == 0; print('torch' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean_environment(), cwd=tmp_path
    )
    assert shown.stdout.splitlines()[-1] == "False"
    assert PAIR in shown.stdout


def test_the_wheel_holds_the_files(tmp_path: Path) -> None:
    """Built by setuptools from this project's settings, with the one package."""
    root = FOLDER.parent
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, tmp_path)
    shutil.copytree(FOLDER, tmp_path / "recipes")
    code = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=tmp_path, env=clean_environment())
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    wanted = {path.relative_to(root).as_posix() for path in (*FOLDER.rglob("*.yaml"), FOLDER / INDEX)}
    assert len(wanted) > 30
    assert wanted <= names
