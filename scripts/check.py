"""`make check`: lint, format, types, import contracts, of Python and TypeScript."""

from steps import BIN, ROOT, run

PYTHON = ("acamkd_core", "server", "worker", "cli", "recipes", "benchmarks", "scripts", "tests")


def check() -> None:
    """Fails on the first finding."""
    run("ruff", [str(BIN / "ruff"), "check", *PYTHON])
    run("ruff format", [str(BIN / "ruff"), "format", "--check", "-q", *PYTHON])
    run("import contracts", [str(BIN / "lint-imports")])
    run("mypy --strict", [str(BIN / "mypy")])
    run("eslint", ["npm", "run", "--silent", "lint"], folder=ROOT / "frontend")


if __name__ == "__main__":
    check()
