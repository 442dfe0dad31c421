"""`acamkd run`: a job on this machine with no service. The engine is a child process; this one only watches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import FAILED, INVALID, STOPPED, SUCCEEDED, Format, Output, Sets, emit, number, parse_sets, say
from cli.run_folder import drop_torn_line, earlier, last_lines, make_folder, new_events, read_events, write_run

if TYPE_CHECKING:
    from acamkd_core.spec.events import ResultEvent
    from acamkd_core.spec.job import InspectSpec, JobSpec

_TICK = 0.1


def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Job file, YAML or JSON.")],
    set: Sets = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Run folder; automatic: ./runs/<name>.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in the run folder.")] = False,
    input: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="job:x=PATH", help="Local file for what the spec names; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:<n>.")] = "auto",
    nproc: Annotated[
        int | None,
        typer.Option("--nproc", min=1, max=64, help="Processes that train together; automatic: as the job says."),
    ] = None,
    output: Output = Format.table,
) -> int:
    """Do a job on this machine, without a service. Ctrl-C writes a checkpoint and ends with 3; --resume goes on."""
    from acamkd_core.client.specs import anchor_paths, load_spec
    from acamkd_core.spec.errors import CoreError
    from acamkd_core.spec.job import parse_job
    from cli.processes import FolderLock

    data = anchor_paths(load_spec(file, parse_sets(set)), file.expanduser().resolve().parent, must_exist=False)
    data.setdefault("name", _name_of(file))
    if nproc is not None:
        data["resources"] = {**(data.get("resources") or {}), "processes": nproc}
    spec = parse_job(data)
    inputs = _inputs(input)
    _check_references(spec, inputs)
    folder = (out or Path("runs") / str(spec.name)).expanduser().resolve()
    make_folder(folder)
    with FolderLock(folder / "run.lock") as lock:
        if not lock.acquire():
            raise CoreError("run.folder_busy", "another `acamkd run` works in this folder", value=str(folder))
        return _run_in(folder, spec, data, inputs, resume=resume, device=device, output=output)


def _run_in(
    folder: Path, spec: JobSpec | InspectSpec, data: dict[str, Any], inputs: dict[str, Path],
    *, resume: bool, device: str, output: Format,
) -> int:  # fmt: skip
    from acamkd_core.spec.origins import count_given, origins_of

    before = earlier(folder, resume, spec)
    if before.result is not None and before.result.status == "succeeded":
        say(f"this run has succeeded already: {folder}")
        return _report(spec, folder, before.result, output)
    write_run(folder, data, inputs, before, device, spec)
    # The words of `acamkd submit`. The name does not count where it is the file's.
    say(f"spec    {count_given(data)} lines given, {len(origins_of(spec))} resolved")
    if before.attempts and resume:
        where = before.checkpoint.name if before.checkpoint else "the start: no checkpoint was written"
        say(f"attempt {before.attempts + 1}, from {where}")
    hours = spec.resources.max_hours if spec.kind == "distill" else None
    left = None if hours is None else 3600 * hours - before.device_seconds
    result, code, stopped = _train(str(spec.name), folder, left)
    if stopped == "time limit" and (result is None or result.status == "stopped"):
        say(f"error: resources.max_hours: the time limit of {hours:g} hours is over")
        say(f"  hint:  raise it with --set resources.max_hours=N and go on with --resume   {folder}")
        return FAILED
    if result is None and stopped:
        # Too early for the child to have heard: it was loading its libraries, and there was nothing to keep yet.
        say(f"stopped before anything was trained; go on with --resume   {folder}")
        return STOPPED
    if result is None:
        say(f"error: the run ended without a result (exit code {code})")
        say(f"  hint:  its log is {folder / 'log.txt'}")
        for line in last_lines(folder / "log.txt", 15):
            say(f"  | {line}")
        return FAILED
    return _report(spec, folder, result, output)


def _name_of(file: Path) -> str:
    """A name from the file's, in the characters that names may have."""
    stem = file.resolve().parent.name if file.stem in ("job", "acamkd") else file.stem
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in stem.lower()).lstrip("._-")
    return name[:80] or "run"


def _inputs(pairs: list[str] | None) -> dict[str, Path]:
    from acamkd_core.spec.errors import CoreError

    found = {}
    for pair in pairs or []:
        reference, separator, text = pair.partition("=")
        path = Path(text).expanduser().resolve()
        if not separator or not text:
            raise CoreError(
                "spec.input", "--input takes reference=PATH", hint="e.g. job:x=teacher.safetensors", value=pair
            )
        if not path.is_file():
            raise CoreError("spec.input", f"there is no file {text}", field="--input", value=pair)
        found[reference] = path
    return found


def _check_references(spec: JobSpec | InspectSpec, inputs: dict[str, Path]) -> None:
    """What only a server knows must be given as a file, and it is better to say so before torch is loaded."""
    from acamkd_core.spec.datasets import RegisteredDataset
    from acamkd_core.spec.errors import CoreError
    from acamkd_core.spec.job import JobSpec

    if isinstance(spec.dataset, RegisteredDataset):
        raise CoreError(
            "spec.needs_server", f"dataset:{spec.dataset.name} is known to a server only",
            hint="give its folder, or `acamkd submit` the job", field="dataset", value=spec.dataset.name,
        )  # fmt: skip
    if not isinstance(spec, JobSpec):
        return
    for role, model in (("teacher", spec.teacher), ("student", spec.student)):
        weights = model.weights if model is not None else None
        if weights is not None and (weights.job or weights.model) and weights.reference not in inputs:
            raise CoreError(
                "spec.needs_server", f"{weights.reference} is known to a server only",
                hint=f"give its file: --input {weights.reference}=PATH, or `acamkd submit` the job",
                field=role, value=weights.reference,
            )  # fmt: skip


