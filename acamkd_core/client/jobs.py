"""`client.jobs`: create and find jobs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from acamkd_core.client.job import Job, XAxis
from acamkd_core.client.specs import SpecSource, anchor_paths, load_spec
from acamkd_core.client.transport import Transport, is_loopback
from acamkd_core.spec.api import CompareAnswer, JobDetail, JobSummary, Page, SubmitAnswer


class Jobs:
    """`client.jobs`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @overload
    def create(
        self,
        spec: SpecSource,
        *,
        set: Mapping[str, Any] | None = None,
        dry_run: Literal[False] = False,
        idempotency_key: str | None = None,
    ) -> Job: ...

    @overload
    def create(
        self, spec: SpecSource, *, set: Mapping[str, Any] | None = None, dry_run: Literal[True]
    ) -> SubmitAnswer: ...

    def create(
        self,
        spec: SpecSource,
        *,
        set: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        idempotency_key: str | None = None,
    ) -> Job | SubmitAnswer:
        """Submits a job.

        Args:
            spec: a YAML or JSON file, a mapping, or a `JobSpec`. Relative paths in a file that lead to something
                beside it are sent as absolute ones when the server is on this machine.
            set: changes by dotted path, e.g. `{"optimizer.lr": 0.01}`.
            dry_run: only say what the submission would become (resolved spec, findings, summary); nothing is kept.
            idempotency_key: the same key and body give the same job again; automatic: a fresh one, so that a
                repeated request after a broken connection never makes two jobs.

        Returns:
            The job; with `dry_run` the server's answer.

        Raises:
            ApiError: the server refused; `problems` has every mistake.
            CoreError, SpecInvalid: the file or a change is wrong.
        """
        body = self._body(spec, set)
        if dry_run:
            params = {"dry_run": "true"}
            return self._transport.send(SubmitAnswer, "POST", "/jobs", json=body, params=params, repeatable=True)
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        answer = self._transport.send(SubmitAnswer, "POST", "/jobs", json=body, headers=headers, repeatable=True)
        return Job(self._transport, self._transport.get(JobDetail, f"/jobs/{answer.id}"), answer)

    def _body(self, spec: SpecSource, changes: Mapping[str, Any] | None) -> dict[str, Any]:
        data = load_spec(spec, changes)
        if isinstance(spec, (str, Path)) and is_loopback(self._transport.url):
            data = anchor_paths(data, Path(spec).expanduser().resolve().parent, must_exist=True)
        return data

    def get(self, ref: str) -> Job:
        """A job by id or name. Raises ApiError `job.not_found`."""
        return Job(self._transport, self._transport.get(JobDetail, f"/jobs/{ref}"))

    def page(
        self,
        *,
        state: Sequence[str] | str | None = None,
        kind: Literal["distill", "inspect"] | None = None,
        method: str | None = None,
        tag: str | None = None,
        q: str | None = None,
        sort: str = "-created",
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[JobSummary]:
        """One page of the list; `cursor` is `next_cursor` of the page before."""
        states = [state] if isinstance(state, str) else list(state) if state else None
        return self._transport.get(
            Page[JobSummary], "/jobs", state=states, kind=kind, method=method, tag=tag, q=q, sort=sort,
            limit=limit, cursor=cursor,
        )  # fmt: skip

    def list(self, *, limit: int | None = None, **filters: Any) -> list[JobSummary]:
        """Rows under the filters of `page`, newest first; all of them unless `limit` is given."""
        rows: list[JobSummary] = []
        cursor: str | None = None
        while True:
            wanted = 200 if limit is None else min(200, limit - len(rows))
            page = self.page(limit=wanted, cursor=cursor, **filters)
            rows += page.items
            cursor = page.next_cursor
            if cursor is None or (limit is not None and len(rows) >= limit):
                return rows

    def cancel(self, ref: str) -> Job:
        """Cancels a job by id or name."""
        return self.get(ref).cancel()

    def pause(self, ref: str) -> Job:
        """Pauses a job by id or name."""
        return self.get(ref).pause()

    def resume(self, ref: str) -> Job:
        """Resumes a job by id or name."""
        return self.get(ref).resume()

    def retry(self, ref: str, *, set: Mapping[str, Any] | None = None, from_checkpoint: bool = False) -> Job:
        """A new job from an ended one."""
        return self.get(ref).retry(set=set, from_checkpoint=from_checkpoint)

    def clone(self, ref: str, *, set: Mapping[str, Any] | None = None, name: str | None = None) -> Job:
        """A new job with the same spec and changes."""
        return self.get(ref).clone(set=set, name=name)

    def compare(self, *refs: str, names: str = "val/miou", x: XAxis = "iteration", points: int = 500) -> CompareAnswer:
        """Jobs side by side; the first is the baseline."""
        return self._transport.get(CompareAnswer, "/compare", jobs=",".join(refs), names=names, x=x, points=points)
