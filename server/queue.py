"""Wake-ups for workers. A message carries nothing: workers choose their job from the database, and poll anyway.

So a broker that is down costs seconds, never a job, and nothing here may hold up a request: short time-outs, no
retries, and after a failure a few seconds in which it is not even tried.
"""

from __future__ import annotations

import time

import structlog
from celery import Celery
from kombu.exceptions import KombuError, OperationalError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

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
        self._celery: Celery | None = None
        self._redis: Redis | None = None
        if url:
            self._celery = Celery("acamkd", broker=url, backend=None, set_as_current=False)
            self._celery.conf.update(
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
            self._redis = Redis.from_url(
                url, socket_connect_timeout=TIMEOUT, socket_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
            )

    def wake(self, count: int = 1) -> bool:
        """Wakes up to `count` slots; false (and a warning in the log) when the broker did not take it."""
        if self._celery is None:
            return True
        if time.monotonic() < self._resting_until:
            return False
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
        if self._redis is None:
            return True
        try:
            answered = bool(self._redis.ping())
        except (RedisError, OSError):
            return False
        self._resting_until = 0.0
        return answered

    def close(self) -> None:
        """Ends the connections."""
        if self._celery is not None:
            self._celery.close()
        if self._redis is not None:
            self._redis.close()
