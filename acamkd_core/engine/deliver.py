"""From a trained student to a download: exports, the parity gate, the bundle."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch

import acamkd_core
from acamkd_core.datasets.box_dataset import BoxDataset
from acamkd_core.datasets.image_folder import ImageFolder
from acamkd_core.engine.build import Built, Data
from acamkd_core.engine.evaluate import Score, evaluate
from acamkd_core.engine.parts import Emit, Run
from acamkd_core.engine.profile import count_macs, count_parameters
from acamkd_core.exports.base import ExportClass, ExportSource
from acamkd_core.exports.bundle import write_bundle
from acamkd_core.exports.card import CardFacts
from acamkd_core.exports.registry import exporter
from acamkd_core.exports.verify import GateReport, MaskValues, PredictionFile, Truth, verify
from acamkd_core.exports.verify_classification import ClassFile, ClassTruth
from acamkd_core.exports.verify_detection import BoxTruth, DetectionFile
from acamkd_core.exports.words import WORDS
from acamkd_core.models.weights import weights_digest
from acamkd_core.spec.digest import digest
from acamkd_core.spec.events import ExportEvent, LogEvent, StageEvent
from acamkd_core.spec.exports import OnnxExport
from acamkd_core.spec.labels import arch_label, network_label
from acamkd_core.spec.programs import program_of
from acamkd_core.tasks.base import Task


def deliver(
    built: Built,
    data: Data,
    run: Run,
    *,
    metrics: dict[str, float],
    test: Score | None,
    emit: Emit,
    should_stop: Callable[[], bool],
) -> dict[str, float] | None:
    """Exports the student (with its final weights), verifies each file that a gate can score, and zips the download.

    Returns the metrics that this adds (`export/onnx/<metric>` ...), or None when `should_stop` asked to end.
    """
    spec, parts = built.spec, built.parts
    folder = run.folder / "exports"
    folder.mkdir(parents=True, exist_ok=True)
    source = _source(built, data)
    emit(StageEvent(stage="export"))

    # What the checkpoint itself says, image by image: the gate holds every exported file against it.
    primary, words = parts.task.primary_metric, WORDS[parts.task.name]
    predictions, truth = _evidence(data, parts.task, folder / "predictions", len(parts.val), source.size)
    score = evaluate(parts.student, parts.task, parts.val, parts.device, each=predictions.add, should_stop=should_stop)
    if score is None:
        return None
    predictions.close()

    files: list[Path] = []
    reports: list[GateReport] = []
    added = {f"val/{primary}": score.metrics[primary]}
    for options in spec.exports:
        chosen = exporter(options.format)
        written = chosen.write(source, options, folder / chosen.file_name)
        report = None
        if isinstance(options, OnnxExport):
            emit(StageEvent(stage="verify", detail=options.format))
            report = verify(
                written.path, items=data.dataset.items("val"), predictions=predictions.path,
                classes=[c.name for c in data.dataset.classes], truth=truth, gate=options.gate, folder=folder,
                claimed=score.metrics[primary], threads=torch.get_num_threads(), should_stop=should_stop,
            )  # fmt: skip
            if report is None:
                return None
            reports.append(report)
            if report.score is not None:
                added[f"export/{options.format}/{primary}"] = report.score
            if report.passed and report.score is not None and report.agreement is not None:
                told = f"{words.metric} {report.score:.2f}, {words.agreement} {report.agreement:.2f} %"
                emit(LogEvent(message=f"{options.format} verified: {told}"))
            for sentence in report.failures:
                emit(LogEvent(level="warning", message=f"{options.format}: {sentence}"))
        files.append(written.path)
        emit(
            ExportEvent(
                format=options.format, path=f"exports/{written.path.name}", bytes=written.bytes, weights_digest=source.weights_digest,
                verified=report.passed if report else None, gate=report.as_dict() if report else {},
            )
        )  # fmt: skip
    predictions.path.unlink()
    name = spec.name or "student"
    facts = _card(
        built, data, source, metrics | added, test or score, "test" if test else "val", reports[0] if reports else None
    )
    bundle = write_bundle(folder / name, folder / "bundle.zip", files, facts)
    emit(
        ExportEvent(
            format="zip", path="exports/bundle.zip", bytes=bundle.zip.stat().st_size, weights_digest=source.weights_digest,
            verified=bundle.verified, gate=reports[0].as_dict() if reports else {},
        )
    )  # fmt: skip
    return added


def _evidence(
    data: Data, task: Task, path: Path, count: int, size: tuple[int, int]
) -> tuple[PredictionFile | DetectionFile | ClassFile, Truth]:
    """Where the checkpoint's predictions are kept for the gate, and what both are scored against."""
    dataset = data.dataset
    if isinstance(dataset, BoxDataset):
        return DetectionFile(path.with_suffix(".json")), BoxTruth(dataset.boxes)
    if isinstance(dataset, ImageFolder):
        return ClassFile(path.with_suffix(".npy")), ClassTruth(dataset.position)
    return PredictionFile(path.with_suffix(".npy"), count, size), MaskValues.of(dataset.classes)


