"""The download: a folder and a zip with model files, `predict.py`, labels and a model card. Equal inputs, equal bytes."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acamkd_core.exports import predict
from acamkd_core.exports.card import CardFacts, model_card

# predict.py uses nothing newer than these.
REQUIREMENTS = "numpy>=1.24\nonnxruntime>=1.17\npillow>=9.5\n"
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the format's earliest: a clock would make equal downloads differ


@dataclass(frozen=True)
class Bundle:
    """Where the download lies."""

    folder: Path
    zip: Path
    verified: bool


def write_bundle(folder: Path, archive: Path, models: list[Path], facts: CardFacts) -> Bundle:
    """Write the folder anew, then the zip of it.

    Args:
        folder: replaced when it exists.
        archive: the zip file; appears whole or not at all.
        models: exported files, copied under their own names.
        facts: what the card says.
    """
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for model in models:
        shutil.copyfile(model, aside / model.name)
    _write(aside / "labels.txt", "".join(f"{entry.name}\n" for entry in facts.classes))
    if any(model.name == "model.onnx" for model in models):
        shutil.copyfile(Path(predict.__file__), aside / "predict.py")
        _write(aside / "requirements.txt", REQUIREMENTS)
    _write(aside / "config.json", json.dumps(config(facts), indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    files = sorted(path.name for path in aside.iterdir())
    _write(aside / "README.md", model_card(facts, files))
    shutil.rmtree(folder, ignore_errors=True)
    aside.replace(folder)
    write_zip(folder, archive)
    return Bundle(folder, archive, facts.verified)


def config(facts: CardFacts) -> dict[str, Any]:
    """The card's facts for programs."""
    return {
        "format_version": 1,
        "name": facts.name,
        "task": facts.task,
        "verified": facts.verified,
        "student": facts.student,
        "teacher": facts.teacher,
        **({"teacher_program": facts.program.model_dump()} if facts.program is not None else {}),
        "distill": facts.distill,
        "dataset": {"name": facts.dataset, "digest": facts.dataset_digest},
        "classes": [{"id": i, "name": c.name, "color": list(c.color)} for i, c in enumerate(facts.classes)],
        "size": list(facts.size),
        **({"aspect": facts.aspect} if facts.aspect is not None else {}),
        **({"short_side": facts.short_side} if facts.short_side is not None else {}),
        "metrics": facts.metrics,
        "per_class": {"split": facts.per_class_split, facts.words.class_metric.lower(): facts.per_class},
        "gate": facts.gate.as_dict() if facts.gate else None,
        "parameters": facts.parameters,
        "macs": facts.macs,
        "weights_digest": facts.weights_digest,
        "spec_digest": facts.spec_digest,
        "seed": facts.seed,
        "versions": facts.versions,
        "license": facts.license,
    }


def write_zip(folder: Path, archive: Path) -> None:
    """All files of a folder under its name: sorted, with a fixed time and fixed rights."""
    aside = archive.with_name(archive.name + ".part")
    with zipfile.ZipFile(aside, "w") as target:
        for path in sorted(folder.rglob("*")):
            if not path.is_file():
                continue
            name = f"{folder.name}/{path.relative_to(folder).as_posix()}"
            entry = zipfile.ZipInfo(name, date_time=ZIP_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, wherever it is written: else the bytes depend on the machine
            entry.external_attr = 0o100644 << 16
            with path.open("rb") as source, target.open(entry, "w", force_zip64=True) as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
    aside.replace(archive)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
