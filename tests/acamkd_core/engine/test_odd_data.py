"""A dataset in which nothing is as usual goes through training, export and gate, and every part reads it alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.acamkd_core.engine.world import go, kinds

COLORS = {7: (10, 20, 30), 26: (200, 0, 0), 11: (0, 99, 0)}


def write_odd_folder(root: Path) -> Path:
    """Ids with gaps, ignore id 0, all kinds of images and masks, odd sizes that differ, names in several scripts."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("val", 5)):
        for index in range(count):
            height, width = int(rng.integers(33, 71)), int(rng.integers(35, 77))
            cells = rng.choice([7, 26, 11, 0], (height // 8 + 1, width // 8 + 1))
            ids = np.kron(cells, np.ones((8, 8), int))[:height, :width].astype(np.uint8)
            rgb = np.zeros((height, width, 3), np.uint8)
            for value, color in COLORS.items():
                rgb[ids == value] = color
            noisy = (rgb.astype(int) + rng.integers(0, 40, rgb.shape)).clip(0, 255).astype(np.uint8)
            image = Image.fromarray(noisy).convert(("RGBA", "L", "RGB", "RGB")[index % 4])
            mask = Image.fromarray(rgb if index % 3 == 2 else ids)  # class colours (black is ignored), or ids
            if index % 3 == 1:
                mask.putpalette([9] * 768)
            stem = f"sträße 道 {index}.a"
            for folder, picture, suffix in (
                ("images", image, (".png", ".jpg", ".bmp", ".webp")[index % 4]),
                ("masks", mask, ".png"),
            ):
                path = root / folder / split / f"{stem}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path)
    classes = [{"id": value, "name": f'c|{value} "é"', "color": list(color)} for value, color in COLORS.items()]
    (root / "classes.json").write_text(json.dumps({"classes": classes, "ignore_index": 0}))
    return root


@pytest.mark.parametrize("size", [None, [41, 53]])
def test_the_gate_reads_odd_data_as_training_does(tmp_path: Path, size: list[int] | None) -> None:
    torch.set_num_threads(1)
    root = write_odd_folder(tmp_path / "données")
    augment = {"scale": [0.3, 2.0]} | ({"size": size, "crop": [37, 29]} if size else {})
    result, events = go(
        tmp_path / "run", tmp_path, dataset=str(root), augment=augment, exports=["onnx"], schedule={"iterations": 4},
        train={"precision": "bf16" if size else "fp32"},
    )  # fmt: skip
    assert result.status == "succeeded", result.error
    # That this processor emulates bf16 is no fault of the data; that some images are grey is a finding.
    assert {event.info.code for event in kinds(events, "alarm")} <= {"precision.slow", "dataset.grey_images"}
    onnx = kinds(events, "export")[0]
    # The file's score from the files on disk equals the checkpoint's: sizes, modes, ids and ignored pixels agree.
    assert onnx.verified, onnx.gate["failures"]
    assert onnx.gate["checkpoint_miou"] == pytest.approx(result.metrics["val/miou"], abs=1e-6)
    names = [entry["name"] for entry in kinds(events, "resolved")[0].dataset["classes"]]
    assert names == ['c|7 "é"', 'c|11 "é"', 'c|26 "é"']
