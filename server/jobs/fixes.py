"""One-click remedies for failed jobs, as changes for a retry."""

from __future__ import annotations

from typing import Any

from server.db.tables import Job

Fix = dict[str, Any]


def _half_batch(spec: dict[str, Any]) -> list[Fix]:
    """The same batch in smaller passes: gradients stay those of the whole batch, memory halves."""
    batch = spec.get("batch") or {}
    size, accumulate = int(batch.get("global_size", 8)), int(batch.get("accumulate", 1))
    passes = next((count for count in range(2 * accumulate, size + 1) if size % count == 0), None)
    if passes is None:
        return []
    label = f"retry with batch {size // passes} x {passes}"
    return [{"label": label, "set": {"batch.accumulate": passes}, "from_checkpoint": False}]


def fixes_for(job: Job, *, has_checkpoint: bool) -> list[Fix]:
    """Remedies that fit the reason of a failure; each is a body of POST .../retry with a label."""
    if job.state != "failed":
        return []
    again = {"label": "retry from the last checkpoint", "set": {}, "from_checkpoint": True}
    if job.reason == "out_of_memory":
        return _half_batch(job.spec)
    if job.reason == "non_finite_loss":
        lr = float((job.spec.get("optimizer") or {}).get("lr", 0.02))
        changes = {"optimizer.lr": lr / 2, "train.grad_clip": 1.0}
        return [
            {"label": f"retry with lr {lr / 2:g} and gradients clipped at 1", "set": changes, "from_checkpoint": False}
        ]
    if job.reason == "time_limit" and job.max_hours is not None:
        hours = 2 * job.max_hours
        label = f"go on for up to {hours:g} h"
        return [{"label": label, "set": {"resources.max_hours": hours}, "from_checkpoint": has_checkpoint}]
    if job.reason in ("worker_lost", "bug") and has_checkpoint:
        return [again]
    if job.reason == "worker_lost":
        return [{"label": "retry", "set": {}, "from_checkpoint": False}]
    return []
