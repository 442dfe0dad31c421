"""A recipe at full size on random images in the real layout: `python -m benchmarks.full_size NAME --steps 20`.

Networks are random files of the recipe's architectures; nothing is downloaded. One JSON file a run is left in
`docs/results/full_size/`: memory at its peak, seconds a step, device, and every field that was changed besides the paths.
`--scale` and `--batch` make it smaller, and the file says so. `--page` writes docs/results/full_size.md from the files.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from acamkd_core.engine.parts import Run
from acamkd_core.engine.run import run_job
from acamkd_core.spec.events import AnyEvent
from acamkd_core.spec.job import JobSpec, parse_job
from benchmarks.stand_ins import Reduced, image_size, stand_in
from benchmarks.tables import RESULTS
from cli.output import parse_sets
from recipes.library import find

FOLDER = RESULTS / "full_size"
WARM = 3  # first steps that do not count: libraries choose their algorithms in them


class Observer:
    """Takes a run's events: times of steps, losses, memory of the training stage."""

    def __init__(self, cuda: bool) -> None:
        self.cuda = cuda
        self.times: list[float] = []
        self.losses: list[float | None] = []
        self.profiles: dict[str, int] = {}
        self.alarms: list[str] = []
        self.resolved: dict[str, Any] = {}
        self.peak: int | None = None

    def __call__(self, event: AnyEvent) -> None:
        """Called at each event, in order, by the run itself."""
        if event.type == "stage" and event.stage == "train" and self.cuda:
            torch.cuda.reset_peak_memory_stats()
        elif event.type == "stage" and event.stage in ("test", "export") and self.cuda and self.peak is None:
            self.peak = torch.cuda.max_memory_allocated()
        elif event.type == "metrics" and "loss/total" in event.values:
            self.times.append(event.time)
            self.losses.append(event.values["loss/total"])
        elif event.type == "profile":
            self.profiles[event.role] = event.parameters
        elif event.type == "alarm":
            self.alarms.append(event.info.code)
        elif event.type == "resolved":
            self.resolved = event.spec
        if event.type in ("stage", "log"):
            print(f"{getattr(event, 'stage', '')}{getattr(event, 'message', '')}"[:160], file=sys.stderr, flush=True)

    def seconds(self) -> float | None:
        """Median seconds of a step, the first ones left out."""
        spans = [b - a for a, b in zip(self.times, self.times[1:], strict=False)]
        return statistics.median(spans[WARM:] or spans) if spans else None


