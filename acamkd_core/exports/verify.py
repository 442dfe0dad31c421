"""Runs the parity gate as a process of its own, with a clean environment, and reads its report."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

import acamkd_core
from acamkd_core.datasets.base import ClassInfo, Item
from acamkd_core.spec.exports import Gate

# All that the gate may inherit. No credentials, no Python options that could load something else.
ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")


class Truth(Protocol):
    """What the gate scores against, as entries of its manifest."""

    @property
    def task(self) -> str: ...

    @property
    def metric(self) -> str:
        """Key of the metric."""
        ...

    def entries(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """One entry an image, in order: `image`, and where its labels are."""
        ...

    def facts(self) -> dict[str, Any]:
        """What holds for all images."""
        ...


@dataclass(frozen=True)
class MaskValues:
    """Segmentation: how mask files say a class: raw id to class position, and colour to class position.

    Ids and colours that are not listed are ignored pixels.
    """

    task: ClassVar[str] = "semantic_segmentation"
    metric: ClassVar[str] = "miou"
    ids: dict[int, int]
    colors: list[tuple[tuple[int, int, int], int]] = field(default_factory=list)

    @classmethod
    def of(cls, classes: Sequence[ClassInfo]) -> MaskValues:
        """The values of a dataset whose masks hold the classes' ids or colours."""
        return cls(
            ids={info.id: position for position, info in enumerate(classes)},
            colors=[(info.color, position) for position, info in enumerate(classes)],
        )

    def entries(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Image and mask files."""
        return [{"image": str(item.image.resolve()), "mask": str(Path(str(item.label)).resolve())} for item in items]

    def facts(self) -> dict[str, Any]:
        """The values of masks."""
        return {"mask": {"ids": self.ids, "colors": [[list(color), position] for color, position in self.colors]}}


@dataclass(frozen=True)
class GateReport:
    """What the gate found. Scores in points, agreement in percent; None where nothing could be scored.

    `score` and `checkpoint_score` are of `metric`. `agreement`: of pixels (segmentation), detections or images (classification).
    """

    passed: bool
    failures: list[str]
    images: int = 0
    metric: str = "miou"
    score: float | None = None
    checkpoint_score: float | None = None
    agreement: float | None = None
    seconds: float = 0.0
    runtime: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For events and files: without the duration, so that equal results are equal files."""
        return {
            self.metric: self.score,
            f"checkpoint_{self.metric}": self.checkpoint_score,
            "agreement": self.agreement,
            "images": self.images,
            "failures": self.failures,
            "runtime": self.runtime,
        }


class PredictionFile:
    """The checkpoint's predictions on disk: an N x H x W uint8 array, written batch by batch, never all in memory.

    Args:
        path: the .npy file.
        count: number of images.
        size: height and width of the predictions (the evaluation size).
    """

    def __init__(self, path: Path, count: int, size: tuple[int, int]) -> None:
        self.path = path
        self._stack = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, *size))
        self._written = 0

    def add(self, batch: Any) -> None:
        """Append NHW class positions (array, or tensor on any device), in the order of the images."""
        values = np.asarray(batch.cpu() if hasattr(batch, "cpu") else batch)
        self._stack[self._written : self._written + len(values)] = values
        self._written += len(values)

    def close(self) -> Path:
        """Flush, and return the path. Raises ValueError when images are missing."""
        if self._written != len(self._stack):
            raise ValueError(f"{self._written} predictions for {len(self._stack)} images")
        self._stack.flush()
        return self.path


def verify(
    model: Path,
    *,
    items: Sequence[Item],
    predictions: Path,
    classes: Sequence[str],
    truth: Truth,
    gate: Gate,
    folder: Path,
    claimed: float | None = None,
    threads: int = 0,
    stall_seconds: float = 600.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> GateReport | None:
    """Score an exported file in a process without torch and compare it with its checkpoint.

    Args:
        model: the exported file.
        items: labelled images, in the order of the predictions; `gate.images` limits them.
        predictions: the checkpoint's own (`PredictionFile`, `DetectionFile`, `ClassFile`).
        classes: the dataset's class names, in channel order.
        truth: what to score against.
        gate: limits.
        folder: where manifest, report and the gate's error output are left.
        claimed: the metric that the run reported for the checkpoint on all items; checked when all are scored.
        threads: CPU threads of the gate; 0: all.
        stall_seconds: end the gate when it says nothing for so long.
        progress: called with (done, total) images.
        should_stop: asked several times a second.

    Returns:
        The report; a gate that broke or stalled is a report that did not pass. None when `should_stop` said so.
    """
    scored = list(items[: gate.images])
    if any(item.label is None for item in scored):
        raise ValueError("the gate scores labelled images only")
    report_file = folder / "gate_report.json"
    report_file.unlink(missing_ok=True)
    manifest = {
        "format_version": 1,
        "task": truth.task,
        "model": str(model.resolve()),
        "report": str(report_file.resolve()),
        "predictions": str(predictions.resolve()),
        "images": truth.entries(scored),
        "classes": list(classes),
        **truth.facts(),
        "gate": {"max_drop": gate.max_drop, "min_agreement": gate.min_agreement},
        "claimed": claimed if len(scored) == len(items) else None,
        "threads": threads,
    }
    manifest_file = folder / "gate_manifest.json"
    manifest_file.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    log = folder / "gate_stderr.txt"
    ended = _run(manifest_file, log, stall_seconds, progress, should_stop)
    if ended == "stopped":
        return None
    if ended != "0" or not report_file.is_file():
        last = (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no message"])[-1]
        return GateReport(
            passed=False, metric=truth.metric, failures=[f"The gate did not finish ({ended}): {last[:300]}"]
        )
    found = json.loads(report_file.read_text(encoding="utf-8"))
    names = GateReport.__dataclass_fields__
    return GateReport(**{name: value for name, value in found.items() if name in names})


def _run(
    manifest: Path,
    log: Path,
    stall_seconds: float,
    progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> str:
    """How the process ended: its exit code, `stopped`, or why it was ended."""
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    environment["PYTHONPATH"] = str(Path(acamkd_core.__file__).resolve().parents[1])
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [sys.executable, "-m", "acamkd_core.exports.gate", "--lifeline", str(manifest)]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True
        )
        lines: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
        reader.start()
        heard = time.monotonic()
        try:
            while True:
                if should_stop():
                    return "stopped"
                try:
                    line = lines.get(timeout=0.2)
                except queue.Empty:
                    if process.poll() is not None and not reader.is_alive():
                        return str(process.returncode)
                    if time.monotonic() - heard > stall_seconds:
                        return f"silent for {stall_seconds:g} seconds"
                    continue
                heard = time.monotonic()
                words = line.split()
                if len(words) == 3 and words[0] == "progress":
                    progress(int(words[1]), int(words[2]))
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
            reader.join(timeout=5)
            if process.stdout is not None:
                process.stdout.close()


def _read(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
