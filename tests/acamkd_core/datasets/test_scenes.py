"""The scene generator: a pure function, the same in every process, with every class in it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from acamkd_core.datasets.registry import open_dataset
from acamkd_core.datasets.scenes import MARKER, generate
from acamkd_core.datasets.scenes_canvas import CLASSES, THINGS
from acamkd_core.datasets.scenes_draw import draw_scene
from acamkd_core.datasets.scenes_write import write_scene
from acamkd_core.spec.datasets import ScenesDataset, Splits
from acamkd_core.spec.errors import CoreError


def _spec(**changes: object) -> ScenesDataset:
    small = {"train_images": 3, "val_images": 2, "test_images": 1, "size": (48, 80), "seed": 3}
    return ScenesDataset.model_validate({"format": "scenes", **small, **changes})


def test_a_scene_is_a_pure_function_of_seed_split_index() -> None:
    first, again = draw_scene(1, "train", 7, (48, 80)), draw_scene(1, "train", 7, (48, 80))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert first.boxes == again.boxes
    for other in (draw_scene(2, "train", 7, (48, 80)), draw_scene(1, "val", 7, (48, 80))):
        assert (first.image != other.image).mean() > 0.5


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    ours = generate(_spec(), tmp_path / "ours")
    code = (
        "import sys, pathlib\n"
        "from acamkd_core.datasets.scenes import generate\n"
        "from acamkd_core.spec.datasets import ScenesDataset\n"
        "generate(ScenesDataset.model_validate_json(sys.argv[1]), pathlib.Path(sys.argv[2]))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, _spec().model_dump_json(), str(tmp_path / "theirs")], check=True)
    theirs = tmp_path / "theirs" / ours.name
    assert json.loads((ours / MARKER).read_text())["digest"] == json.loads((theirs / MARKER).read_text())["digest"]
    files = sorted(p.relative_to(ours) for p in ours.rglob("*.png"))
    assert len(files) == 12
    assert all((ours / file).read_bytes() == (theirs / file).read_bytes() for file in files)


def test_helpers_write_what_one_process_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acamkd_core.datasets.scenes_write._processors", lambda: 2)
    monkeypatch.setattr("acamkd_core.datasets.scenes_write.SHARE", 3)
    shared = generate(_spec(), tmp_path / "shared")
    monkeypatch.setattr("acamkd_core.datasets.scenes_write._processors", lambda: 1)
    alone = generate(_spec(), tmp_path / "alone")
    assert (shared / MARKER).read_bytes() == (alone / MARKER).read_bytes()


def test_concurrent_generation_leaves_one_complete_folder(tmp_path: Path) -> None:
    threads = [threading.Thread(target=generate, args=(_spec(), tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = list(tmp_path.iterdir())
    assert len(left) == 1
    assert (left[0] / MARKER).is_file()


def test_an_interrupted_folder_is_made_again(tmp_path: Path) -> None:
    root = generate(_spec(), tmp_path)
    digest = (root / MARKER).read_text()
    (root / MARKER).unlink()
    (root / "images/train/00000.png").write_bytes(b"half")
    assert (generate(_spec(), tmp_path) / MARKER).read_text() == digest
    assert (root / "images/train/00000.png").stat().st_size > 1000


def test_opens_as_a_dataset_with_boxes(tmp_path: Path) -> None:
    dataset = open_dataset(_spec(unlabelled_images=2), cache=tmp_path)
    assert dataset.splits() == {"train": 3, "val": 2, "test": 1, "unlabelled": 2}
    drawn, loaded = draw_scene(3, "val", 1, (48, 80)), dataset.load(dataset.items("val")[1])
    np.testing.assert_array_equal(loaded.image, drawn.image)
    np.testing.assert_array_equal(loaded.target, drawn.mask)
    coco = json.loads((dataset.root / "boxes/train.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["00000.png", "00001.png", "00002.png"]
    assert coco["annotations"]
    for note in coco["annotations"]:
        x, y, width, height = note["bbox"]
        mask = dataset.load(dataset.items("train")[note["image_id"]]).target
        inside = mask[y : y + height, x : x + width] == note["category_id"] - 1
        assert inside.shape == (height, width)  # the box lies inside the image
        # It is tight: its thing touches all four sides.
        assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()  # noqa: PT018


def test_every_class_occurs_and_some_are_rare(tmp_path: Path) -> None:
    start = time.process_time()
    scenes = [draw_scene(0, "train", index, (96, 160)) for index in range(60)]
    seconds = (time.process_time() - start) / 60
    counts = np.bincount(np.concatenate([s.mask.ravel() for s in scenes]), minlength=len(CLASSES))
    share = counts / counts.sum()
    assert (counts > 200).all(), dict(zip([name for name, _ in CLASSES], counts, strict=True))
    assert share.max() < 0.5
    assert (share < 0.02).sum() >= 3
    assert {kind for scene in scenes for kind, *_ in scene.boxes} == set(THINGS)
    assert seconds < 0.25  # about 0.03 here; hundreds of images in seconds, with room for a busy machine


def test_colour_alone_does_not_tell_the_class(tmp_path: Path) -> None:
    """The best classifier of single colours (a 16^3 histogram, fitted on the very same pixels) stays far below 100."""
    scenes = [draw_scene(0, "train", index, (96, 160)) for index in range(20)]
    colors = np.concatenate([(s.image // 16).reshape(-1, 3) for s in scenes]).astype(int) @ [256, 16, 1]
    truth = np.concatenate([s.mask.ravel() for s in scenes])
    table = np.zeros((4096, len(CLASSES)))
    np.add.at(table, (colors, truth), 1)
    predicted = table.argmax(1)[colors]
    iou = [
        ((predicted == k) & (truth == k)).sum() / ((predicted == k) | (truth == k)).sum() for k in range(len(CLASSES))
    ]
    assert 100 * np.mean(iou) < 35


def test_splits_and_root(tmp_path: Path) -> None:
    with pytest.raises(CoreError, match="no split 'dev'"):
        open_dataset(_spec(splits=Splits(val="dev", test="test").model_dump()), cache=tmp_path)
    with pytest.raises(CoreError) as caught:
        open_dataset(_spec(root=str(tmp_path / "elsewhere")), roots=[tmp_path / "allowed"])
    assert caught.value.code == "dataset.outside_roots"
    dataset = open_dataset(_spec(root=str(tmp_path / "made")), roots=[tmp_path])
    assert dataset.root.parent == (tmp_path / "made").resolve()


def test_unlabelled_scenes_have_no_mask(tmp_path: Path) -> None:
    (tmp_path / "images/unlabelled").mkdir(parents=True)
    write_scene(tmp_path, "unlabelled", 0, 0, (48, 80))
    assert [p.name for p in tmp_path.rglob("*.png")] == ["00000.png"]
