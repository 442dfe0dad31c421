"""Metric series, down-sampled on the database's side."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from acamkd_core.spec.api import Series
from server.db.tables import MetricPoint

DEVICE_SECONDS = "time/device_seconds"
Scale = Callable[[int], float | None]


def metric_names(session: Session, *, job_id: str) -> list[str]:
    """All metric names of a job, sorted."""
    # one index seek a name instead of a DISTINCT over all points
    names: list[str] = []
    while True:
        query = select(func.min(MetricPoint.name)).where(MetricPoint.job_id == job_id)
        if names:
            query = query.where(MetricPoint.name > names[-1])
        name = session.scalar(query)
        if name is None:
            return names
        names.append(name)


def read_series(
    session: Session,
    *,
    job_id: str,
    names: Sequence[str] = (),
    points: int = 1000,
    x: str = "iteration",
    images_per_iteration: int = 1,
) -> list[Series]:
    """Series of a job, each with at most about `points` points and, where it was thinned, min and max envelopes.

    Args:
        names: exact names, or patterns with `*`; empty = all.
        x: `iteration`, `images` (iteration x images_per_iteration) or `device_seconds` (from `time/device_seconds`).
    """
    wanted = [
        name
        for name in metric_names(session, job_id=job_id)
        if not names or any(fnmatchcase(name, pattern) for pattern in names)
    ]
    scale: Scale = float
    if x == "images":
        scale = lambda step: float(step * images_per_iteration)
    elif x == "device_seconds":
        scale = _seconds_scale(session, job_id)
    return [_one(session, job_id, name, max(points, 2), scale) for name in wanted]


def _one(session: Session, job_id: str, name: str, points: int, scale: Scale) -> Series:
    mine = and_(MetricPoint.job_id == job_id, MetricPoint.name == name)
    total, first, last = session.execute(
        select(func.count(), func.min(MetricPoint.step), func.max(MetricPoint.step)).where(mine)
    ).one()
    if total <= points:
        rows = session.execute(select(MetricPoint.step, MetricPoint.value).where(mine).order_by(MetricPoint.step)).all()
        placed = [(scale(step), value) for step, value in rows]
        kept = [(at, value) for at, value in placed if at is not None]
        return Series(name=name, x=[at for at, _ in kept], y=[value for _, value in kept], points_total=total)
    bucket = ((MetricPoint.step - first) * points) // (last - first + 1)
    query = (
        select(
            func.max(MetricPoint.step),
            func.avg(MetricPoint.value),
            func.min(MetricPoint.value),
            func.max(MetricPoint.value),
            func.count() - func.count(MetricPoint.value),
        )
        .where(mine)
        .group_by(bucket)
        .order_by(func.max(MetricPoint.step))
    )
    lows: list[float | None] = []
    highs: list[float | None] = []
    series = Series(name=name, x=[], y=[], points_total=total)
    for step, mean, low, high, broken in session.execute(query):
        at = scale(step)
        if at is None:
            continue
        series.x.append(at)
        # one value that was not finite makes the whole bucket a visible gap: a mean would hide it
        series.y.append(None if broken else mean)
        lows.append(low)
        highs.append(high)
    return series.model_copy(update={"low": lows, "high": highs})


def _seconds_scale(session: Session, job_id: str) -> Scale:
    """Iteration to seconds of training, linear between what was measured; None before anything was."""
    query = (
        select(MetricPoint.step, MetricPoint.value)
        .where(MetricPoint.job_id == job_id, MetricPoint.name == DEVICE_SECONDS, MetricPoint.value.is_not(None))
        .order_by(MetricPoint.step)
    )
    known = [(0, 0.0), *((step, value or 0.0) for step, value in session.execute(query) if step > 0)]
    steps = [step for step, _ in known]

    def scale(step: int) -> float | None:
        after = bisect_right(steps, step)
        if after == len(known):
            return known[-1][1] if len(known) > 1 else None
        (s0, t0), (s1, t1) = known[after - 1], known[after]
        return t0 + (t1 - t0) * (step - s0) / (s1 - s0)

    return scale


def series_mean(session: Session, *, job_id: str, name: str) -> float | None:
    """Mean of the finite values of a metric; None without any."""
    return session.scalar(
        select(func.avg(MetricPoint.value)).where(MetricPoint.job_id == job_id, MetricPoint.name == name)
    )
