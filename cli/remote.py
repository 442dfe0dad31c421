"""Commands about jobs on a server."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import (
    FAILED,
    INVALID,
    STOPPED,
    SUCCEEDED,
    Format,
    Output,
    Sets,
    duration,
    emit,
    metric,
    millions,
    number,
    parse_sets,
    say,
    score,
    table,
)  # fmt: skip

if TYPE_CHECKING:
    from acamkd_core.client import Client, Job
    from acamkd_core.spec.api import SubmitAnswer

JobRef = Annotated[str, typer.Argument(metavar="JOB", help="Name or id of a job.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Stay and watch until it has ended.")]


def client() -> Client:
    """The server that ACAMKD_URL or --url names."""
    from acamkd_core.client import Client

    return Client()


def submit(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Job file, YAML or JSON.")],
    set: Sets = None,
    watch: Watch = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Resolve and check only; nothing is kept.")] = False,
    output: Output = Format.table,
) -> int:
    """Submit a job to the server."""
    server = client()
    changes = parse_sets(set)
    if dry_run:
        answer = server.jobs.create(file, set=changes, dry_run=True)
        if not emit(answer, output):
            _print_summary(answer, None)
        errors = any(finding.severity == "error" for finding in answer.findings)
        return INVALID if errors else SUCCEEDED
    return _submitted(server.jobs.create(file, set=changes), watch, output)


def _submitted(job: Job, watch_it: bool, output: Format) -> int:
    assert job.submitted is not None
    if output is Format.table:
        _print_summary(job.submitted, job.url)
    elif not watch_it:  # with --watch the one document is the job as it ended
        emit(job.submitted, output)
    return _watch(job, output) if watch_it else SUCCEEDED


def _print_summary(answer: SubmitAnswer, url: str | None) -> None:
    lines = list(answer.summary)
    if url is not None and lines:
        lines[-1] = f"{lines[-1]}   {url}"
    for line in lines:
        print(line)
    for finding in answer.findings:
        say(f"{finding.severity}: {finding.info.field + ': ' if finding.info.field else ''}{finding.info.message}")


def ls(
    state: Annotated[list[str] | None, typer.Option("--state", "-s", help="Only these states.")] = None,
    query: Annotated[str | None, typer.Option("--name", "-q", help="Part of the name.")] = None,
    method: Annotated[str | None, typer.Option("--method", help="A method among the distill terms.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="A tag.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most rows.")] = 30,
    output: Output = Format.table,
) -> int:
    """List jobs, newest first."""
    rows = client().jobs.list(state=state, q=query, method=method, tag=tag, limit=limit)
    if not emit(rows, output):
        table(
            ["name", "state", "methods", "student", "dataset", ">progress", ">val", ">test", "metric", "reason"],
            (
                [
                    row.name, row.state, ", ".join(row.methods) or ("alone" if row.kind == "distill" else row.kind),
                    row.student, row.dataset,
                    f"{row.progress.iteration}/{row.progress.iterations}" if row.progress.iterations else None,
                    number(score(row.metrics, "val")), number(score(row.metrics, "test")),
                    metric(row.metrics), row.reason,
                ]
                for row in rows
            ),
            empty="no jobs",
        )  # fmt: skip
    return SUCCEEDED


def show(
    job: JobRef,
    resolved: Annotated[bool, typer.Option("--resolved", help="The whole spec, and where each value is from.")] = False,
    output: Output = Format.table,
) -> int:
    """Show one job, or its resolved spec."""
    found = client().jobs.get(job)
    if resolved:
        answer = found.spec("resolved")
        if not emit(answer.spec, output):
            table(["field", "value", "origin"], ([one.path, one.value, one.origin] for one in answer.origins))
            say(f"{answer.given} given, {answer.resolved} resolved")
        return SUCCEEDED
    info = found.info
    if emit(info, output):
        return SUCCEEDED
    progress = info.progress
    rows: list[tuple[str, Any]] = [
        ("name", info.name),
        ("id", info.id),
        ("state", f"{info.state}{' (' + info.reason + ')' if info.reason else ''}"),
        ("queue", f"{info.queue.why}; {info.queue.would_start}" if info.queue else None),
        ("dataset", info.dataset),
        ("teacher", info.teacher),
        ("student", info.student),
        ("methods", ", ".join(info.methods) or "none"),
        ("seed", info.seed),
        ("progress", f"{progress.iteration}/{progress.iterations}" if progress.iterations else None),
        ("trained", duration(progress.device_seconds)),
        ("attempts", info.attempts),
        *((name, number(value)) for name, value in sorted(info.metrics.items())),
        ("alarms", "; ".join(str(one.get("info", {}).get("message")) for one in info.alarm_list) or None),
        ("error", f"{info.error.message}{' (' + info.error.hint + ')' if info.error.hint else ''}" if info.error else None),
        ("page", found.url),
    ]  # fmt: skip
    table(["field", "value"], (row for row in rows if row[1] is not None))
    for line in info.last_log:
        say(line)
    return SUCCEEDED


def watch(job: JobRef, output: Output = Format.table) -> int:
    """Watch a job until it has ended; the exit code says how. JSON and YAML print the job once, at its end."""
    return _watch(client().jobs.get(job), output)


def _watch(job: Job, output: Format) -> int:
    from cli.view import Display, RunView

    view = RunView(job.name)
    with Display(view) as display:
        shown = 0.0

        def news(info: Any) -> None:
            nonlocal shown
            share = job.all_metrics("kd/share", points=10).get("kd/share") if info.state == "running" else None
            view.take_job(info, share.last if share else view.kd_share)
            if display.live or info.state not in ("running",) or time.monotonic() - shown > 5:
                shown = time.monotonic()
                display.refresh()

        try:
            job.wait(progress=news)
        except KeyboardInterrupt:
            say(f"the job goes on; `acamkd watch {job.name}` comes back to it, `acamkd cancel {job.name}` ends it")
            return 130
    info = job.info
    emit(info, output)
    if info.error is not None:
        say(f"error: {info.error.message}{'  (' + info.error.hint + ')' if info.error.hint else ''}")
    for line in info.last_log:
        say(line)
    say(f"{info.state} {info.name}{'  ' + info.reason if info.reason else ''}   {job.url}")
    return {"succeeded": SUCCEEDED, "cancelled": STOPPED}.get(info.state, FAILED)


def logs(
    job: JobRef,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", "-n", min=1, help="Begin with the last lines.")] = None,
    output: Output = Format.table,
) -> int:
    """Print a job's log."""
    found = client().jobs.get(job)
    if output is not Format.table and not follow:
        emit(list(found.logs(tail=tail)), output)
        return SUCCEEDED
    try:
        for line in found.logs(follow=follow, tail=tail):
            if output is Format.json:
                import json

                print(json.dumps(line, ensure_ascii=False), flush=True)
            elif output is Format.yaml:
                import yaml

                print(yaml.safe_dump([line], sort_keys=False, allow_unicode=True), end="", flush=True)
            else:
                print(line.get("text", ""), flush=True)
    except KeyboardInterrupt:
        return 130
    return SUCCEEDED


