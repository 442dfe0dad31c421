"""The model card of a bundle, in Hugging Face's form: YAML front matter, then what a stranger needs to know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from acamkd_core.exports.base import ExportClass
from acamkd_core.exports.verify import GateReport
from acamkd_core.exports.words import WORDS, TaskWords
from acamkd_core.spec.programs import TeacherProgram


@dataclass(frozen=True)
class CardFacts:
    """What is told about a student. Metrics in points; everything else as the run recorded it.

    Attributes:
        name: of the job.
        student: architecture in words, e.g. `deeplabv3-mobilenet_v2-3.2m`.
        teacher: in words, None when the student was trained alone.
        program: the teacher's, where it was one.
        distill: one line a distillation term, e.g. `acam at logits, weight 1`.
        dataset, dataset_digest: what it was trained on.
        classes: in channel order.
        size: height and width that the network works at.
        aspect: how images are resized where they keep their aspect ratio; then `size` is one of many.
        short_side: to which images are resized before `size` is cut out of the middle (classification).
        told_inside: the graph has a second input, what of each image is no padding.
        metrics: e.g. `{"val/miou": 37.0, "test/miou": 35.2}`; splits that end in `_ms` are scored over `views`.
        views: scales of the images, and whether mirrored ones too, that a second score averages over.
        per_class: `class_metric` (IoU ...) per class on the split of `per_class_split`; None where the class does not occur.
        gate: report on the ONNX file; None when no gate has run.
        versions: of the libraries.
        license: of the weights, as a Hugging Face identifier; who trains decides.
    """

    name: str
    student: str
    teacher: str | None
    distill: list[str]
    dataset: str
    dataset_digest: str
    classes: list[ExportClass]
    size: tuple[int, int]
    metrics: dict[str, float]
    views: tuple[tuple[float, ...], bool] | None = None
    per_class: dict[str, float | None] = field(default_factory=dict)
    per_class_split: str = "val"
    gate: GateReport | None = None
    parameters: int | None = None
    macs: int | None = None
    teacher_parameters: int | None = None
    weights_digest: str = ""
    spec_digest: str = ""
    seed: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    license: str = "unknown"
    task: str = "semantic_segmentation"
    aspect: dict[str, int] | None = None
    short_side: int | None = None
    told_inside: bool = False
    program: TeacherProgram | None = None

    @property
    def words(self) -> TaskWords:
        """How its task is spoken of."""
        return WORDS[self.task]

    @property
    def verified(self) -> bool:
        """Whether the gate has passed: never assumed."""
        return self.gate is not None and self.gate.passed


def model_card(facts: CardFacts, files: list[str]) -> str:
    """The README.md of a bundle that holds `files`."""
    with_onnx = "model.onnx" in files
    parts = [
        _front_matter(facts, with_onnx),
        f"# {facts.name}\n",
        _verdict(facts, with_onnx),
        _summary(facts),
        _results(facts),
        _gate(facts),
        _how_to_run(facts) if with_onnx else "",
        _files(files),
        _limits(facts),
    ]
    return "\n".join(part for part in parts if part)


def _front_matter(facts: CardFacts, with_onnx: bool) -> str:
    method = [line.split()[0] for line in facts.distill]
    tags = [
        *facts.words.tags,
        *(["knowledge-distillation"] if facts.distill else []),
        *method,
    ]
    words, ending = facts.words, f"/{facts.words.metric_key}"
    results = [
        {"type": words.metric_type, "name": f"{words.metric} ({name.removesuffix(ending)})", "value": round(value, 2)}
        for name, value in sorted(facts.metrics.items())
        if name.endswith(ending)
    ]
    data: dict[str, Any] = {
        "license": facts.license,
        "library_name": "onnx" if with_onnx else "pytorch",
        "pipeline_tag": words.pipeline,
        "tags": list(dict.fromkeys(tags)),
        "metrics": [words.metric_type],
    }
    if results:
        task = {"type": words.pipeline, "name": words.name}
        dataset = {"type": facts.dataset, "name": facts.dataset, "revision": facts.dataset_digest}
        data["model-index"] = [
            {"name": facts.name, "results": [{"task": task, "dataset": dataset, "metrics": results}]}
        ]
    return f"---\n{yaml.safe_dump(data, sort_keys=False, allow_unicode=True)}---\n"


def _verdict(facts: CardFacts, with_onnx: bool) -> str:
    if not with_onnx:
        return "**UNVERIFIED**: there is no exported graph here that could be scored without PyTorch.\n"
    if facts.gate is None:
        return "**UNVERIFIED**: the exported file was not scored against the trained checkpoint.\n"
    if facts.gate.passed:
        return (
            "Verified: the exported file was scored from the image files without PyTorch and equals the checkpoint.\n"
        )
    reasons = "\n".join(f"- {sentence}" for sentence in facts.gate.failures)
    return f"**UNVERIFIED**: the exported file does not do what the trained checkpoint did.\n\n{reasons}\n"


def _summary(facts: CardFacts) -> str:
    rows = [("Student", facts.student + _size(facts.parameters))]
    if facts.macs:
        rows.append(("Multiply-adds", f"{facts.macs / 1e9:.2f} G at {facts.size[0]}x{facts.size[1]}"))
    rows.append(("Teacher", facts.teacher + _size(facts.teacher_parameters) if facts.teacher else "none"))
    if facts.program is not None:
        told = f"`{facts.program.file}`, sha256 `{facts.program.sha256}`"
        rows.append(
            ("Code that was run", f"the teacher is a program, {told}: its code ran while this student was trained")
        )
    rows.append(("Distillation", "; ".join(facts.distill) or "none: trained on the labels alone"))
    rows.append(("Data", f"{facts.dataset}, version {facts.dataset_digest}"))
    if facts.aspect is not None:
        short, most, step = facts.aspect["short"], facts.aspect["max"], facts.aspect["pad_to"]
        told = f"shorter side {short} pixels, longer at most {most}, padded to multiples of {step}"
        rows.append(("Input", f"any size; {told}"))
    else:
        told = "other sizes are resized to it"
        if facts.short_side is not None:
            told = f"the middle of an image whose shorter side was resized to {facts.short_side}"
        rows.append(("Input", f"{facts.size[0]}x{facts.size[1]} pixels (height x width); {told}"))
    rows.append(("Classes", _names([entry.name for entry in facts.classes])))
    rows.append(("Seed", str(facts.seed)))
    if facts.spec_digest:
        rows.append(("Job spec", f"`{facts.spec_digest}`"))
    if facts.weights_digest:
        rows.append(("Weights", f"`{facts.weights_digest}`"))
    if facts.versions:
        rows.append(("Made with", ", ".join(f"{name} {version}" for name, version in sorted(facts.versions.items()))))
    return "| | |\n| --- | --- |\n" + "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows) + "\n"


def _size(parameters: int | None) -> str:
    return f" ({parameters / 1e6:.2f} M parameters)" if parameters else ""


def _names(names: list[str], shown: int = 50) -> str:
    rest = f" and {len(names) - shown} more, in labels.txt" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _results(facts: CardFacts) -> str:
    lines = ["## Results\n", "| metric | points |", "| --- | ---: |"]
    lines += [f"| {_cell(name)} | {value:.2f} |" for name, value in sorted(facts.metrics.items())]
    if facts.views is not None:
        scales, flip = facts.views
        lines += [
            "",
            f"`_ms`: class probabilities averaged over images scaled by {', '.join(f'{one:g}' for one in scales)}"
            f"{' and their mirror images' if flip else ''}. Every other number on this page, the verification's too, is of "
            "one pass over the image as it is, which is what the exported files do.",
        ]
    if facts.per_class:
        name = facts.words.class_metric
        lines += ["", f"{name} per class on `{facts.per_class_split}`:\n", f"| class | {name} |", "| --- | ---: |"]
        lines += [
            f"| {_cell(name)} | {'does not occur' if value is None else f'{value:.2f}'} |"
            for name, value in facts.per_class.items()
        ]
    return "\n".join(lines) + "\n" if facts.metrics or facts.per_class else ""


def _gate(facts: CardFacts) -> str:
    gate = facts.gate
    if gate is None or gate.score is None or gate.checkpoint_score is None or gate.agreement is None:
        return ""
    return (
        "## Verification\n\n"
        f"`model.onnx` was run on {gate.images} validation images by {gate.runtime or 'onnxruntime'}, in a process "
        "without PyTorch, with the `predict.py` beside this card: nothing but the file says how to prepare an image "
        "and what the classes are.\n\n"
        "| | exported file | checkpoint |\n| --- | ---: | ---: |\n"
        f"| {facts.words.metric} | {gate.score:.2f} | {gate.checkpoint_score:.2f} |\n"
        f"| {facts.words.agreement} | {gate.agreement:.3f} % | |\n"
    )


INSIDE = ", `size` (N x 2, float32: height and width of each image without its padding)"


def _how_to_run(facts: CardFacts) -> str:
    return (
        "## How to run\n\n"
        f"{facts.words.example.format(height=facts.size[0], width=facts.size[1])}"
        "The graph takes `image` (N x 3 x H x W, float32, already normalised as its metadata entry `acamkd` says)"
        f"{INSIDE if facts.told_inside else ''} and {facts.words.graph}"
    )


def _files(files: list[str]) -> str:
    meaning = {
        "model.onnx": "graph and weights for onnxruntime and other ONNX runtimes",
        "model.safetensors": "weights for PyTorch, with architecture and preprocessing in the header",
        "predict.py": "command line and Python class; needs onnxruntime, Pillow and NumPy",
        "labels.txt": "class names, line n is class n - 1",
        "config.json": "everything on this page, for programs",
        "requirements.txt": "what predict.py needs",
    }
    return "## Files\n\n" + "\n".join(f"- `{name}`: {meaning.get(name, 'exported model')}" for name in files) + "\n"


def _limits(facts: CardFacts) -> str:
    text = (
        "## Limits\n\n"
        f"- Trained on `{facts.dataset}` only; scores on other cameras, places or weather are unknown.\n"
        f"- It knows {len(facts.classes)} classes and {facts.words.limit}.\n"
        "- Scores are of one training run with one seed; another seed gives another number.\n"
        "- Not made for decisions about people's safety.\n"
    )
    if facts.license == "unknown":
        text += "- No licence was given for these weights; the data and the teacher may restrict their use.\n"
    return text
