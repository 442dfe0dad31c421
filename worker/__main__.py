"""`python -m worker`: one worker process, configured by `ACAMKD_*` variables."""

from __future__ import annotations

import signal
import sys
import threading

import structlog

from acamkd_core.spec.errors import CoreError
from server import logs
from worker.service import WorkerService
from worker.settings import WorkerSettings

log = structlog.get_logger("worker")


def main() -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code."""
    settings = WorkerSettings()
    logs.configure(json_lines=settings.log_json)
    service = WorkerService(settings)
    try:
        if settings.broker_url:
            from worker.celery_app import run_with_celery

            run_with_celery(settings, service)
        else:
            run_polling(service)
    except CoreError as error:
        print(f"acamkd worker: {error}", file=sys.stderr)
        return 1
    finally:
        service.stop()
    return 0


def run_polling(service: WorkerService) -> None:
    """Without a broker: the slots find their work by polling alone."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    service.start()
    while not stop.wait(1.0):
        pass
    service.stop()


if __name__ == "__main__":
    sys.exit(main())
