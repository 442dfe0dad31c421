"""A job as text: one line a field where it fits, and what a reader needs to know above it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

from acamkd_core.spec.recipes import Recipe
from acamkd_core.spec.tasks import TASKS

WIDTH = 120


def flow(value: Any) -> str:
    """A value on one line."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True).removesuffix(
        "...\n"
    ).strip()  # fmt: skip


def lines(data: Mapping[str, Any], indent: int = 0) -> list[str]:
    """A mapping, its fields on one line each where they fit, else in blocks."""
    out: list[str] = []
    pad = " " * indent
    for name, value in data.items():
        line = f"{pad}{name}: {flow(value)}"
        of_parts = isinstance(value, Mapping) or (
            isinstance(value, list) and any(isinstance(one, Mapping) for one in value)
        )
        if len(line) <= WIDTH or not of_parts:
            out.append(line)
        elif isinstance(value, Mapping):
            out += [f"{pad}{name}:", *lines(value, indent + 2)]
        else:
            out += [f"{pad}{name}:", *(f"{pad}  - {flow(item)}" for item in value)]
    return out


def expected(recipe: Recipe) -> str:
    """The printed number, in words."""
    if recipe.expected is None:
        return "no printed number"
    # COCO's tables print one digit.
    digits = 1 if recipe.expected.metric == "map" else 2
    return f"{recipe.expected.value:.{digits}f} {TASKS[recipe.task].label}"


def header(recipe: Recipe) -> str:
    """Comment lines above the job."""
    pair = f"{recipe.teacher} -> {recipe.student}" if recipe.teacher else recipe.student
    told = [f"{recipe.name}: {recipe.dataset}, {pair}, {recipe.method}."]
    if recipe.expected is None:
        told += [f"No printed number. {recipe.source}."]
    else:
        told += [f"Printed: {expected(recipe)}. {recipe.source}. Status: {recipe.status}."]
    told += ["Set before it runs:", *(f"  {one.field}: {one.what}" for one in recipe.files)]
    if recipe.deviations:
        told += ["Departs from the paper:", *(f"  - {one}" for one in recipe.deviations)]
    wrapped = [
        part
        for line in told
        for part in textwrap.wrap(
            line, WIDTH - 2, subsequent_indent=" " * (len(line) - len(line.lstrip()) + (2 if line[0] == " " else 0))
        )
    ]
    return "".join(f"# {line}\n" for line in wrapped)


def job_text(recipe: Recipe, job: Mapping[str, Any]) -> str:
    """The job file of a recipe."""
    return header(recipe) + "\n".join(lines(job)) + "\n"