class _Stop:
    """Ctrl-C and SIGTERM: the first asks the child for a checkpoint, the third ends it at once."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.child, self.asked = child, 0

    def __call__(self, *_: object) -> None:
        self.asked += 1
        if self.child.poll() is not None:
            return
        if self.asked >= 3:
            self.child.kill()
        else:
            self.child.terminate()


def _train(name: str, folder: Path, seconds: float | None) -> tuple[ResultEvent | None, int, str | None]:
    """Runs the child, for so many seconds at most, and shows what it says.

    Returns its result event (None: it died without), its exit code, and why it was asked to stop, if it was.
    """
    from cli.view import Display, RunView

    events = folder / "events.jsonl"
    position = drop_torn_line(events)
    view = RunView(name)
    result: ResultEvent | None = None
    with (folder / "log.txt").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "acamkd_core.engine.run", "--dir", str(folder)],
            stdin=subprocess.PIPE,  # the lifeline: when this process dies, the child sees its end
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # Ctrl-C must reach this process alone, which asks the child to stop
        )
    stop, begun, limited = _Stop(child), time.monotonic(), False
    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Display(view) as display:
            told = 0
            while True:
                ended = child.poll() is not None
                lines, position = new_events(events, position)
                for event in lines:
                    if event.type == "result":
                        result = event
                    elif (line := view.take(event)) is not None:
                        display.news(line)
                if lines and display.live:
                    display.refresh()
                if seconds is not None and not stop.asked and time.monotonic() - begun > seconds:
                    limited = True
                    stop()
                if stop.asked > told:
                    told = stop.asked
                    display.news("stopping: a checkpoint is written first" if told == 1 else "still stopping")
                if ended:
                    break
                time.sleep(_TICK)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        assert child.stdin is not None
        child.stdin.close()
        child.wait()
    return result, child.returncode, "time limit" if limited else "user" if stop.asked else None


def _report(spec: JobSpec | InspectSpec, folder: Path, result: ResultEvent, output: Format) -> int:
    """Says how it ended and where things lie. Returns the exit code."""
    exports = [event for event in read_events(folder / "events.jsonl") if event.type == "export"]
    bundle = folder / "exports" / "bundle.zip"
    summary = {
        "name": spec.name, "status": result.status, "reason": result.reason, "folder": str(folder),
        "bundle": str(bundle) if bundle.exists() and result.status == "succeeded" else None,
        "metrics": result.metrics, "weights_digest": result.weights_digest, "iteration": result.iteration,
        "exports": [{"path": str(folder / one.path), "verified": one.verified, "gate": one.gate} for one in exports],
        "error": result.error,
    }  # fmt: skip
    shown = emit(summary, output)
    if result.status == "stopped":
        say(f"stopped at iteration {result.iteration}; go on with --resume   {folder}")
        return STOPPED
    if result.status == "failed":
        info = result.error
        if info is not None:
            say(f"error: {info.field + ': ' if info.field else ''}{info.message}")
            if info.hint:
                say(f"  hint:  {info.hint}")
            if info.value is not None:
                say(f"  value: {info.value}")
        say(f"failed ({result.reason}) at iteration {result.iteration}; log: {folder / 'log.txt'}")
        # A full disk is neither the spec's fault nor the data's, though there is no better word among the reasons.
        ours = info is not None and info.code.startswith("disk.")
        return INVALID if result.reason == "spec_or_data" and not ours else FAILED
    if shown:
        return SUCCEEDED
    if spec.kind == "inspect":
        return _show_inspection(folder, exports)
    for name, value in sorted(result.metrics.items()):
        print(f"{name:<22} {number(value)}")
    gated = [one for one in exports if one.gate and one.format != "zip"]
    for one in gated:
        print(_verdict(one.format, one.verified, one.gate))
    if not gated:
        print("gate    no exported format has one")
    if summary["bundle"]:
        print(f"bundle  {summary['bundle']}")
    return SUCCEEDED


def _show_inspection(folder: Path, exports: list[Any]) -> int:
    """The report, and where the contact sheet lies. A dataset with errors is a failure, as for `datasets inspect`."""
    from acamkd_core.spec.inspection import InspectionReport
    from cli.inspection import print_report

    [event] = [event for event in read_events(folder / "events.jsonl") if event.type == "inspection"][-1:]
    report = InspectionReport.model_validate(event.report)
    print_report(report)
    for one in exports:
        print(f"sheet   {folder / one.path}")
    return SUCCEEDED if report.ok else FAILED


def _verdict(name: str, verified: bool | None, gate: dict[str, Any]) -> str:
    """The gate's words on one exported file."""
    from acamkd_core.spec.tasks import TASKS

    if verified:
        task = next((one for one in TASKS.values() if one.metric in gate), TASKS["semantic_segmentation"])
        return (
            f"gate    {name} verified: {number(gate.get(task.metric))} {task.label}, "
            f"checkpoint {number(gate.get(f'checkpoint_{task.metric}'))}, "
            f"{number(gate.get('agreement'), 3)} % of {task.predictions} agree on {gate.get('images')} images"
        )
    return f"gate    {name} NOT verified: {'; '.join(gate.get('failures') or ['no reason given'])}"
