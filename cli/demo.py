"""`make demo`: the whole line on this machine, told in a terminal while the dashboard shows it live.

It runs real jobs through the API of a real platform, kills its own worker with SIGKILL in the middle, and prints
whatever comes out: the verdict is computed from the numbers, not written beforehand.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from acamkd_core.client import Client, Job, Unreachable
from acamkd_core.spec.api import JobDetail
from cli import demo_jobs

KILL_AFTER = 0.45  # of the teacher's iterations


def say(text: str = "") -> None:
    """A line that stays."""
    print(text, flush=True)


class LiveLine:
    """One line that follows a job: rewritten on a terminal, every ten seconds elsewhere."""

    def __init__(self, label: str) -> None:
        self.label, self.told, self.stage = label, 0.0, ""

    def __call__(self, info: JobDetail) -> None:
        """Shows a state."""
        now, terminal = time.monotonic(), sys.stdout.isatty()
        progress = info.progress
        if not terminal and now - self.told < 10 and progress.stage == self.stage:
            return
        self.told, self.stage = now, progress.stage
        score = info.metrics.get("val/miou")
        parts = [
            f"  {self.label:<14}",
            progress.stage or info.state,
            f"{progress.iteration}/{progress.iterations or '?'}",
        ]
        if score is not None:
            parts.append(f"mIoU {score:.1f}")
        if progress.eta_seconds and progress.stage == "train":
            parts.append(f"about {progress.eta_seconds:.0f} s left")
        print(("\r\x1b[K" if terminal else "") + "  ".join(parts), end="" if terminal else "\n", flush=True)

    def end(self, job: Job, seconds: float) -> None:
        """The line that stays."""
        results = job.results
        shown = [
            f"{name.replace('/miou', '')} {results[name]:.2f}" for name in ("val/miou", "test/miou") if name in results
        ]
        prefix = "\r\x1b[K" if sys.stdout.isatty() else ""
        say(f"{prefix}  {self.label:<14}  {job.state}  {'  '.join(shown)}  {seconds:.0f} s  {job.url}")


class Demo:
    """The story, step by step."""

    def __init__(self, data: Path, seed: int, port: int, kill: bool) -> None:
        self.data, self.seed, self.port, self.kill = data.resolve(), seed, port, kill
        self.client = Client()
        self.prefix = ""

    def run(self) -> int:
        """Exit code 0 when every job succeeded."""
        begun = time.monotonic()
        self.client = Client(self._start_platform())
        say(f"dashboard  {self.client.url}   (open it now: everything below happens there, live)")
        self.prefix = self._free_prefix()
        self._look_at_data()
        say(f"training, seed {self.seed}:")
        teacher = self._train("teacher", demo_jobs.teacher(self.seed), kill=self.kill)
        alone = self._train("student alone", demo_jobs.student(self.seed))
        acam = self._train("student ACAM-KD", demo_jobs.student(self.seed, teacher.name, "acam"), masks=True)
        folder = self._download(acam)
        self._table(teacher, alone, acam)
        say(f"\nthe download  {folder}")
        say(f"  try it      {sys.executable} {folder / 'predict.py'} {self._an_image()}")
        say("  now yours   .venv/bin/acamkd init my-job     (writes a job.yaml to edit and submit)")
        say(
            f"  stop        make down      (the dashboard keeps running until then; {time.monotonic() - begun:.0f} s in all)"
        )
        return 0

    def _start_platform(self) -> str:
        """The address as soon as it answers; a platform that runs already is used."""
        home = self.data / "home"
        home.mkdir(parents=True, exist_ok=True)
        log = home / "up.out"
        with log.open("wb") as out:
            # A session of its own: Ctrl-C in the demo leaves the platform and its running job alone.
            process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "up", "--data", str(home), "--port", str(self.port)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            text = log.read_text(errors="replace")
            for word in text.split():
                if word.startswith("http://127.0.0.1:") and self._answers(word):
                    return word
            if process.poll() not in (None, 0):
                break
            time.sleep(0.1)
        say(f"the platform did not start:\n{log.read_text(errors='replace')[-2000:]}\n  try: make down, then make demo")
        raise SystemExit(1)

    @staticmethod
    def _answers(url: str) -> bool:
        try:
            Client(url).workers.list()
        except Unreachable:
            return False
        return True

    def _free_prefix(self) -> str:
        """Runs are numbered, so that a second demo is a new set of jobs to compare with the first."""
        names = {job.name for job in self.client.jobs.list(limit=200)}
        number = 1
        while any(name.startswith(f"demo{number}-") for name in names):
            number += 1
        return f"demo{number}-"

    def _look_at_data(self) -> None:
        begun = time.monotonic()
        job = self.client.jobs.create({**demo_jobs.inspection(), "name": f"{self.prefix}look"})
        job.wait(progress=LiveLine("scenes"))
        self._require(job)
        sheet = job.artifacts["contact_sheet.png"].download(self.data)
        prefix = "\r\x1b[K" if sys.stdout.isatty() else ""
        say(
            f"{prefix}data       360 made-up street scenes, 11 classes, checked in {time.monotonic() - begun:.0f} s; contact sheet {sheet}"
        )

    def _train(self, label: str, spec: dict[str, object], *, kill: bool = False, masks: bool = False) -> Job:
        begun = time.monotonic()
        name = self.prefix + label.lower().replace(" ", "-")
        job = self.client.jobs.create({**spec, "name": name})
        if masks:
            say(f"  masks live: {job.url}?tab=masks")
        line = LiveLine(label)
        if kill:
            self._kill_worker(job, line)
        job.wait(progress=line)
        line.end(job, time.monotonic() - begun)
        self._require(job)
        return job

    def _kill_worker(self, job: Job, line: LiveLine) -> None:
        """SIGKILL to our own worker in the middle of training; then watch what the platform makes of it."""
        while not job.done and not self._half_way(job):
            line(job.refresh().info)
            time.sleep(0.3)
        if job.done:
            return
        (worker,) = [one for one in self.client.workers.list() if job.id in one.jobs or job.name in one.jobs]
        at, killed = job.info.progress.iteration, time.monotonic()
        os.kill(worker.pid, signal.SIGKILL)
        attempts = job.attempts()
        while time.monotonic() - killed < 120 and not job.done and attempts[0].ended_at is None:
            time.sleep(0.2)
            attempts = job.attempts()
        noticed = time.monotonic() - killed
        while time.monotonic() - killed < 180 and not job.done and len(attempts) < 2:
            time.sleep(0.2)
            attempts = job.refresh().attempts()
        prefix = "\r\x1b[K" if sys.stdout.isatty() else ""
        if len(attempts) < 2:
            say(f"{prefix}  kill -9 of our worker at iteration {at}: no second attempt within three minutes")
            return
        say(
            f"{prefix}  kill -9 of our worker at iteration {at}: noticed after {noticed:.0f} s, "
            f"resumed at {attempts[1].resumed_from or 0}, nothing lost"
        )

    @staticmethod
    def _half_way(job: Job) -> bool:
        """In the middle of training, with a checkpoint to go on from."""
        progress = job.info.progress
        return (
            progress.stage == "train"
            and progress.iteration >= KILL_AFTER * demo_jobs.TEACHER_ITERATIONS
            and job.attempts()[0].last_checkpoint is not None
        )

    @staticmethod
    def _require(job: Job) -> None:
        if job.refresh().state == "succeeded":
            return
        error = job.info.error
        say(
            f"  {job.name} ended as {job.state}: {error.message if error else job.info.reason}\n  log: {job.url}?tab=logs"
        )
        raise SystemExit(1)

    def _download(self, job: Job) -> Path:
        """The bundle, unpacked, and what the gate said of it."""
        import zipfile

        artifact = job.artifacts["bundle"]
        archive = artifact.download(self.data)
        with zipfile.ZipFile(archive) as bundle:
            bundle.extractall(self.data)
            folder = self.data / bundle.namelist()[0].split("/")[0]
        gate = job.artifacts["onnx"].info.details.get("gate", {})
        if gate.get("miou") is not None:
            verdict = "verified" if artifact.info.verified else "NOT VERIFIED"
            say(
                f"  export          onnx {gate['miou']:.2f}, checkpoint {gate['checkpoint_miou']:.2f}, "
                f"agreement {gate['agreement']:.2f} %, {verdict} without torch"
            )
        return folder

    def _an_image(self) -> Path:
        """A test image to try the model on: a copy, because predict.py writes its picture beside the image."""
        found = next((self.data / "home").glob("cache/**/images/test/*.png"), None)
        return Path("image.jpg") if found is None else Path(shutil.copy(found, self.data / "street.png"))

    def _table(self, teacher: Job, alone: Job, acam: Job) -> None:
        say(f"\n  {'':<16}{'test mIoU':>10}{'val mIoU':>10}{'parameters':>13}{'G MACs':>8}{'ms':>7}")
        for label, job in (("teacher", teacher), ("student alone", alone), ("student ACAM-KD", acam)):
            facts = job.info.profile.get("student", {})
            say(
                f"  {label:<16}{job.results['test/miou']:>10.2f}{job.results['val/miou']:>10.2f}"
                f"{facts.get('parameters', 0) / 1e6:>11.2f} M{facts.get('macs', 0) / 1e9:>8.2f}{facts.get('latency_ms', 0):>7.1f}"
            )
        conditions = acam.info.profile.get("student", {}).get("latency_conditions", "")
        say(f"  latency: {conditions}")
        say("  " + verdict(acam.results["test/miou"] - alone.results["test/miou"]))


def verdict(gain: float) -> str:
    """What one seed allows to say: a sign and a size, no claim."""
    sign = "+" if gain >= 0 else "\N{MINUS SIGN}"
    word = "better than" if gain > 0 else "worse than" if gain < 0 else "equal to"
    return (
        f"ACAM-KD minus alone: {sign}{abs(gain):.2f} points. 1 seed: no claim. Here the distilled student is {word} "
        "the one trained alone; docs/results/demo.md collects seeds and plain controls."
    )


def main() -> int:
    """Command line of `make demo`."""
    parser = argparse.ArgumentParser(description="The acamkd demo.")
    parser.add_argument("--data", type=Path, default=Path(".acamkd/demo"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--no-kill", action="store_true", help="leave the worker alone")
    options = parser.parse_args()
    try:
        return Demo(options.data, options.seed, options.port, not options.no_kill).run()
    except KeyboardInterrupt:
        say("\nthe demo stops here; the platform goes on: `make down` ends it")
        return 3


if __name__ == "__main__":
    sys.exit(main())
