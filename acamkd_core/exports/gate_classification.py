"""The parity gate for classifiers: top-1 of an exported file from the image files, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from acamkd_core.exports.gate import class_positions, told
from acamkd_core.exports.predict import Classifier, read_image

TOP = 5


def compare_choices(classifier: Classifier, manifest: dict[str, Any]) -> dict[str, Any]:
    """Accuracy of the file and of the checkpoint, and the share of images that both call the same."""
    to_dataset = class_positions(classifier, manifest)
    stored = np.load(manifest["predictions"], allow_pickle=False)
    right = near = right_checkpoint = equal = 0
    for index, entry in told(manifest["images"]):
        scores = classifier.scores(read_image(Path(entry["image"])))
        order = to_dataset[np.argsort(-scores, kind="stable")]
        right += int(order[0] == entry["label"])
        near += int(entry["label"] in order[:TOP])
        right_checkpoint += int(stored[index] == entry["label"])
        equal += int(order[0] == stored[index])
    images, top5 = len(manifest["images"]), len(manifest["classes"]) > TOP
    share = 100.0 / max(images, 1)
    return {
        "images": images,
        "score": share * right,
        "checkpoint_score": share * right_checkpoint,
        "agreement": share * equal,
        "summary": {"top1": share * right, **({"top5": share * near} if top5 else {})},
    }
