"""Full-size runs: what the script measures, on the smallest recipe, and the page that is made of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from acamkd_core.datasets.registry import inspect_dataset, open_dataset
from acamkd_core.spec.datasets import AutoDataset
from benchmarks import full_size, tables
from benchmarks.layouts import COCO_IDS, WRITERS
from benchmarks.stand_ins import Reduced


def test_a_reduced_run_leaves_its_figures_and_says_what_was_changed(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    found = full_size.measure(
        "coco-ssdlite-mobilenet_v2-alone", steps=6, reduced=Reduced(scale=0.2, batch=2), device="cpu",
        changes={"student.arch": {"family": "ssdlite", "width": 0.35}, "batch.workers": 0}, folder=tmp_path,
    )  # fmt: skip
    assert (found["status"], found["error"], found["steps"]) == ("succeeded", None, 6)
    assert found["reduced"] == {"scale": 0.2, "batch": 2}
    assert found["augment"] == {"size": [64, 64], "crop": [64, 64]}
    assert found["seconds_per_step"] > 0
    assert found["peak_process_bytes"] > 10**8
    assert found["peak_device_bytes"] is None
    assert found["parameters"]["student"] > 10**5
    assert all(isinstance(value, float) for value in found["loss"].values())
    changed = found["changed"]
    assert changed["schedule.iterations"] == 6
    assert changed["schedule.epochs"] is None
    assert changed["augment.size"] == [64, 64]
    assert "optimizer.lr" not in changed
    json.dumps(found)


def test_a_run_that_fails_is_written_down_with_its_reason(tmp_path: Path) -> None:
    found = full_size.measure(
        "coco-ssdlite-mobilenet_v2-alone", steps=3, reduced=Reduced(scale=0.2, batch=2), device="cpu",
        changes={"student.arch": {"family": "ssdlite", "width": 0.35}, "batch.workers": 0, "optimizer.lr": 1e30},
        folder=tmp_path,
    )  # fmt: skip
    assert found["status"] == "failed"
    assert found["error"]["code"] == "non_finite_loss"


def test_the_page_is_made_from_the_committed_runs() -> None:
    committed = (tables.RESULTS / "full_size.md").read_text(encoding="utf-8")
    assert committed == full_size.page(full_size.FOLDER), "run `python -m benchmarks.full_size --page`"


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_layouts_are_found_by_themselves_and_have_no_mistakes(kind: str, tmp_path: Path) -> None:
    root = WRITERS[kind](tmp_path / "data", (64, 96), train=4, val=2)
    splits = {"train": "train2017", "val": "val2017"} if kind == "coco" else {}
    dataset = open_dataset(AutoDataset.model_validate({"root": str(root), "splits": splits}), strict=True)
    assert (dataset.splits()["train"], dataset.splits()["val"]) == (4, 2)
    assert [one for one in inspect_dataset(dataset).findings if one.severity == "error"] == []


def test_cocos_ids_have_its_gaps() -> None:
    assert (len(COCO_IDS), COCO_IDS[0], COCO_IDS[-1]) == (80, 1, 90)
    assert {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}.isdisjoint(COCO_IDS)