def _source(built: Built, data: Data) -> ExportSource:
    spec, parts = built.spec, built.parts
    assert spec.student.arch is not None
    assert spec.student.preprocess is not None
    return ExportSource(
        model=parts.student,  # type: ignore[arg-type]
        arch=spec.student.arch.model_dump(mode="json"),
        preprocess=spec.student.preprocess,
        classes=[ExportClass(c.name, c.color) for c in data.dataset.classes],
        size=parts.input_size,
        scores=parts.task.scores,
        outputs=parts.task.outputs,
        selection=parts.task.selection(parts.student, parts.input_size),
        weights_digest=weights_digest(parts.student.state_dict()),
        task=parts.task.name,
        aspect=spec.augment.aspect(),
        short_side=spec.augment.short_side,
        chosen_inside=getattr(parts.student, "chosen_inside", 0) > 0,
    )


def _card(
    built: Built,
    data: Data,
    source: ExportSource,
    metrics: dict[str, float],
    score: Score,
    split: str,
    gate: GateReport | None,
) -> CardFacts:
    spec, parts, primary = built.spec, built.parts, built.parts.task.primary_metric
    assert spec.student.arch is not None
    teacher: str | None = None
    if spec.teacher is not None and spec.teacher.weights is not None:
        weights = spec.teacher.weights
        # A download tells nothing of the folders of the machine that made it.
        origin = Path(weights.file).name if weights.file else weights.reference
        teacher = f"{arch_label(spec.teacher.arch)} ({origin})" if spec.teacher.arch else network_label(spec.teacher)
    facts: dict[str, Any] = {
        "name": spec.name or "student",
        "student": arch_label(spec.student.arch),
        "teacher": teacher,
        "program": program_of(spec.model_dump(mode="json"), ran=True),
        "distill": [
            f"{term.method} at {', '.join(term.at)}, weight {term.weight:g}"
            + (f", placebo {term.placebo}" if term.placebo != "none" else "")
            for term in spec.distill
        ],
        "dataset": data.dataset.name,
        "dataset_digest": data.dataset.digest,
        "classes": source.classes,
        "size": source.size,
        "aspect": source.aspect,
        "short_side": source.short_side,
        "told_inside": source.told_inside,
        "task": parts.task.name,
        "metrics": {
            name: metrics[name]
            for split in ("val", "test", "val_ms", "test_ms")
            if (name := f"{split}/{primary}") in metrics
        },
        "views": (spec.evaluation.scales, spec.evaluation.flip) if spec.evaluation.averages else None,
        "per_class": score.per_class,
        "per_class_split": split,
        "gate": gate,
        "parameters": count_parameters(parts.student),
        "teacher_parameters": count_parameters(parts.teacher) if parts.teacher is not None else None,
        "macs": count_macs(parts.student, *source.size),
        "weights_digest": source.weights_digest,
        "spec_digest": digest(spec),
        "seed": spec.seed,
        "versions": {
            "acamkd": acamkd_core.__version__, "torch": torch.__version__, "onnxruntime": onnxruntime.__version__,
            "python": platform.python_version(),
        },
    }  # fmt: skip
    return CardFacts(**facts)
