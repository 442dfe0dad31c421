"""The catalog's facts beside the schemas of everything that has options."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any, get_args

from pydantic import BaseModel, Field, TypeAdapter

from acamkd_core.spec.archs import Arch
from acamkd_core.spec.catalog import BackboneFacts, FamilyFacts, PresetFacts, load_catalog
from acamkd_core.spec.datasets import DatasetSpec
from acamkd_core.spec.exports import ExportSpec
from acamkd_core.spec.job import JobSpec
from acamkd_core.spec.methods import MethodTerm
from acamkd_core.spec.recipes import RecipeIndex, RecipeJob
from recipes import library
from server.catalog.forms import form_schema


class OptionFacts(BaseModel):
    """A member of a discriminated union (a method, a family, a format) and its options."""

    name: str
    title: str = Field(description="One line.")
    description: str
    options: dict[str, Any] = Field(description="JSON schema of its options.")


class CatalogAnswer(BaseModel):
    """What can be combined. Facts are generated from the core and committed with it; schemas are the spec's own."""

    num_classes: int = Field(description="Classes that the counts refer to.")
    image_size: tuple[int, int] = Field(description="Height and width that the multiply-adds refer to.")
    families: list[FamilyFacts]
    backbones: list[BackboneFacts]
    presets: list[PresetFacts]
    layouts: list[str] = Field(description="Key maps of foreign weights files.")
    methods: list[OptionFacts]
    architectures: list[OptionFacts]
    datasets: list[OptionFacts]
    exports: list[OptionFacts]


def _members(union: Any, tag: str) -> list[OptionFacts]:
    """The members of `Annotated[A | B, Field(discriminator=tag)]`."""
    facts = []
    for member in get_args(get_args(union)[0]):
        name = get_args(member.model_fields[tag].annotation)[0]
        text = inspect.cleandoc(member.__doc__ or name)
        facts.append(
            OptionFacts(
                name=name,
                title=text.partition("\n")[0],
                description=text,
                options=form_schema(TypeAdapter(member).json_schema()),
            )
        )
    return facts


@lru_cache(maxsize=1)
def get_catalog() -> CatalogAnswer:
    """The whole catalog; it never changes while the process runs."""
    facts = load_catalog()
    return CatalogAnswer(
        num_classes=facts.num_classes,
        image_size=facts.image_size,
        families=list(facts.families),
        backbones=list(facts.backbones),
        presets=list(facts.presets),
        layouts=list(facts.layouts),
        methods=_members(MethodTerm, "method"),
        architectures=_members(Arch, "family"),
        datasets=_members(DatasetSpec, "format"),
        exports=_members(ExportSpec, "format"),
    )


@lru_cache(maxsize=1)
def job_schema() -> dict[str, Any]:
    """JSON schema of a distillation job, shaped for forms."""
    schema: dict[str, Any] = form_schema(TypeAdapter(JobSpec).json_schema())
    return schema


def get_recipes() -> RecipeIndex:
    """All recipes, and which rows of the papers no job can express."""
    return library.load_index()


def get_recipe(*, name: str) -> RecipeJob:
    """A recipe with its job file. Raises CoreError `recipe.not_found`."""
    recipe = library.find(name)
    return RecipeJob(recipe=recipe, text=library.text_of(recipe))
