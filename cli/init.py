"""`acamkd init`: a first job file, with comments, for what lies in the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import SUCCEEDED, Format, Output, emit, say

_LAYOUT = ("images", "masks", "classes.json")


def find_dataset(folder: Path) -> str | None:
    """A mask folder in `folder` or one level below, as the spec writes it; None when there is none."""
    candidates = [folder, *sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))]
    for path in candidates:
        if all((path / name).exists() for name in _LAYOUT):
            return "." if path == folder else f"./{path.name}"
    return None


def find_teacher(folder: Path) -> str | None:
    """The first weights file beside the job."""
    found = sorted(path.name for path in folder.glob("*.safetensors"))
    return f"./{found[0]}" if found else None


def job_text(dataset: str | None, teacher: str | None) -> str:
    """The job file."""
    data = (
        f"dataset: {dataset}\n"
        if dataset
        else "dataset: scenes                # built-in street scenes; or a folder with images/, masks/ and classes.json\n"
    )
    pair = (
        f"teacher: {teacher}\n"
        "distill: acam                  # = [{method: acam, at: [logits]}]; also maskd, cwd, pkd, mgd, logit, feature_mse\n"
        if teacher
        else "# Without a teacher the student is trained alone, and can be a teacher afterwards:\n"
        "# teacher: job:my-teacher      # or model:street@champion, or ./teacher.safetensors\n"
        "# distill: acam                # = [{method: acam, at: [logits]}]; also maskd, cwd, pkd, mgd, logit, feature_mse\n"
    )
    return (
        "# A distillation job. Only `dataset` and `student` are needed; everything else has a default,\n"
        "# and `acamkd submit --dry-run FILE` shows all of it.\n"
        "version: 1\n\n"
        f"{data}"
        "student: deeplabv3-mobilenet_v2-3.2m   # a preset (`acamkd models --families`), or an object: {arch: {...}}\n"
        f"{pair}\n"
        "schedule: {epochs: 30}         # or {iterations: 40000}\n"
        "batch: {global_size: 8}        # images per step\n"
        "optimizer: {lr: 0.02}          # sgd with momentum 0.9; nothing is scaled silently\n"
        "# augment: {crop: [256, 256], scale: [0.5, 2.0], flip: 0.5}\n"
        "# evaluation: {every: 500}     # iterations between scores; automatic: a tenth of the run\n"
        "exports: [safetensors, onnx]   # the ONNX file is re-scored before it is called verified\n"
        "seed: 0\n"
    )


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write job.yaml into.")] = Path("."),
    force: Annotated[bool, typer.Option("--force", help="Replace a job.yaml that is there.")] = False,
    output: Output = Format.table,
) -> int:
    """Write a first job.yaml, for the dataset and weights that lie in the folder."""
    from acamkd_core.spec.errors import CoreError

    target = folder.expanduser() / "job.yaml"
    if target.exists() and not force:
        raise CoreError("init.exists", "there is a job.yaml already", hint="--force replaces it", value=str(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        dataset, teacher = find_dataset(target.parent), find_teacher(target.parent)
        target.write_text(job_text(dataset, teacher), encoding="utf-8")
    except OSError as error:
        raise CoreError("init.folder", f"{target} cannot be written: {error.strerror}", value=str(target)) from None
    if not emit({"path": str(target), "dataset": dataset or "scenes", "teacher": teacher}, output):
        print(target)
        say(f"dataset: {dataset or 'none found, so the built-in scenes'}; teacher: {teacher or 'none found'}")
        say(f"next: acamkd run {target}   (here, without a service), or acamkd submit {target}")
    return SUCCEEDED
