"""What is known of a recipe: a job file for a row of a paper's table, and the number printed there."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from acamkd_core.spec.base import SpecModel
from acamkd_core.spec.tasks import TaskName


class Expected(SpecModel):
    """A printed score."""

    metric: str = Field(description="The task's primary metric, as jobs call it.")
    value: float = Field(ge=0, le=100, description="In points.")


class RecipeFile(SpecModel):
    """A path in the job that its user has to set."""

    field: str = Field(description="Dotted path in the job.")
    value: str = Field(description="What the recipe has there.")
    what: str = Field(description="What belongs there, and where it comes from.")


class Recipe(SpecModel):
    """One recipe of the library. The job itself lies beside it, as a plain job file."""

    name: str = Field(description="Name of the recipe, and of its file.")
    group: str = Field(description="Title of the group of rows that share dataset, student and settings.")
    dataset: str = Field(description="Dataset, as papers call it.")
    task: TaskName = Field(description="Task of the job.")
    teacher: str | None = Field(default=None, description="Teacher; none: the student is trained alone.")
    student: str = Field(description="Student.")
    method: str = Field(description="Distillation method; `alone` without one.")
    expected: Expected | None = Field(default=None, description="The printed number; none: nobody printed one.")
    source: str = Field(description="Paper and table of the number.")
    status: Literal["not_reproduced", "reproduced"] = Field(
        default="not_reproduced", description="Whether this project has seen the number."
    )
    files: tuple[RecipeFile, ...] = Field(description="Paths to set before it runs.")
    stated: tuple[str, ...] = Field(default=(), description="Settings that the papers state.")
    chosen: tuple[str, ...] = Field(default=(), description="Settings where the papers are silent, and why these.")
    deviations: tuple[str, ...] = Field(default=(), description="Where the job departs from what was printed.")


class NotExpressible(SpecModel):
    """Rows of the papers' tables that no job can express yet."""

    rows: str = Field(description="Which rows.")
    why: str = Field(description="What is missing.")


class RecipeIndex(SpecModel):
    """Everything in the library."""

    recipes: tuple[Recipe, ...]
    not_expressible: tuple[NotExpressible, ...] = ()


class RecipeJob(SpecModel):
    """A recipe with its job, as text that can be edited and submitted."""

    recipe: Recipe
    text: str = Field(description="The job file, YAML with comments.")
