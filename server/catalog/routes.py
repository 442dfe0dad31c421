"""What can be combined: families, presets, levels, methods; and the schemas that forms are drawn from."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from acamkd_core.spec.recipes import RecipeIndex, RecipeJob
from server.catalog import service
from server.catalog.service import CatalogAnswer
from server.deps import Caller
from server.errors import documented

router = APIRouter(tags=["catalog"], responses=documented(401))


@router.get("/catalog")
def get_catalog(caller: Caller) -> CatalogAnswer:
    """Families, presets, methods, dataset and export formats."""
    return service.get_catalog()


@router.get("/schema/job")
def get_job_schema(caller: Caller) -> dict[str, Any]:
    """JSON schema of a distillation job, shaped for drawing a form."""
    return service.job_schema()


@router.get("/recipes")
def list_recipes(caller: Caller) -> RecipeIndex:
    """Jobs for the rows of the papers' tables, with the printed numbers and their sources."""
    return service.get_recipes()


@router.get("/recipes/{name}", responses=documented(404))
def get_recipe(caller: Caller, name: str) -> RecipeJob:
    """One recipe with its job file."""
    return service.get_recipe(name=name)