def measure(
    name: str, *, steps: int, reduced: Reduced, device: str, changes: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Runs a recipe on stand-ins below `folder`. Returns what the JSON file holds; a failed run has its error there."""
    recipe = find(name)
    cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    extra = {
        "exports": [],
        "batch.workers": min(8, os.cpu_count() or 1),
        **({} if cuda else {"resources.gpus": 0}),
        **changes,
    }
    job = stand_in(recipe, folder, steps=steps, reduced=reduced, changes=extra)
    spec = parse_job(job)
    assert isinstance(spec, JobSpec)
    seen = Observer(cuda)
    result = run_job(
        spec, paths=Run(folder / "run", folder / "cache"), emit=seen, should_stop=lambda: False, device=device
    )
    augment = seen.resolved.get("augment", {})
    whole = reduced == Reduced()
    return {
        "recipe": name,
        "status": result.status,
        "error": None if result.error is None else result.error.model_dump(mode="json", exclude_none=True),
        "steps": result.iteration,
        "reduced": None if whole else {"scale": reduced.scale, "batch": reduced.batch},
        "images": list(image_size(spec.dataset.format, reduced)),
        "augment": {name: augment[name] for name in ("size", "crop", "resize") if augment.get(name)},
        "global_batch": spec.batch.global_size,
        "passes": spec.batch.accumulate,
        "precision": spec.train.precision,
        "device": torch.cuda.get_device_name()
        if cuda
        else f"cpu, {torch.get_num_threads()} threads ({platform.machine()})",
        "seconds_per_step": None if (seconds := seen.seconds()) is None else round(seconds, 4),
        "peak_device_bytes": seen.peak,
        "peak_process_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "parameters": seen.profiles,
        "loss": {"first": seen.losses[0], "last": seen.losses[-1]} if seen.losses else None,
        "alarms": sorted(set(seen.alarms)),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "changed": {path: job_value(job, path) for path in differing(spec, reduced, steps, extra)},
    }


def differing(spec: JobSpec, reduced: Reduced, steps: int, extra: dict[str, Any]) -> list[str]:
    """Dotted paths of the fields that are not the recipe's, besides paths of files."""
    from benchmarks.stand_ins import shortened

    return sorted({*shortened(spec, steps, reduced), *extra})


def job_value(job: Any, path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    for key in path.split("."):
        if isinstance(job, list):
            job = job[int(key)]
        else:
            job = job.get(key) if isinstance(job, dict) else None
    return job


def page(folder: Path) -> str:
    """docs/results/full_size.md."""
    lines = [
        "# Recipes at full size",
        "",
        "<!-- generated by `python -m benchmarks.full_size --page`; a test compares -->",
        "",
        "Command: `python -m benchmarks.full_size NAME --steps 20`: random images in the dataset's own layout and size, random networks",
        "of the recipe's architectures. It shows that a recipe runs, what it needs and how fast it is, and nothing about scores.",
        "Methods are diagnosed at every one of 20 steps, in a long run at 60 of all: steps of distilled rows are a little faster there.",
        "Rows marked reduced are no measure of the full size.",
        "",
        "| recipe | size | batch | device | s / step | peak on device | peak of process | ended |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    for run in runs:
        cut = run["augment"].get("crop") or run["augment"].get("size") or run["images"]
        size = f"{cut[0]}x{cut[1]}" + (" (reduced)" if run["reduced"] else "")
        cells = [
            f"`{run['recipe']}`", size, f"{run['global_batch']} in {run['passes']}, {run['precision']}", run["device"],
            f"{run['seconds_per_step']:.2f}" if run["seconds_per_step"] else "",
            gigabytes(run["peak_device_bytes"]), gigabytes(run["peak_process_bytes"]),
            run["status"] if run["status"] == "succeeded" else f"{run['status']}: {(run['error'] or {}).get('code')}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    full = sum(run["reduced"] is None and run["status"] == "succeeded" for run in runs)
    lines += ["", f"{full} recipes have run at full size.", ""]
    return "\n".join(lines)


def gigabytes(count: int | None) -> str:
    """Bytes as decimal GB."""
    return "" if count is None else f"{count / 1e9:.1f} GB"


def main() -> None:
    """One recipe, or the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", help="name of a recipe")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on sides of images, crops and resizes")
    parser.add_argument("--batch", type=int, default=None, help="images a step, in one pass; automatic: the recipe's")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<n>")
    parser.add_argument("--set", action="append", metavar="a.b=c", help="change a field, e.g. train.precision=bf16")
    parser.add_argument("--results", type=Path, default=FOLDER)
    parser.add_argument("--page", action="store_true", help="write docs/results/full_size.md and end")
    options = parser.parse_args()
    if options.page:
        (RESULTS / "full_size.md").write_text(page(FOLDER), encoding="utf-8")
        return
    if options.recipe is None:
        parser.error("name a recipe, or --page")
    reduced = Reduced(options.scale, options.batch)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            options.recipe, steps=options.steps, reduced=reduced, device=options.device, changes=parse_sets(options.set),
            folder=Path(folder),
        )  # fmt: skip
    options.results.mkdir(parents=True, exist_ok=True)
    ending = "" if reduced == Reduced() else "-reduced"
    path = options.results / f"{options.recipe}{ending}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(path)
    sys.exit(0 if found["status"] == "succeeded" else 1)


if __name__ == "__main__":
    main()
