"""Commands about models, datasets, workers and API keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.inspection import print_details, print_report
from cli.output import FAILED, SUCCEEDED, Format, Output, emit, metric, millions, number, parse_sets, say, score, table
from cli.remote import client
from cli.timm_networks import timm_networks

if TYPE_CHECKING:
    from acamkd_core.spec.api import DatasetInfo

models = typer.Typer(help="Models that jobs produced, and what can be built.", invoke_without_command=True)
datasets = typer.Typer(help="Datasets of the server.", invoke_without_command=True)
# The server knows the words, and lists them when it gets another.
DatasetTask = Annotated[
    str | None, typer.Option("--task", help="Which labels to take where a folder has several kinds.")
]
keys = typer.Typer(help="API keys, straight in the database: works before a server runs.", no_args_is_help=True)


models.command("timm")(timm_networks)


@models.callback()
def models_root(context: typer.Context, output: Output = Format.table) -> int:
    """What can be built: families, presets and backbones, counted; needs no server. `models list`: what jobs produced."""
    return SUCCEEDED if context.invoked_subcommand is not None else _families(output)


@models.command("list")
def list_models(output: Output = Format.table) -> int:
    """List the models that jobs produced, newest first."""
    rows = client().models.list()
    if not emit(rows, output):
        table(
            ["name", ">version", "aliases", "architecture", ">parameters", ">val", ">test", "metric", "dataset"],
            (
                [
                    one.name, one.version, ", ".join(one.aliases) or None, one.arch, millions(one.parameters),
                    number(score(one.metrics, "val", "best")), number(score(one.metrics, "test")),
                    metric(one.metrics), one.dataset,
                ]
                for one in rows
            ),
            empty="no models yet: a job that succeeds makes one",
        )  # fmt: skip
    return SUCCEEDED


def _families(output: Format) -> int:
    from acamkd_core.spec.catalog import load_catalog

    catalog = load_catalog()
    if emit(catalog, output):
        return SUCCEEDED
    for family in catalog.families:
        print(family.title)
        rows = [one for name in family.presets if (one := catalog.preset(name)) is not None]
        sizes = {"x".join(map(str, one.image_size)) for one in rows}
        table(
            ["preset", ">parameters", ">inference", f">G macs {'/'.join(sorted(sizes))}", "levels (channels @ stride)"],
            (
                [
                    one.name, millions(one.parameters), millions(one.inference_parameters),
                    f"{one.macs / 1e9:.{1 if one.macs > 1e10 else 2}f}",
                    "  ".join(f"{level.name} {level.channels}@{level.stride or 'all'}" for level in one.levels),
                ]
                for one in rows
            ),
        )  # fmt: skip
    say(
        f"counts with {catalog.num_classes} classes (classifiers: 1000); width, backbone and stride can be given as fields\n"
    )
    print("Backbones, up to c5 at output stride 32")
    table(
        ["backbone", ">parameters", ">G macs 224x224", "channels"],
        (
            [
                one.name, millions(one.parameters), f"{one.macs / 1e9:.2f}",
                "  ".join(f"{level} {count}" for level, count in one.channels.items()),
            ]
            for one in catalog.backbones
        ),
    )  # fmt: skip
    print("As the papers print them")
    table(
        ["preset", "input", ">classes", ">M parameters", ">printed", ">G macs", ">printed", "why they differ"],
        (
            [
                one.preset, "x".join(map(str, one.image_size)), one.num_classes,
                _like(one.parameters / 1e6, one.printed_parameters), one.printed_parameters,
                _like(one.macs / 1e9, one.printed_macs), one.printed_macs, "; ".join(one.notes) or None,
            ]
            for one in catalog.printed
        ),
    )  # fmt: skip
    say("a backbone or a classifier can be a network of timm too, `timm:NAME`: `acamkd models timm` lists them")
    return SUCCEEDED


def _like(value: float, printed: str | None) -> str:
    """Our count with the decimals of the printed figure."""
    return f"{value:.{len(printed.partition('.')[2]) if printed else 2}f}"


@models.command("alias")
def alias(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="e.g. champion")],
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1)],
    output: Output = Format.table,
) -> int:
    """Point an alias at a version, away from the one that had it."""
    info = client().models.alias(name, alias, version)
    if not emit(info, output):
        print(f"model:{name}@{alias} is version {info.version}")
    return SUCCEEDED


def _dataset_table(rows: list[Any]) -> None:
    table(
        ["name", "version", "state", ">images", ">classes", ">ignore", ">errors", ">warnings", "root"],
        (
            [
                one.name, one.version, one.state, "/".join(str(count) for count in one.images.values()) or None,
                len(one.classes) or None, one.ignore_id, one.errors, one.warnings, one.root,
            ]
            for one in rows
        ),
        empty="no datasets: `acamkd datasets add NAME PATH` registers one",
    )  # fmt: skip


@datasets.callback()
def datasets_root(context: typer.Context, output: Output = Format.table) -> int:
    """List datasets."""
    return SUCCEEDED if context.invoked_subcommand is not None else list_datasets(output)


@datasets.command("list")
def list_datasets(output: Output = Format.table) -> int:
    """List datasets, newest first."""
    rows = client().datasets.list()
    if not emit(rows, output):
        _dataset_table(rows)
    return SUCCEEDED


@datasets.command("add")
def add_dataset(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="A folder that the server sees, or a zip to upload.")],
    wait: Annotated[bool, typer.Option("--wait", help="Until the inspection has ended.")] = False,
    format: Annotated[
        str, typer.Option("--format", help="mask_folder, cityscapes, coco, voc, yolo, image_folder ...")
    ] = "auto",
    task: DatasetTask = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="a=b", help="A field of the format, e.g. annotation_file; may be repeated."),
    ] = None,
    output: Output = Format.table,
) -> int:
    """Register a folder, or upload a zip, and inspect it."""
    from acamkd_core.client.transport import is_loopback
    from acamkd_core.spec.errors import CoreError

    server = client()
    local = Path(path).expanduser()
    if local.suffix.lower() == ".zip" and local.is_file():
        if format != "auto" or task or sets:
            raise CoreError(
                "upload.options", "an uploaded zip is opened by detection", field="format", value=format,
                hint="put the folder under one of the server's roots, and register it",
            )  # fmt: skip
        info = server.datasets.upload(name, local)
    else:
        # A folder beside us is meant as such where the server is this machine; else it is the server's to find.
        here = local.is_dir() and is_loopback(server.url)
        where = str(local.resolve()) if here else path
        info = server.datasets.add(name, where, format=format, task=task, options=_nested(parse_sets(sets)))
    if wait:
        info = server.datasets.wait(name)
    if not emit(info, output):
        _dataset_table([info])
    return FAILED if info.state == "failed" else SUCCEEDED


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """`{"splits.val": "val2017"}` as `{"splits": {"val": "val2017"}}`."""
    result: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, last = path.split(".")
        node = result
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = value
    return result


@datasets.command("show")
def show_dataset(name: Annotated[str, typer.Argument(metavar="NAME")], output: Output = Format.table) -> int:
    """Show a dataset with what its inspection found."""
    info = client().datasets.get(name)
    if not emit(info, output):
        _dataset_table([info])
        _print_stored(info)
    return SUCCEEDED


def _print_stored(info: DatasetInfo) -> None:
    """The report that the server keeps, if there is one yet."""
    from acamkd_core.spec.inspection import InspectionReport

    if info.report:
        print_details(InspectionReport.model_validate(info.report))


@datasets.command("inspect")
def inspect_dataset(
    target: Annotated[str, typer.Argument(metavar="NAME|FOLDER", help="A registered name, or a folder here.")],
    task: DatasetTask = None,
    again: Annotated[
        bool, typer.Option("--again", help="Decode a folder's files, even if they were before; the server always does.")
    ] = False,
    output: Output = Format.table,
) -> int:
    """Look at every file: a registered dataset by the server, a folder (with a / in it) here and now."""
    if Path(target).expanduser().is_dir() and ("/" in target or target.startswith((".", "~"))):
        return _inspect_here(Path(target).expanduser().resolve(), task, output, again)
    server = client()
    server.datasets.inspect(target)
    info = server.datasets.wait(target)
    if not emit(info, output):
        _dataset_table([info])
        _print_stored(info)
    return FAILED if info.state == "failed" or info.errors else SUCCEEDED


def _inspect_here(folder: Path, task: str | None, output: Format, again: bool) -> int:
    from acamkd_core.datasets.inspection_cache import inspect_cached
    from acamkd_core.datasets.registry import open_dataset
    from acamkd_core.spec.job import InspectSpec, parse_job
    from cli.run_folder import cache_folder

    given = {"kind": "inspect", "dataset": {"format": "auto", "root": str(folder)}, "task": task}
    spec = parse_job(given)
    assert isinstance(spec, InspectSpec)
    report = inspect_cached(open_dataset(spec.dataset, strict=False, task=spec.task), cache_folder(), again=again)
    if not emit(report, output):
        print_report(report)
    return FAILED if any(finding.severity == "error" for finding in report.findings) else SUCCEEDED


def workers(output: Output = Format.table) -> int:
    """List workers that are online or were seen lately."""
    rows = client().workers.list()
    if not emit(rows, output):
        table(
            ["name", "state", ">busy", ">slots", "devices", "jobs", ">seen", "host", ">pid"],
            (
                [
                    one.name, one.state, one.busy, one.slots, ", ".join(one.devices) or "cpu", ", ".join(one.jobs) or None,
                    f"{one.last_seen_seconds:.0f} s ago", one.host, one.pid,
                ]
                for one in rows
            ),
            empty="no worker: `acamkd worker` starts one",
        )  # fmt: skip
    return SUCCEEDED


Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Data folder; automatic: ACAMKD_DATA_DIR.")]


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(metavar="NAME")], data: Data = None, output: Output = Format.table
) -> int:
    """Make a key; it is shown this once."""
    from cli.service import local_database
    from server.auth import service
    from server.db.session import write_session

    with local_database(data) as (engine, caller), write_session(engine) as session:
        info = service.create_key(session=session, caller=caller, name=name)
    if not emit(info, output):
        print(info.key)
        say(f"the key {name!r} is shown this once; send it as ACAMKD_API_KEY")
    return SUCCEEDED


@keys.command("list")
def list_keys(data: Data = None, output: Output = Format.table) -> int:
    """List keys, without their secrets."""
    from cli.service import local_database
    from server.auth import service
    from server.db.session import read_session

    with local_database(data) as (engine, caller), read_session(engine) as session:
        rows = service.list_keys(session=session, caller=caller).items
    if not emit(rows, output):
        table(
            ["id", "name", "prefix", "created", "last used", "revoked"],
            (
                [one.id, one.name, one.prefix, *(t and t.strftime("%Y-%m-%d %H:%M") for t in (one.created_at, one.last_used_at, one.revoked_at))]
                for one in rows
            ),
            empty="no keys",
        )  # fmt: skip
    return SUCCEEDED


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="ID")], data: Data = None, output: Output = Format.table
) -> int:
    """End a key for ever."""
    from cli.service import local_database
    from server.auth import service
    from server.db.session import write_session

    with local_database(data) as (engine, caller), write_session(engine) as session:
        info = service.revoke_key(session=session, caller=caller, key_id=key_id)
    if not emit(info, output):
        print(f"revoked {info.name}")
    return SUCCEEDED
