"""Draws scenes into files, on all processors: `python -m acamkd_core.datasets.scenes_write` is one helper's share.

Helpers are plain processes rather than a multiprocessing pool: a fork would copy a parent that may hold CUDA and
OpenMP threads, and a spawn would run the user's main script again.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from acamkd_core.datasets.scenes_draw import draw_scene

SHARE = 48  # scenes that are worth the start of one more process
MAX_HELPERS = 8


class Written(NamedTuple):
    """One scene on disk: file name, digest of its pixels, boxes as (class, x, y, width, height)."""

    name: str
    digest: str
    boxes: list[tuple[int, int, int, int, int]]


def write_all(root: Path, counts: dict[str, int], seed: int, size: tuple[int, int]) -> dict[tuple[str, int], Written]:
    """Write every scene of every split, by (split, index). The bytes do not depend on the number of processes."""
    work = [(split, index) for split, count in counts.items() for index in range(count)]
    shares = max(1, min(_processors(), MAX_HELPERS, len(work) // SHARE))
    helpers = [_start(root, work[number::shares], seed, size) for number in range(1, shares)]
    written: dict[tuple[str, int], Written] = {}
    try:
        for split, index in work[0::shares]:
            written[split, index] = write_scene(root, split, index, seed, size)
        for number, helper in enumerate(helpers, start=1):
            output, _ = helper.communicate()
            if helper.returncode != 0:
                raise RuntimeError(f"a scene generator ended with exit status {helper.returncode}")
            for key, entry in zip(work[number::shares], json.loads(output), strict=True):
                written[key] = Written(entry[0], entry[1], [tuple(box) for box in entry[2]])
    finally:
        for helper in helpers:
            if helper.poll() is None:
                helper.kill()
                helper.wait()
    return written


def write_scene(root: Path, split: str, index: int, seed: int, size: tuple[int, int]) -> Written:
    """Write one image, and its mask unless the split is `unlabelled`."""
    scene = draw_scene(seed, split, index, size)
    name = f"{index:05d}.png"
    digest = hashlib.sha256(scene.image.tobytes())
    Image.fromarray(scene.image).save(root / "images" / split / name, compress_level=1)
    if split != "unlabelled":
        Image.fromarray(scene.mask).save(root / "masks" / split / name, compress_level=4)
        digest.update(scene.mask.tobytes())
    return Written(name, digest.hexdigest(), scene.boxes)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(root: Path, work: Iterable[tuple[str, int]], seed: int, size: tuple[int, int]) -> subprocess.Popen[bytes]:
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    helper = subprocess.Popen(
        [sys.executable, "-m", "acamkd_core.datasets.scenes_write"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    request = {"root": str(root), "work": list(work), "seed": seed, "size": list(size), "parent": os.getpid()}
    assert helper.stdin is not None
    helper.stdin.write(json.dumps(request).encode())
    helper.stdin.close()
    helper.stdin = None  # communicate() would flush the closed pipe
    return helper


def main() -> None:
    """One helper: the request is JSON on stdin, the answer JSON on stdout."""
    request = json.load(sys.stdin)
    height, width = request["size"]
    answer: list[Written] = []
    for split, index in request["work"]:
        if os.getppid() != request["parent"]:
            sys.exit(3)  # the parent is gone, and its folder with it
        answer.append(write_scene(Path(request["root"]), split, index, request["seed"], (height, width)))
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
