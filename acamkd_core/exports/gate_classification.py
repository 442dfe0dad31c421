"""The parity gate for classifiers: top-1 of an exported file from the image files, without torch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from acamkd_core.exports.gate import failures_of
from acamkd_core.exports.predict import Classifier, ModelFileError, read_image

TOP = 5


def score_classification(manifest: dict[str, Any]) -> dict[str, Any]:
    """Run the file over the manifest's images and compare. Returns the report."""
    started = time.monotonic()
    names: list[str] = manifest["classes"]
    report: dict[str, Any] = {
        "passed": False, "images": 0, "metric": "top1", "score": None, "checkpoint_score": None, "agreement": None
    }  # fmt: skip

    def broken(sentence: str) -> dict[str, Any]:
        return report | {"failures": [sentence], "seconds": time.monotonic() - started}

    try:
        classifier = Classifier(Path(manifest["model"]), threads=int(manifest.get("threads", 0)))
    except ModelFileError as error:
        return broken(f"{error}.")
    theirs = classifier.contract.classes
    if set(theirs) != set(names):
        unknown = sorted(set(theirs) ^ set(names))
        return broken(f"The file's class names differ from the dataset's: {', '.join(unknown[:5])}.")
    position = {name: index for index, name in enumerate(names)}
    to_dataset = np.array([position[name] for name in theirs], dtype=np.int64)
    stored = np.load(manifest["predictions"], allow_pickle=False)
    images = manifest["images"]
    right = near = right_checkpoint = equal = 0
    for index, entry in enumerate(images):
        try:
            scores = classifier.scores(read_image(Path(entry["image"])))
        except ModelFileError as error:
            return broken(f"{error}.")
        order = to_dataset[np.argsort(-scores, kind="stable")]
        right += int(order[0] == entry["label"])
        near += int(entry["label"] in order[:TOP])
        right_checkpoint += int(stored[index] == entry["label"])
        equal += int(order[0] == stored[index])
        print(f"progress {index + 1} {len(images)}", flush=True)

    share = 100.0 / max(len(images), 1)
    report |= {
        "images": len(images),
        "score": share * right,
        "checkpoint_score": share * right_checkpoint,
        "agreement": share * equal,
        "summary": {"top1": share * right, **({"top5": share * near} if len(names) > TOP else {})},
    }
    report["failures"] = failures_of(report, manifest, "top-1", "the images' classes")
    report["passed"] = not report["failures"]
    return report | {"seconds": time.monotonic() - started}
