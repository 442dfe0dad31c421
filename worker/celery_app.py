"""Celery as the bell: it wakes slots, survives any broker outage, and hands signals on to the worker's service.

Jobs do not run in Celery's pool. The slots (see `slots.py`) are threads that claim from the database; they are woken
by a message or by their own poll, and so work the same with a broker that is dead from the start.
"""

from __future__ import annotations

import logging
from types import MethodType
from typing import Any

from celery import Celery, bootsteps, signals

from server.queue import WAKE_QUEUE
from worker.service import WorkerService
from worker.settings import WorkerSettings
from worker.tasks import register_tasks


def make_app(settings: WorkerSettings, service: WorkerService) -> Celery:
    """The Celery application of one worker."""
    app = Celery("acamkd", broker=settings.broker_url)
    app.conf.update(
        task_default_queue=WAKE_QUEUE,
        task_ignore_result=True,
        task_acks_late=False,
        result_backend=None,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        broker_connection_timeout=2,
        broker_connection_retry_on_startup=True,
        broker_connection_retry=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_connect_timeout": 2,
            "socket_timeout": 10,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
    )
    app.steps["worker"].add(_service_step(service))
    app.steps["consumer"].add(_consume_step(service))
    register_tasks(app, service.slots)
    return app


def run_with_celery(settings: WorkerSettings, service: WorkerService) -> None:
    """Serve until SIGTERM or SIGINT, which Celery turns into an orderly stop of its parts."""
    app = make_app(settings, service)

    # Begin releasing jobs at once: Celery stops its parts only after the event loop has come round.
    def on_shutdown(**_: Any) -> None:
        service.slots.begin_stop()

    signals.worker_shutting_down.connect(on_shutdown, weak=False)
    # A receiver keeps Celery from setting up logs: it would raise the root level and silence our own lines.
    signals.setup_logging.connect(_leave_logs_alone, weak=False)
    for name in ("celery", "kombu", "amqp"):
        logging.getLogger(name).setLevel(logging.WARNING)
    app.worker_main(
        [
            *(
                "--quiet",
                "worker",
                "--pool=threads",
                f"--concurrency={max(1, service.slots.count)}",
                "--loglevel=WARNING",
            ),
            *("--without-gossip", "--without-mingle", "--without-heartbeat", f"--hostname=acamkd-{service.id}@%h"),
        ]
    )


def _leave_logs_alone(**_: Any) -> None:
    pass


def _service_step(service: WorkerService) -> type[Any]:
    class ServiceStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery carries no annotations
        """Starts before the consumer connects: slots must poll although the broker is down."""

        requires = ("celery.worker.components:Pool",)

        def __init__(self, worker: Any, **_: Any) -> None:
            super().__init__(worker)

        def start(self, worker: Any) -> None:
            service.start()

        def stop(self, worker: Any) -> None:
            service.stop()

        terminate = stop

    return ServiceStep


def _consume_step(service: WorkerService) -> type[Any]:
    class ConsumeWhenFree(bootsteps.StartStopStep):  # type: ignore[misc]
        """Take a wake-up only while a slot is free, so that it reaches a worker that can answer it."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, consumer: Any, **_: Any) -> None:
            super().__init__(consumer)

        def start(self, consumer: Any) -> None:
            qos = consumer.task_consumer.channel.qos
            original = qos.can_consume

            def can_consume(_self: Any) -> bool:
                return service.slots.free > 0 and bool(original())

            qos.can_consume = MethodType(can_consume, qos)

    return ConsumeWhenFree
