"""Wake-ups for workers. A message carries nothing: workers choose their job from the database, and poll anyway.

So a broker that is down costs seconds, never a job, and nothing here may hold up a request: short time-outs, no
retries, and after a failure a few seconds in which it is not even tried.
"""

from __future__ import annotations

import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from celery import Celery
    from redis import Redis

# Celery and redis are imported on first use: a fifth of the server's start, and the first answer needs neither.
WAKE_TASK = "acamkd.wake"
WAKE_QUEUE = "acamkd"
TIMEOUT = 1.0
REST_SECONDS = 5.0

log = structlog.get_logger(__name__)


class WakeUps:
    """Sends wake-ups by task name, without importing the worker. `url` empty = no broker, workers poll."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._resting_until = 0.0
        self._making = threading.Lock()

    @cached_property
    def _celery(self) -> Celery:
        from celery import Celery

        made = Celery("acamkd", broker=self._url, backend=None, set_as_current=False)
        made.conf.update(
            task_default_queue=WAKE_QUEUE,
            task_ignore_result=True,
            broker_connection_timeout=TIMEOUT,
            broker_connection_max_retries=0,
            broker_transport_options={
                "socket_connect_timeout": TIMEOUT,
                "socket_timeout": TIMEOUT,
                "max_retries": 0,
                "retry_on_timeout": False,
            },
        )
        return made

    @cached_property
    def _redis(self) -> Redis:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return Redis.from_url(
            self._url, socket_connect_timeout=TIMEOUT, socket_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
        )

    def warm_up(self) -> None:
        """Imports and builds what the first wake-up needs; nothing is connected."""
        if self._url:
            with self._making:
                _ = self._celery, self._redis

    def wake(self, count: int = 1) -> bool:
        """Wakes up to `count` slots; false (and a warning in the log) when the broker did not take it."""
        if not self._url:
            return True
        if time.monotonic() < self._resting_until:
            return False
        self.warm_up()
        from kombu.exceptions import KombuError, OperationalError
        from redis.exceptions import RedisError

        try:
            for _ in range(count):
                # a wake-up that nobody took within a minute is stale: polling has done its work
                self._celery.send_task(WAKE_TASK, queue=WAKE_QUEUE, retry=False, ignore_result=True, expires=60)
        except (OperationalError, KombuError, RedisError, OSError) as error:
            self._resting_until = time.monotonic() + REST_SECONDS
            log.warning("the broker took no wake-up; workers will poll", error=str(error)[:300])
            return False
        return True

    def alive(self) -> bool:
        """Whether the broker answers now; true without a broker."""
        if not self._url:
            return True
        self.warm_up()
        from redis.exceptions import RedisError

        try:
            answered = bool(self._redis.ping())
        except (RedisError, OSError):
            return False
        self._resting_until = 0.0
        return answered

    def close(self) -> None:
        """Ends the connections that were made."""
        for name in ("_celery", "_redis"):
            if (made := self.__dict__.pop(name, None)) is not None:
                made.close()
