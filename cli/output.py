"""Printing: tables for people, JSON and YAML for programs; mistakes as one line, a hint and the value."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from acamkd_core.spec.errors import CoreError, ErrorInfo

SUCCEEDED, FAILED, INVALID, STOPPED, UNREACHABLE = 0, 1, 2, 3, 4


class Format(StrEnum):
    """What `-o` takes."""

    table = "table"
    json = "json"
    yaml = "yaml"


Output = Annotated[Format, typer.Option("-o", "--output", help="Form of the output.")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Change a field; may be repeated.")]


def plain(value: Any) -> Any:
    """Read models as plain data, at any depth."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value


def emit(value: Any, form: Format) -> bool:
    """Prints data as JSON or YAML; False when a table is wanted, which is the caller's to draw."""
    if form is Format.table:
        return False
    if form is Format.json:
        print(json.dumps(plain(value), indent=2, ensure_ascii=False))
    else:
        import yaml

        print(yaml.safe_dump(plain(value), sort_keys=False, allow_unicode=True, width=120), end="")
    return True


def score(metrics: Mapping[str, float], *stems: str) -> float | None:
    """A job's primary metric, whatever its task: of the first of `stems` (val, best, test, teacher) that is there."""
    from acamkd_core.spec.tasks import primary

    found = primary(metrics, *stems)
    return None if found is None else found[1]


def metric(metrics: Mapping[str, float]) -> str | None:
    """What a job's primary metric is called; None while it has no figure."""
    from acamkd_core.spec.tasks import primary

    found = primary(metrics, "val", "best", "test", "teacher")
    return None if found is None else found[0]


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "nothing there") -> None:
    """Prints a table without frames. Columns whose name starts with `>` are right-aligned; None is a dash."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        drawn.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    count = 0
    for row in rows:
        drawn.add_row(*(Text("–" if cell is None else str(cell)) for cell in row))
        count += 1
    # Piped output is for grep and cut: no wrapping there.
    console = (
        Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=400, color_system=None)
    )
    if count:
        console.print(drawn)
    else:
        console.print(empty)


def say(text: str) -> None:
    """A line for the reader on standard error, so that standard output stays data."""
    print(text, file=sys.stderr, flush=True)


def print_error(error: CoreError) -> None:
    """Every mistake as one line, with its hint and value below."""
    problems: list[ErrorInfo] = getattr(error, "problems", None) or [error.info]
    for info in problems:
        say(f"error: {info.field + ': ' if info.field else ''}{info.message}")
        if info.hint:
            say(f"  hint:  {info.hint}")
        if info.value is not None:
            say(f"  value: {info.value if isinstance(info.value, str) else json.dumps(info.value, default=str)}")


def exit_code(error: CoreError) -> int:
    """4 when nobody answered, 2 for a wrong spec, 1 for everything else."""
    if error.code == "server.unreachable":
        return UNREACHABLE
    status = getattr(error, "status", None)
    if status == 422 or (status is None and error.code.partition(".")[0] in ("spec", "patch")):
        return INVALID
    return FAILED


def duration(seconds: float | None) -> str | None:
    """`6 m 20 s`, `2 h 05 m`."""
    if seconds is None:
        return None
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} m"


def number(value: float | None, digits: int = 2) -> str | None:
    """A figure with fixed digits, or None."""
    return None if value is None else f"{value:.{digits}f}"


def millions(value: float | None) -> str | None:
    """Parameters as `3.23 M`."""
    return None if value is None else f"{value / 1e6:.2f} M"


def parse_sets(changes: list[str] | None) -> dict[str, Any]:
    """`a.b=c` pairs; values are read as in a spec file.

    Raises:
        CoreError: `patch.no_value`, `spec.yaml`.
    """
    from acamkd_core.spec.errors import CoreError
    from acamkd_core.spec.yaml_text import parse_yaml

    result: dict[str, Any] = {}
    for change in changes or []:
        path, separator, text = change.partition("=")
        if not separator or not path.strip():
            raise CoreError(
                "patch.no_value", "--set takes path=value", hint="e.g. --set optimizer.lr=0.01", value=change
            )
        try:
            result[path.strip()] = parse_yaml(text)
        except CoreError as error:
            raise CoreError(error.code, error.info.message, hint=error.info.hint, field=path, value=text) from None
    return result