def _acted(job: Job, output: Format) -> int:
    if not emit(job.info, output):
        print(f"{job.state} {job.name}")
    return SUCCEEDED


def cancel(job: JobRef, output: Output = Format.table) -> int:
    """End a job for good; a running one stops within seconds."""
    return _acted(client().jobs.cancel(job), output)


def pause(job: JobRef, output: Output = Format.table) -> int:
    """Take a job off the queue; a running one writes a checkpoint first."""
    return _acted(client().jobs.pause(job), output)


def resume(job: JobRef, output: Output = Format.table) -> int:
    """Put a paused job back into the queue."""
    return _acted(client().jobs.resume(job), output)


def retry(
    job: JobRef,
    set: Sets = None,
    from_checkpoint: Annotated[
        bool, typer.Option("--from-checkpoint", help="Start from the old job's last checkpoint.")
    ] = False,
    watch: Watch = False,
    output: Output = Format.table,
) -> int:
    """Try an ended job again, as a new job."""
    return _submitted(client().jobs.retry(job, set=parse_sets(set), from_checkpoint=from_checkpoint), watch, output)


def rerun(
    job: JobRef,
    set: Sets = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the new job; automatic: two words.")] = None,
    watch: Watch = False,
    output: Output = Format.table,
) -> int:
    """Submit the same spec again, with changes, from the start."""
    return _submitted(client().jobs.clone(job, set=parse_sets(set), name=name), watch, output)


def diff(
    a: Annotated[str, typer.Argument(metavar="A")],
    b: Annotated[str, typer.Argument(metavar="B")],
    output: Output = Format.table,
) -> int:
    """Show in which fields of their resolved specs two jobs differ."""
    answer = client().compare(a, b)
    if not emit({"differing": answer.differing, "not_comparable": answer.not_comparable}, output):
        table(["field", a, b], ([one["path"], *one["values"]] for one in answer.differing), empty="the same spec")
        for reason in answer.not_comparable:
            say(f"not comparable: {reason}")
    return SUCCEEDED


def compare(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB...", help="Jobs; the first is the baseline.")],
    output: Output = Format.table,
) -> int:
    """Put jobs side by side; differences are to the first."""
    answer = client().compare(*jobs)
    if emit(answer, output):
        return SUCCEEDED
    base = answer.jobs[0].job.metrics

    def delta(metrics: dict[str, float], stem: str) -> str | None:
        value, first = score(metrics, stem), score(base, stem)
        if value is None:
            return None
        text = f"{value:.2f}"
        same = metric(metrics) == metric(base)
        return text if metrics is base or first is None or not same else f"{text} ({value - first:+.2f})"

    table(
        ["name", "state", "methods", ">val", ">best", ">test", "metric", ">parameters", ">trained"],
        (
            [
                one.job.name, one.job.state, ", ".join(one.job.methods) or "alone",
                *(delta(one.job.metrics, stem) for stem in ("val", "best", "test")), metric(one.job.metrics),
                millions((one.profile.get("student") or {}).get("parameters")), duration(one.device_seconds),
            ]
            for one in answer.jobs
        ),
    )  # fmt: skip
    for reason in answer.not_comparable:
        say(f"not comparable: {reason}")
    return SUCCEEDED


def download(
    job: JobRef,
    out: Annotated[Path, typer.Option("-d", "--out", metavar="DIR", help="Folder to write into.")] = Path("."),
    artifact: Annotated[
        str, typer.Option("--artifact", "-a", help="bundle, a format (onnx, safetensors), or a file's name.")
    ] = "bundle",
    output: Output = Format.table,
) -> int:
    """Fetch what a job made; an interrupted download goes on where it stopped, and is verified."""
    from acamkd_core.spec.errors import CoreError

    files = client().jobs.get(job).artifacts
    try:
        chosen = files[artifact]
    except KeyError as error:
        raise CoreError(
            "artifact.not_found", str(error.args[0]), hint="files appear when the job has exported", value=artifact
        ) from None
    path = chosen.download(f"{out}{os.sep}")
    if not emit({"path": str(path), "artifact": chosen.info}, output):
        print(path)
        verdict = {True: "verified", False: "NOT verified by its gate", None: "no gate for this format"}
        say(f"{chosen.info.bytes / 1e6:.2f} MB, SHA-256 checked, {verdict[chosen.verified]}")
    return SUCCEEDED
