"""docs/recipes.md, from the index."""

from __future__ import annotations

from itertools import groupby

from acamkd_core.spec.recipes import Recipe, RecipeIndex
from recipes.library import file_of
from recipes.text import expected

INTRO = """# Recipes

Job files for the rows of the papers' tables, installed with the package. Each is a plain job: set the paths and run it.

```bash
acamkd recipes                                  # the list below, -o json for programs
acamkd recipes show cityscapes-deeplabv3-r101-mobilenet_v2-acam
acamkd recipes copy cityscapes-deeplabv3-r101-mobilenet_v2-acam --out job.yaml \\
  --dataset /data/cityscapes --teacher deeplabv3_resnet101_citys_best_model.pth
acamkd submit job.yaml --watch                  # or: acamkd run job.yaml
```

A teacher may be `job:name` or `model:name@alias` of the server too, a dataset `dataset:name`; `--set a.b=c` changes any field.
Expected numbers are the printed ones. **None has been reproduced here**: every row is `not_reproduced`, and says so. Where a paper
is silent, its code line decides, and the page says which. Full-size runs need a GPU; `python -m benchmarks.full_size NAME` measures
memory and seconds a step of a recipe on random images of the real size and layout.

The files and this page are generated (`python -m recipes.write`) from `recipes/table`.
"""


def page(index: RecipeIndex) -> str:
    """The whole page."""
    parts = [INTRO]
    for title, members in groupby(index.recipes, key=lambda recipe: recipe.group):
        parts.append(section(title, list(members)))
    parts.append("## Not expressible\n\n| rows | why |\n| --- | --- |\n")
    parts[-1] += "".join(f"| {one.rows} | {one.why} |\n" for one in index.not_expressible)
    return "\n".join(parts)


def section(title: str, recipes: list[Recipe]) -> str:
    """Rows of a group, then what they share."""
    first = recipes[0]
    teacher = next((recipe.teacher for recipe in recipes if recipe.teacher), None)
    pair = f"Teacher {teacher}, student {first.student}." if teacher else f"{first.student}, trained by itself."
    shared = [note for note in first.deviations if all(note in recipe.deviations for recipe in recipes)]
    out = [
        f"## {title}",
        "",
        pair,
        "",
        "| recipe | method | expected | source | status |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in recipes:
        out.append(
            f"| [`{one.name}`](../recipes/{file_of(one)}) | {one.method} | {expected(one)} | {one.source} | {one.status} |"
        )
    out.append("")
    files = {file.field: file.what for recipe in recipes for file in recipe.files}
    out += [f"- Set `{field}`: {what}." for field, what in files.items()]
    stated = dict.fromkeys(note for recipe in recipes for note in recipe.stated)
    out += [f"- Stated: {note}" for note in stated]
    out += [f"- Chosen: {note}" for note in first.chosen]
    out += [f"- Departs: {note}" for note in shared]
    for note in dict.fromkeys(note for recipe in recipes for note in recipe.deviations if note not in shared):
        who = [recipe.name for recipe in recipes if note in recipe.deviations]
        where = f"`{who[0]}`" if len(who) == 1 else f"{len(who)} rows with {first_method(recipes, who)}"
        out.append(f"- Departs ({where}): {note}")
    return "\n".join(out) + "\n"


def first_method(recipes: list[Recipe], names: list[str]) -> str:
    """The methods of the named rows."""
    return ", ".join(dict.fromkeys(recipe.method for recipe in recipes if recipe.name in names))
