"""The one Celery task: a wake-up. It carries no job; the database chooses what runs next."""

from __future__ import annotations

from typing import Any

from celery import Celery

from server.queue import WAKE_TASK
from worker.slots import Slots


def register_tasks(app: Celery, slots: Slots[Any]) -> None:
    """Bind the wake-up to this worker's slots."""

    def wake(*_args: Any, **_kwargs: Any) -> None:
        # Held until a free slot has looked: while it looks, Celery counts this worker as busy and leaves further
        # wake-ups to other workers. A duplicate finds nothing to claim and ends here.
        slots.nudge()

    app.task(wake, name=WAKE_TASK, ignore_result=True, acks_late=False)
