"""`acamkd recipes`: job files for the rows of the papers' tables, with their paths filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import SUCCEEDED, Format, Output, Sets, emit, parse_sets, say, table

recipes = typer.Typer(help="Jobs for the rows of the papers' tables.", invoke_without_command=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a recipe; `acamkd recipes` lists them.")]
_OTHERS = ("job:", "model:", "torchvision:", "dataset:")


Query = Annotated[str | None, typer.Option("--name", "-q", help="Part of the name, dataset, network or method.")]


@recipes.callback()
def recipes_root(context: typer.Context, query: Query = None, output: Output = Format.table) -> int:
    """List recipes, with the printed numbers and where they are printed."""
    return SUCCEEDED if context.invoked_subcommand is not None else list_recipes(query, output)


@recipes.command("list")
def list_recipes(query: Query = None, output: Output = Format.table) -> int:
    """List recipes, with the printed numbers and where they are printed."""
    from recipes.library import load_index
    from recipes.text import expected

    index = load_index()
    wanted = (query or "").lower()
    rows = [
        one
        for one in index.recipes
        if wanted in f"{one.name} {one.dataset} {one.teacher} {one.student} {one.method}".lower()
    ]
    if emit(rows, output):
        return SUCCEEDED
    table(
        ["recipe", "dataset", "teacher", "student", "method", ">expected", "status", "source"],
        (
            [
                one.name, one.dataset, one.teacher, one.student, one.method, expected(one) if one.expected else None,
                one.status.replace("_", " "), one.source,
            ]
            for one in rows
        ),
        empty="no such recipe",
    )  # fmt: skip
    say("expected: as printed; nothing here has been reproduced unless its status says so")
    say(f"not expressible: {len(index.not_expressible)} groups of rows, see docs/recipes.md")
    return SUCCEEDED


@recipes.command("show")
def show(name: Name, output: Output = Format.table) -> int:
    """Print a recipe: its job file, or with -o json all that is known of it."""
    from recipes.library import find, job_of, text_of

    recipe = find(name)
    if emit({**recipe.model_dump(mode="json"), "job": job_of(recipe)}, output):
        return SUCCEEDED
    print(text_of(recipe), end="")
    for label, notes in (("stated", recipe.stated), ("chosen", recipe.chosen)):
        for note in notes:
            say(f"{label}: {note}")
    return SUCCEEDED


@recipes.command("copy")
def copy(
    name: Name,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Job file to write.")] = Path("job.yaml"),
    dataset: Annotated[str | None, typer.Option("--dataset", help="The dataset's folder, or dataset:name.")] = None,
    teacher: Annotated[
        str | None, typer.Option("--teacher", help="The teacher's weights file, job:name or model:name@alias.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", help="ImageNet weights of the student's backbone: a file.")
    ] = None,
    set: Sets = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file when it is there.")] = False,
    output: Output = Format.table,
) -> int:
    """Write a recipe as a job file, with its paths and any other field set."""
    from acamkd_core.spec.errors import CoreError
    from acamkd_core.spec.job import parse_job
    from recipes.library import fill, find
    from recipes.text import job_text

    recipe = find(name)
    job = fill(
        recipe,
        dataset=_whole(dataset),
        teacher=_whole(teacher),
        backbone=_whole(backbone),
        changes=parse_sets(set),
    )
    parse_job(job)
    target = out.expanduser()
    if target.exists() and not force:
        raise CoreError("recipe.exists", f"{target} is there already", hint="--force replaces it", value=str(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(job_text(recipe, job), encoding="utf-8")
    except OSError as error:
        raise CoreError("recipe.file", f"{target} cannot be written: {error.strerror}", value=str(target)) from None
    if not emit({"path": str(target), "recipe": recipe, "job": job}, output):
        print(target)
        options = {"dataset.root": dataset, "teacher.weights.file": teacher, "student.backbone_weights.file": backbone}
        for one in recipe.files:
            if options.get(one.field) is None and one.field not in parse_sets(set):
                say(f"still to set: {one.field} ({one.value}): {one.what}")
        say(f"next: acamkd submit {target} --watch, or acamkd run {target}")
    return SUCCEEDED


def _whole(text: str | None) -> str | None:
    """A path that leads to something here as a whole path: the job file may lie elsewhere. Others are the server's."""
    if text is None or text.startswith(_OTHERS):
        return text
    path = Path(text).expanduser()
    return str(path.resolve()) if path.exists() else text
