"""`acamkd init`: a first job file, with comments, for what lies in the folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli.output import SUCCEEDED, Format, Output, emit, say

_LAYOUT = ("images", "masks", "classes.json")
# A first student for each task, and a method that fits it.
_STUDENTS = {
    "semantic_segmentation": "deeplabv3-mobilenet_v2-3.2m",
    "detection": "retinanet-mobilenet_v2",
    "classification": "mobilenet_v2-1.0",
}
_MORE = "maskd, cwd, pkd, mgd, cankd, freekd, diffkd, logit, feature_mse"
_TERMS = {
    "semantic_segmentation": f"# = [{{method: acam, at: [logits]}}]; also {_MORE}",
    "detection": f"# on every pyramid level; also fgd, crosskd, {_MORE}",
    "classification": f"# on the last map; also {_MORE}",
}
_SCHEDULE = "schedule: {epochs: 30}         # or {iterations: 40000}\n"
_OPTIMIZER = "optimizer: {lr: 0.02}          # sgd with momentum 0.9; nothing is scaled silently\n"
# Detectors from scratch on small data: docs/results/bccd.md has the runs. The papers' SGD is in `acamkd recipes`.
_DETECTOR = (
    "schedule: {epochs: 30, warmup_iterations: 50}                # or {iterations: 40000}\n",
    "optimizer: {name: adamw, lr: 0.002, weight_decay: 0.0001}    # nothing is scaled silently\n"
    "train: {grad_clip: 10}\n",
)
# Where no dataset was found.
_SCENES = "dataset: scenes                # built-in street scenes; or a folder (docs/job-spec.md has the layouts)\n"
_DATA = {"classification": "dataset: ./images              # a folder with train/<class>/ and val/<class>/\n"}
_AUGMENT = {
    "semantic_segmentation": "# augment: {crop: [256, 256], scale: [0.5, 2.0], flip: 0.5}\n",
    "detection": "# augment: {size: [480, 640], scale: [0.8, 1.25], flip: 0.5}    # size: all images are stretched to it; automatic: the first one's\n",
    "classification": "# augment: {size: [224, 224], short_side: 256, area: [0.08, 1.0], flip: 0.5}\n",
}
_DEFAULT_TASK = "semantic_segmentation"


@dataclass(frozen=True)
class Found:
    """A dataset beside the job: `path` as the spec writes it, the format, and the task that its labels are for."""

    path: str
    format: str
    task: str


def find_dataset(folder: Path, task: str | None = None) -> Found | None:
    """A dataset in `folder` or one level below; None when there is none that suits `task`."""
    below = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    for path in [folder, *sorted(below)]:
        found = _look(path, task)
        if found is not None:
            format, labels = found
            return Found("." if path == folder else f"./{path.name}", format, labels)
    return None


def _look(path: Path, task: str | None) -> tuple[str, str] | None:
    """(format, task) of a folder."""
    try:
        from acamkd_core.datasets.registry import detect, task_of
    except ImportError:  # a base install writes job files too, but knows the plainest layout only
        plain = task in (None, _DEFAULT_TASK) and all((path / name).exists() for name in _LAYOUT)
        return ("mask_folder", _DEFAULT_TASK) if plain else None
    from acamkd_core.spec.datasets import AutoDataset
    from acamkd_core.spec.errors import CoreError

    try:
        spec = detect(AutoDataset(root=str(path)), path, task)  # type: ignore[arg-type]
    except (CoreError, OSError):
        return None
    labels = task_of(spec, path, task)  # type: ignore[arg-type]
    return (spec.format, labels) if task in (None, labels) else None


def find_teacher(folder: Path) -> str | None:
    """The first weights file beside the job."""
    found = sorted(path.name for path in folder.glob("*.safetensors"))
    return f"./{found[0]}" if found else None


def job_text(dataset: str | None, teacher: str | None, task: str = _DEFAULT_TASK) -> str:
    """The job file."""
    data = f"dataset: {dataset}\n" if dataset else _DATA.get(task, _SCENES)
    schedule, optimizer = _DETECTOR if task == "detection" else (_SCHEDULE, _OPTIMIZER)
    pair = (
        f"teacher: {teacher}\ndistill: acam                  {_TERMS[task]}\n"
        if teacher
        else "# Without a teacher the student is trained alone, and can be a teacher afterwards:\n"
        "# teacher: job:my-teacher      # or model:street@champion, or ./teacher.safetensors\n"
        f"# distill: acam                {_TERMS[task]}\n"
    )
    return (
        "# A distillation job. Only `dataset` and `student` are needed; everything else has a default,\n"
        "# and `acamkd submit --dry-run -o yaml FILE` shows all of it.\n"
        "version: 1\n"
        "# name: my-student              # what other jobs call it (`teacher: job:NAME`); automatic: two words\n\n"
        f"task: {task}\n"
        f"{data}"
        f"student: {_STUDENTS[task]}   # a preset (`acamkd models`), or an object: {{arch: {{...}}}}\n"
        f"{pair}\n"
        f"{schedule}"
        "batch: {global_size: 8}        # images per step\n"
        f"{optimizer}{_AUGMENT[task]}"
        "# evaluation: {every: 500}     # iterations between scores; automatic: a tenth of the run\n"
        "exports: [safetensors, onnx]   # the ONNX file is re-scored before it is called verified\n"
        "seed: 0\n"
    )


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write job.yaml into.")] = Path("."),
    task: Annotated[
        str | None,
        typer.Option(
            "--task", help="semantic_segmentation, detection or classification; else what the dataset's labels say."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a job.yaml that is there.")] = False,
    output: Output = Format.table,
) -> int:
    """Write a first job.yaml, for the dataset and weights that lie in the folder."""
    from acamkd_core.spec.errors import CoreError

    if task is not None and task not in _STUDENTS:
        raise CoreError(
            "init.task", f"there is no task {task!r}", hint=f"one of {', '.join(_STUDENTS)}", field="--task", value=task
        )
    target = folder.expanduser() / "job.yaml"
    if target.exists() and not force:
        raise CoreError("init.exists", "there is a job.yaml already", hint="--force replaces it", value=str(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        dataset, teacher = find_dataset(target.parent, task), find_teacher(target.parent)
        chosen = task or (dataset.task if dataset else _DEFAULT_TASK)
        target.write_text(job_text(dataset.path if dataset else None, teacher, chosen), encoding="utf-8")
    except OSError as error:
        raise CoreError("init.folder", f"{target} cannot be written: {error.strerror}", value=str(target)) from None
    summary = {
        "path": str(target),
        "dataset": dataset.path if dataset else None if chosen in _DATA else "scenes",
        "task": chosen,
        "teacher": teacher,
    }
    if not emit(summary, output):
        print(target)
        missing = "none found: name one" if chosen in _DATA else "none found, so the built-in scenes"
        data = f"{dataset.path} ({dataset.format})" if dataset else missing
        say(f"dataset: {data}; task: {chosen}; teacher: {teacher or 'none found'}")
        say(f"next: acamkd run {target}   (here, without a service), or acamkd submit {target}")
    return SUCCEEDED
