"""What can be combined: families, presets, levels, methods; and the schemas that forms are drawn from."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

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
