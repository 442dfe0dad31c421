"""Import directions inside packages that import-linter's contracts cannot name: members, and the server's layers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = ("tasks", "methods", "models", "datasets", "exports")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_members_of_the_core_know_each_other_by_contract_only() -> None:
    wrong = []
    for package in CORE:
        for path in (ROOT / "acamkd_core" / package).rglob("*.py"):
            for name in imports(path):
                parts = name.split(".")
                if parts[0] != "acamkd_core" or len(parts) < 3 or parts[1] not in (*CORE, "engine"):
                    continue
                if parts[1] != package and parts[2] != "base":
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_the_servers_layers_go_one_way() -> None:
    """routes -> service -> repository -> db: nobody calls back, and SQL and HTTP stay in their rooms."""
    below = {"repository": ("routes", "service"), "service": ("routes",)}
    wrong = []
    for path in (ROOT / "server").rglob("*.py"):
        relative = path.relative_to(ROOT)
        layer = "repository" if "repository" in relative.parts or path.stem == "repository" else path.stem
        names = set(imports(path))
        for name in names:
            parts = name.split(".")
            if parts[0] == "server" and layer in below and any(part in below[layer] for part in parts[2:]):
                wrong.append(f"{relative} imports {name}")
        web = {name for name in names if name.split(".")[0] in ("fastapi", "starlette")}
        if layer in ("repository", "service") and web:
            wrong.append(f"{relative} imports {sorted(web)[0]}")
        if layer == "routes" and any(
            name.startswith("sqlalchemy.") and not name.endswith("Session") and name != "sqlalchemy.orm"
            for name in names
        ):
            wrong.append(f"{relative} writes SQL")
    assert not wrong
