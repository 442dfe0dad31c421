"""The `acamkd` command. Parts are imported when a command needs them: `--help` loads neither torch nor the server."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import acamkd_core
from cli import local, remote, resources, service
from cli.init import init
from cli.output import FAILED, INVALID, SUCCEEDED, Format, Output, emit, exit_code, print_error
from cli.recipes import recipes

app = typer.Typer(
    name="acamkd",
    help="Distil a large teacher into a small student: submit a job, watch it, download a light, verified model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 succeeded, 1 failed, 2 invalid spec, 3 cancelled or stopped, 4 server unreachable.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    url: Annotated[str | None, typer.Option("--url", help="Server address; automatic: ACAMKD_URL.")] = None,
) -> None:
    """Options of all commands."""
    if url is not None:
        os.environ["ACAMKD_URL"] = url


def version(output: Output = Format.table) -> int:
    """Print the version."""
    if not emit({"acamkd": acamkd_core.__version__, "python": sys.version.split()[0]}, output):
        print(f"acamkd {acamkd_core.__version__}")
    return SUCCEEDED


_JOBS = (
    remote.submit, remote.ls, remote.show, remote.watch, remote.logs, remote.cancel, remote.pause, remote.resume,
    remote.retry, remote.rerun, remote.diff, remote.compare, remote.download,
)  # fmt: skip
for _panel, _commands in {
    "Start": (init, local.run),
    "Jobs on a server": _JOBS,
    "Platform": (service.up, service.down, service.server, service.worker, service.migrate, resources.workers, version),
}.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
app.add_typer(recipes, name="recipes", rich_help_panel="Start")
app.add_typer(resources.models, name="models", rich_help_panel="Models and data")
app.add_typer(resources.datasets, name="datasets", rich_help_panel="Models and data")
app.add_typer(resources.keys, name="keys", rich_help_panel="Platform")


def main() -> None:
    """Entry point: runs a command, and ends the process with its exit code."""
    sys.exit(run_command())


def run_command(arguments: list[str] | None = None) -> int:
    """Runs a command line. Mistakes of users become lines on standard error; bugs of ours keep their traceback."""
    try:
        code = app(args=arguments, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:  # `acamkd ls | head`
        sys.stdout = None  # nothing more can be flushed into it
        return FAILED
    except Exception as error:
        known = _explain(error)
        if known is None:
            raise
        return known
    return code if isinstance(code, int) else SUCCEEDED


def _explain(error: Exception) -> int | None:
    """Prints what a user can do about an error, and returns the exit code; None for a bug of ours."""
    from acamkd_core.spec.errors import CoreError

    if isinstance(error, CoreError):
        print_error(error)
        return exit_code(error)
    if isinstance(error, ModuleNotFoundError):
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "acamkd_core", "server", "worker", "cli"):
            return None
        extra = "core" if missing in ("torch", "torchvision", "numpy", "PIL", "safetensors") else "core,server"
        hint = f"pip install 'acamkd[{extra}]'"
        print_error(CoreError("install.missing", f"this command needs {missing}, which is not installed", hint=hint))
        return FAILED
    if type(error).__name__ == "ValidationError" and getattr(error, "title", "").endswith("Settings"):
        for item in error.errors():  # type: ignore[attr-defined]
            name = f"ACAMKD_{str(item['loc'][0]).upper()}"
            print_error(CoreError("settings.invalid", item["msg"], field=name, value=item.get("input")))
        return INVALID
    if type(error).__name__ == "OperationalError":
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        print_error(
            CoreError("database.unavailable", f"the database cannot be used: {reason}", hint="ACAMKD_DATABASE_URL")
        )
        return FAILED
    # Usage errors of the command line know how to show themselves; their class is private to typer.
    if hasattr(error, "show") and hasattr(error, "exit_code"):
        error.show()
        return int(error.exit_code)
    return None


if __name__ == "__main__":
    main()
