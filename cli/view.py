"""A run in the terminal: one view, fed by a local run's events or by a server's answers."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cli.output import duration, metric, number, say, score

if TYPE_CHECKING:
    from rich.console import RenderableType

    from acamkd_core.spec.api import JobDetail

_ALARMS_SHOWN = 4


@dataclass
class RunView:
    """What the display shows. Scores are in points, shares from 0 to 1."""

    name: str
    stage: str = ""
    iteration: int = 0
    iterations: int = 0
    rate: float | None = None
    eta_seconds: float | None = None
    data_wait: float | None = None
    metric: str = "mIoU"
    score: float | None = None
    best: float | None = None
    teacher: float | None = None
    test: float | None = None
    kd_share: float | None = None
    loss: float | None = None
    note: str = ""
    alarms: list[str] = field(default_factory=list)

    def take(self, event: Any) -> str | None:
        """Takes a run's event. Returns a line worth a log (stages, scores, alarms, exports), else None."""
        match event.type:
            case "stage":
                self.stage = event.stage
                return f"{event.stage}{': ' + event.detail if event.detail else ''}"
            case "progress":
                self.iteration, self.iterations = event.iteration, event.iterations
                self.rate, self.eta_seconds = event.iterations_per_second, event.eta_seconds
                self.data_wait = event.data_wait
            case "metrics":
                self.kd_share = event.values.get("kd/share", self.kd_share)
                self.loss = event.values.get("loss/task", self.loss)
            case "evaluation":
                return self._score(event)
            case "alarm":
                self.alarms.append(event.info.message)
                return f"alarm: {event.info.message}"
            case "rewound":
                return f"goes on from iteration {event.iteration}"
            case "log":
                self.note = event.message.splitlines()[0][:200] if event.message else ""
                return event.message if event.level != "info" else None
            case "resolved":
                texts = dict.fromkeys(str(pair["text"]) for pair in event.pairs if "text" in pair)
                return f"pair    {'; '.join(texts)}" if texts else None
            case "export":
                # A bundle without any file that a gate can score is neither verified nor refused.
                gate = {True: ", verified", False: ", NOT verified", None: ""}[event.verified if event.gate else None]
                return f"exported {event.path} ({event.bytes / 1e6:.2f} MB{gate})"
        return None

    def _score(self, event: Any) -> str:
        from acamkd_core.spec.tasks import TASKS

        label, value = next(
            ((one.label, event.metrics[one.metric]) for one in TASKS.values() if one.metric in event.metrics),
            (self.metric, None),
        )
        self.metric = label
        if event.role == "teacher":
            self.teacher = value
        elif event.split == "test":
            self.test = value
        else:
            self.score = value
            if event.is_best:
                self.best = value
        return f"{event.role} {event.split} {label} {number(value)} at iteration {event.iteration}"

    def take_job(self, job: JobDetail, kd_share: float | None) -> None:
        """Takes a server's answer."""
        progress, metrics = job.progress, job.metrics
        self.stage = (progress.stage or job.state) if job.state == "running" else job.state
        self.iteration, self.iterations = progress.iteration, progress.iterations
        self.rate, self.eta_seconds = progress.iterations_per_second, progress.eta_seconds
        self.data_wait = progress.data_wait
        self.metric = metric(metrics) or self.metric
        self.score, self.best, self.teacher, self.test = (
            score(metrics, stem) for stem in ("val", "best", "teacher", "test")
        )
        self.kd_share = kd_share
        self.alarms = [str(alarm.get("info", {}).get("message", "")) for alarm in reversed(job.alarm_list)]
        self.note = job.queue.why if job.queue is not None else ""

    def line(self) -> str:
        """All of it on one line."""
        where = f"{self.iteration}/{self.iterations}" if self.iterations else ""
        parts = [self.name, self.stage, where]
        if self.eta_seconds is not None and self.stage == "train":
            parts.append(f"ETA {duration(self.eta_seconds)}")
        parts += [f"{name} {value}" for name, value in self._figures()]
        return "  ".join(part for part in parts if part)

    def _figures(self) -> list[tuple[str, str]]:
        share = None if self.kd_share is None else f"{100 * self.kd_share:.0f} %"
        figures = [
            (self.metric, number(self.score)),
            ("best", number(self.best)),
            ("teacher", number(self.teacher)),
            ("test", number(self.test)),
            ("KD share", share),
            ("loss", number(self.loss, 4)),
        ]
        return [(name, value) for name, value in figures if value is not None]

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        head = Table.grid(padding=(0, 2))
        rate = f"{self.rate:.2f} it/s" if self.rate else ""
        eta = f"ETA {duration(self.eta_seconds)}" if self.eta_seconds is not None and self.stage == "train" else ""
        where = f"{self.iteration}/{self.iterations}" if self.iterations else ""
        head.add_row(
            Text(self.name, style="bold"),
            Text(self.stage, style="cyan"),
            ProgressBar(total=self.iterations or 1, completed=self.iteration, width=32),
            where,
            rate,
            eta,
        )
        lines: list[RenderableType] = [head]
        if figures := self._figures():
            lines.append(Text("   ".join(f"{name} {value}" for name, value in figures)))
        lines += [Text(f"! {alarm}", style="yellow") for alarm in self.alarms[-_ALARMS_SHOWN:]]
        if self.note:
            lines.append(Text(self.note, style="dim"))
        return Group(*lines)


class Display:
    """Draws a view on standard error: live on a terminal, a line at every turn elsewhere."""

    def __init__(self, view: RunView) -> None:
        self.view = view
        self._live: Any = None
        self._last = ""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(view, console=Console(stderr=True), refresh_per_second=4, transient=False)

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.update(self.view, refresh=True)
            self._live.stop()

    @property
    def live(self) -> bool:
        """Whether it draws over itself, so that every change may be shown."""
        return self._live is not None

    def refresh(self) -> None:
        """Shows the view's present state: at once when live, as a line elsewhere."""
        if self._live is None:
            self.news(self.view.line())

    def news(self, line: str) -> None:
        """A line that stays: above the live view, or in the log. The same line twice in a row is one."""
        if line == self._last:
            return
        self._last = line
        if self._live is not None:
            from rich.text import Text

            self._live.console.print(Text(line))
        else:
            say(line)
