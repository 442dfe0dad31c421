"""One job: everything that it can say and do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from acamkd_core.client.artifacts import Artifacts
from acamkd_core.client.errors import Unreachable
from acamkd_core.client.line import Line
from acamkd_core.client.series import Metric
from acamkd_core.client.stream import follow
from acamkd_core.client.transport import Transport
from acamkd_core.spec.api import (
    TERMINAL_STATES,
    ArtifactInfo,
    AttemptInfo,
    JobDetail,
    LogPage,
    MetricsAnswer,
    Page,
    PanelInfo,
    StreamEvent,
    SubmitAnswer,
)
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.events import EvaluationEvent

Progress = bool | Callable[[JobDetail], None]
XAxis = Literal["iteration", "images", "device_seconds"]
_SERVER_AWAY_SECONDS = 120.0


class Job:
    """A job on the server. `info` is its last known state; `refresh()` renews it."""

    def __init__(self, transport: Transport, info: JobDetail, submitted: SubmitAnswer | None = None) -> None:
        self._transport = transport
        self.info = info
        self.submitted = submitted
        """The answer to the submission (resolved spec, findings, the lines that `acamkd submit` prints)."""

    def __repr__(self) -> str:
        return f"<Job {self.name} {self.state}>"

    @property
    def id(self) -> str:
        """Id (UUIDv7)."""
        return self.info.id

    @property
    def name(self) -> str:
        """Name."""
        return self.info.name

    @property
    def state(self) -> str:
        """waiting, queued, running, paused, succeeded, failed or cancelled."""
        return self.info.state

    @property
    def done(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.info.state in TERMINAL_STATES

    @property
    def url(self) -> str:
        """Its page on the dashboard."""
        return f"{self._transport.url}/runs/{self.name}"

    @property
    def results(self) -> dict[str, float]:
        """Latest and final figures in points: val/miou, best/miou, teacher/miou, test/miou."""
        return self.info.metrics

    @property
    def evaluations(self) -> list[EvaluationEvent]:
        """Every full pass over a split so far, oldest first."""
        return [EvaluationEvent.model_validate(data) for data in self.info.evaluations]

    def refresh(self) -> Job:
        """Asks the server for the present state. Returns itself."""
        self.info = self._transport.get(JobDetail, f"/jobs/{self.id}")
        return self

    def wait(self, *, progress: Progress = False, timeout: float | None = None) -> Job:
        """Blocks until the job has ended. Whether it succeeded is in `state`; a failure does not raise.

        A server that restarts meanwhile is waited for, up to two minutes.

        Args:
            progress: True draws a line on standard error (in a log file: one a change, at most every ten seconds); a callable gets a `JobDetail` about once a second.
            timeout: seconds; None waits for ever.

        Raises:
            TimeoutError: the job has not ended in time (it goes on).
            ApiError, Unreachable: as everywhere.
        """
        started = time.monotonic()
        away_since: float | None = None
        line = Line() if progress is True else None
        show = line or (progress if callable(progress) else None)
        pause = 0.2
        while True:
            try:
                self.refresh()
                away_since = None
            except Unreachable:
                away_since = away_since if away_since is not None else time.monotonic()
                if time.monotonic() - away_since > _SERVER_AWAY_SECONDS:
                    raise
            if show is not None:
                show(self.info)
            if self.done:
                if line is not None:
                    line.end()
                return self
            if timeout is not None and time.monotonic() - started + pause > timeout:
                raise TimeoutError(f"job {self.name} is {self.state} after {timeout:g} s")
            time.sleep(pause)
            pause = min(pause * 1.3, 1.0)

    def _act(self, action: str) -> Job:
        # Cancel, pause and resume say where the job is to go: saying it twice is the same as once.
        self.info = self._transport.send(JobDetail, "POST", f"/jobs/{self.id}/{action}", repeatable=action == "cancel")
        return self

    def cancel(self) -> Job:
        """Ends it for good; a running one stops within seconds (`wait` to see it)."""
        return self._act("cancel")

    def pause(self) -> Job:
        """Takes it off the queue; a running one writes a checkpoint first."""
        return self._act("pause")

    def resume(self) -> Job:
        """Puts a paused job back into the queue."""
        return self._act("resume")

    def update(self, *, name: str | None = None, tags: Sequence[str] | None = None, notes: str | None = None) -> Job:
        """Changes the words about a job; None leaves them."""
        given = {"name": name, "tags": list(tags) if tags is not None else None, "notes": notes}
        body = {key: value for key, value in given.items() if value is not None}
        self.info = self._transport.send(JobDetail, "PATCH", f"/jobs/{self.id}", json=body)
        return self

    def retry(self, *, set: Mapping[str, Any] | None = None, from_checkpoint: bool = False) -> Job:
        """A new job from this ended one, with changes; from the start, or from its last checkpoint."""
        return self._new("retry", {"set": dict(set or {}), "from_checkpoint": from_checkpoint})

    def clone(self, *, set: Mapping[str, Any] | None = None, name: str | None = None) -> Job:
        """A new job with the same spec and changes, from the start."""
        return self._new("clone", {"set": dict(set or {})} | ({"name": name} if name else {}))

    def _new(self, action: str, body: dict[str, Any]) -> Job:
        answer = self._transport.send(SubmitAnswer, "POST", f"/jobs/{self.id}/{action}", json=body)
        return Job(self._transport, self._transport.get(JobDetail, f"/jobs/{answer.id}"), answer)

    def spec(self, form: Literal["submitted", "resolved"] = "resolved") -> SubmitAnswer:
        """The spec as it came, or with every value and where it comes from."""
        return self._transport.get(SubmitAnswer, f"/jobs/{self.id}/spec", form=form)

    def metric_names(self) -> list[str]:
        """Names of all series recorded so far."""
        return self._metrics(None, "iteration", 10, None).names

    def metrics(self, name: str, *, x: XAxis = "iteration", points: int = 20_000, after: int | None = None) -> Metric:
        """One series, e.g. `val/miou`, `loss/acam`, `kd/mse_ratio`.

        Args:
            x: iteration, images seen, or seconds of training.
            points: longer series are thinned to so many, extremes kept.
            after: only points with a larger x.

        Raises:
            CoreError: `metric.unknown`, naming what there is.
        """
        answer = self._metrics(name, x, points, after)
        for series in answer.series:
            if series.name == name:
                return Metric(name, self.name, answer.x, series.x, series.y)
        if name in answer.names:
            return Metric(name, self.name, answer.x, [], [])
        raise CoreError(
            "metric.unknown",
            f"job {self.name} has no metric {name!r}",
            hint=f"it has: {', '.join(answer.names[:20]) or 'none yet'}",
            value=name,
        )

    def all_metrics(self, pattern: str = "*", *, x: XAxis = "iteration", points: int = 20_000) -> dict[str, Metric]:
        """Series by name; `*` in the pattern matches any part (`loss/*`), commas separate patterns."""
        answer = self._metrics(pattern, x, points, None)
        return {one.name: Metric(one.name, self.name, answer.x, one.x, one.y) for one in answer.series}

    def _metrics(self, names: str | None, x: XAxis, points: int, after: int | None) -> MetricsAnswer:
        return self._transport.get(
            MetricsAnswer, f"/jobs/{self.id}/metrics", names=names, x=x, points=points, after=after
        )

    def logs(self, *, follow: bool = False, tail: int | None = None) -> Iterator[dict[str, Any]]:
        """Log lines `{n, attempt, time, level, text}`, oldest first.

        Args:
            follow: go on until the job has ended.
            tail: begin with the last so many lines.
        """
        after, pause = 0, 0.3
        while True:
            ended = self.refresh().done if follow else True
            page = self._transport.get(LogPage, f"/jobs/{self.id}/logs", after=after, tail=tail, limit=1000)
            yield from page.lines
            after, tail = max(page.next, after), None
            if page.lines:
                pause = 0.3
            elif ended:
                return
            else:
                time.sleep(pause)
                pause = min(pause * 1.5, 2.0)

    def events(self, *, after: int = 0) -> Iterator[StreamEvent]:
        """What happened since event number `after`, then what happens, until the job has ended.

        Reconnects by itself and goes on after the last event that arrived.
        """
        last = self._last_event()
        if last is not None and after >= last:
            return
        for event in follow(self._transport, jobs=self.id, after=f"{self.id}:{after}"):
            yield event
            if last is None and event.kind == "state" and event.data.get("state") in TERMINAL_STATES:
                last = self._last_event()  # a result may follow, written in the same transaction
            if last is not None and event.seq >= last:
                return

    def _last_event(self) -> int | None:
        """Number of the final event of an ended job. A stream without a position opens with just that."""
        head = next(follow(self._transport, jobs=self.id, after=None))
        return head.seq if head.data.get("state") in TERMINAL_STATES else None

    @property
    def artifacts(self) -> Artifacts:
        """Its files: `job.artifacts["onnx"].download("out/")`."""
        page = self._transport.get(Page[ArtifactInfo], f"/jobs/{self.id}/artifacts")
        return Artifacts(self._transport, page.items)

    def panels(self, *, iteration: int | None = None, image: int | None = None) -> list[PanelInfo]:
        """Pictures of predictions and masks over fixed validation images, the newest first; at most 2,000."""
        page = self._transport.get(Page[PanelInfo], f"/jobs/{self.id}/panels", iteration=iteration, image=image)
        return page.items

    def attempts(self) -> list[AttemptInfo]:
        """Every try, where it ran and how it ended."""
        return self._transport.get(Page[AttemptInfo], f"/jobs/{self.id}/attempts").items
