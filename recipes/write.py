"""Writes the job files, `index.json` and `docs/recipes.md` from the table: `python -m recipes.write`."""

from __future__ import annotations

from pathlib import Path

from acamkd_core.spec.recipes import Recipe, RecipeIndex
from recipes.library import FOLDER, INDEX, file_of
from recipes.page import page
from recipes.table import GROUPS, MISSING
from recipes.text import job_text

DOCS = FOLDER.parent / "docs" / "recipes.md"


def build() -> tuple[dict[Path, str], RecipeIndex]:
    """(text of every file by its path below `recipes/`, the index)."""
    files: dict[Path, str] = {}
    recipes: list[Recipe] = []
    for group in GROUPS:
        for row in group.rows:
            recipe = group.recipe(row)
            recipes.append(recipe)
            files[file_of(recipe)] = job_text(recipe, group.job_of(row))
    index = RecipeIndex(recipes=tuple(recipes), not_expressible=MISSING)
    files[Path(INDEX)] = index.model_dump_json(indent=1, exclude_none=True) + "\n"
    return files, index


def main() -> None:
    """Replaces what is there; files of rows that are gone go too."""
    files, index = build()
    for old in FOLDER.rglob("*.yaml"):
        if old.relative_to(FOLDER) not in files:
            old.unlink()
    for path, text in files.items():
        (FOLDER / path).parent.mkdir(exist_ok=True)
        (FOLDER / path).write_text(text, encoding="utf-8")
    DOCS.write_text(page(index), encoding="utf-8")


if __name__ == "__main__":
    main()
