"""The parity gate: `python -m acamkd_core.exports.gate MANIFEST.json` re-scores an exported file without torch.

Everything about preprocessing, class order and size comes from the exported file, read by the very `predict.py` that
ships with it. The manifest says where images and masks are, how mask values map to the dataset's classes, and what
the checkpoint predicted. Class ids of the file are carried to the dataset's classes by name, so that a file with
permuted names fails like one with permuted channels.

Prints `progress DONE TOTAL` lines; writes the report as JSON to the manifest's `report`. Exit code 0: a report was
written (whatever it says); anything else: the gate itself broke.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from acamkd_core.exports.predict import Classifier, Detector, ModelFileError, Segmenter


def score(manifest: dict[str, Any]) -> dict[str, Any]:
    """Run the file over the manifest's images and compare. Returns the report."""
    started = time.monotonic()
    judge = judge_of(manifest.get("task", "semantic_segmentation"))
    report: dict[str, Any] = {
        "passed": False, "images": 0, "metric": judge.metric, "score": None, "checkpoint_score": None, "agreement": None
    }  # fmt: skip
    try:
        model = judge.reader(Path(manifest["model"]), threads=int(manifest.get("threads", 0)))
        theirs, names = set(model.contract.classes), set(manifest["classes"])
        if theirs != names:
            unknown = ", ".join(sorted(theirs ^ names)[:5])
            raise ModelFileError(f"The file's class names differ from the dataset's: {unknown}")
        report |= judge.compare(model, manifest)
        report["failures"] = failures_of(report, manifest, judge.word, judge.compared)
    except ModelFileError as error:
        report["failures"] = [f"{error}."]
    report["passed"] = not report["failures"]
    return report | {"seconds": time.monotonic() - started}


@dataclass(frozen=True)
class Judge:
    """What differs between tasks.

    reader: the class of `predict.py` that reads the file.
    compare: (model, manifest) to `images`, `score`, `checkpoint_score`, `agreement` and what else the task reports;
        raises ModelFileError for what the file or an image makes impossible.
    metric, word: key of the score, and its name for readers. compared: what agrees or does not, in words.
    """

    reader: Any
    compare: Callable[[Any, dict[str, Any]], dict[str, Any]]
    metric: str
    word: str
    compared: str


def judge_of(task: str) -> Judge:
    """The judge of a task."""
    if task == "detection":
        from acamkd_core.exports.gate_detection import compare_detections

        return Judge(Detector, compare_detections, "map", "mAP", "the detections (by score)")
    if task == "classification":
        from acamkd_core.exports.gate_classification import compare_choices

        return Judge(Classifier, compare_choices, "top1", "top-1", "the images' classes")
    from acamkd_core.exports.gate_segmentation import compare_pixels

    return Judge(Segmenter, compare_pixels, "miou", "mIoU", "the pixels")


def class_positions(model: Any, manifest: dict[str, Any]) -> np.ndarray:
    """Class of the file to the dataset's class of the same name."""
    names = manifest["classes"]
    return np.array([names.index(name) for name in model.contract.classes], dtype=np.int64)


def told(images: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The manifest's images with their positions; says after each how many are done."""
    for index, entry in enumerate(images):
        yield index, entry
        print(f"progress {index + 1} {len(images)}", flush=True)


def failures_of(report: dict[str, Any], manifest: dict[str, Any], metric: str, compared: str) -> list[str]:
    """Sentences about every limit that the report breaks. `metric` and `compared` are words for the reader."""
    limits, failures = manifest["gate"], []
    drop = report["checkpoint_score"] - report["score"]
    if not abs(drop) <= limits["max_drop"]:
        failures.append(
            f"The file scores {report['score']:.2f} {metric}, the checkpoint {report['checkpoint_score']:.2f}; "
            f"{limits['max_drop']:g} points of difference are allowed."
        )
    if not report["agreement"] >= limits["min_agreement"]:
        failures.append(
            f"{report['agreement']:.3f} % of {compared} agree with the checkpoint; "
            f"{limits['min_agreement']:g} % are asked for."
        )
    claimed = manifest.get("claimed")
    if claimed is not None and not abs(claimed - report["checkpoint_score"]) <= limits["max_drop"]:
        failures.append(
            f"The run reported {claimed:.2f} {metric} for the checkpoint, its stored predictions "
            f"score {report['checkpoint_score']:.2f}."
        )
    return failures


def _end_with_parent() -> None:
    """End the process when stdin closes: its only writer is the parent, which may have been killed."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(3)

    threading.Thread(target=wait, daemon=True).start()


def main(arguments: list[str]) -> int:
    """The process: manifest in, report out."""
    if "--lifeline" in arguments:
        _end_with_parent()
    (path,) = (argument for argument in arguments if not argument.startswith("--"))
    # From here on an import of torch, by whatever library, is an error: the file must work without it.
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    manifest = json.loads(Path(path).read_text(encoding="utf-8"))
    report = score(manifest)
    report["torch_loaded"] = sys.modules.get("torch") is not None
    import onnxruntime

    report["runtime"] = f"onnxruntime {onnxruntime.__version__}"
    out = Path(manifest["report"])
    aside = out.with_name(out.name + ".part")
    aside.write_text(json.dumps(report, indent=1), encoding="utf-8")
    aside.replace(out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
