"""The library as it is installed: the index, the job files, and a job with its paths filled in."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.models import weights_from_string
from acamkd_core.spec.patch import apply_set
from acamkd_core.spec.recipes import Recipe, RecipeIndex
from acamkd_core.spec.yaml_text import load_yaml

FOLDER = Path(__file__).resolve().parent
INDEX = "index.json"  # YAML of this length takes a second to read
# Files of ours (and jobs and models of a server) carry their preprocessing; foreign ones need what the recipe says.
FOREIGN = (".pth", ".pt", ".ckpt")
OF_FOREIGN = ("preprocess", "expect")
OF_TENSORS = ("arch",)  # a graph is its own architecture


@functools.cache
def load_index() -> RecipeIndex:
    """Everything that is known of the recipes."""
    return RecipeIndex.model_validate_json((FOLDER / INDEX).read_bytes())


def find(name: str) -> Recipe:
    """A recipe by its name.

    Raises:
        CoreError: `recipe.not_found`, with the names that are near.
    """
    known = {recipe.name: recipe for recipe in load_index().recipes}
    name = name.removesuffix(".yaml")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or [one for one in known if name in one][:3]
        hint = f"did you mean {' or '.join(near)}?" if near else "`acamkd recipes` lists them"
        raise CoreError("recipe.not_found", f"there is no recipe {name!r}", hint=hint, value=name)
    return known[name]


def file_of(recipe: Recipe) -> Path:
    """Path of the job file below `recipes/`: one folder a dataset."""
    return Path(recipe.name.partition("-")[0]) / f"{recipe.name}.yaml"


def text_of(recipe: Recipe) -> str:
    """The job file as it is."""
    return (FOLDER / file_of(recipe)).read_text(encoding="utf-8")


def job_of(recipe: Recipe) -> dict[str, Any]:
    """The job as a mapping."""
    return load_yaml(text_of(recipe))


def fill(
    recipe: Recipe,
    *,
    dataset: str | None = None,
    teacher: str | None = None,
    backbone: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The job of a recipe with its paths set.

    Args:
        dataset: a folder, or `dataset:name` of a server.
        teacher: a weights file, `job:name`, `model:name@alias`. One that carries its own preprocessing takes the recipe's
            `layout`, `preprocess` and `expect` away, which describe the published file.
        backbone: a weights file or `torchvision:...` for the student's backbone.
        changes: dotted path to value, as `--set`.

    Raises:
        CoreError: `recipe.no_teacher`, `recipe.no_backbone`; what `apply_set` raises.
    """
    job = job_of(recipe)
    if dataset is not None:
        given = job["dataset"]
        if dataset.startswith("dataset:"):
            job["dataset"] = {
                "format": "registered",
                "name": dataset.removeprefix("dataset:"),
                "splits": given["splits"],
            }
        else:
            job["dataset"] = {**given, "root": dataset}
    if teacher is not None:
        if "teacher" not in job:
            raise CoreError(
                "recipe.no_teacher",
                f"{recipe.name} trains its student alone",
                hint="leave the teacher out",
                value=teacher,
            )
        foreign = Path(teacher).suffix in FOREIGN
        old = job["teacher"]
        dropped = () if foreign else (*OF_FOREIGN, *(OF_TENSORS if Path(teacher).suffix == ".onnx" else ()))
        kept = {name: value for name, value in old.items() if name not in dropped}
        job["teacher"] = {**kept, "weights": _weights(teacher, old["weights"])}
    if backbone is not None:
        old = job["student"].get("backbone_weights")
        if old is None:
            raise CoreError("recipe.no_backbone", f"{recipe.name} starts from random weights", value=backbone)
        job["student"]["backbone_weights"] = _weights(backbone, old)
    return apply_set(job, changes) if changes else job


def _weights(source: str, old: object) -> dict[str, str]:
    """A weights source as an object; a foreign file keeps the recipe's key map."""
    found = weights_from_string(source)
    layout = old.get("layout") if isinstance(old, dict) else None
    return {**found, "layout": layout} if layout and Path(source).suffix in FOREIGN else found
