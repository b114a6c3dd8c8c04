"""The queue and the worker: `celery -A dealbrain.jobs worker`.

A job counts once however often it is delivered: it is acknowledged after it is done,
and its completion is one row per key. SIGTERM lets running jobs finish.
"""

import asyncio
import logging
import threading
import time
from pathlib import Path

import asyncpg
from celery import Celery
from celery.signals import worker_ready, worker_shutting_down
from redis import Redis

from dealbrain.settings import Settings

log = logging.getLogger("dealbrain.jobs")

QUEUE = "dealbrain"
TASK = "dealbrain.appraise"
# Greenroom looks for it: the container's own tmpfs, shared with nobody
READY_FILE = Path("/tmp/worker-ready")  # nosec B108
SWEEP_SECONDS = 10
FORGOTTEN_AFTER_SECONDS = 40


RECORD_ATTEMPTS = 8

settings = Settings.read()
celery = Celery("dealbrain", broker=settings.redis_url)
celery.conf.update(
    task_default_queue=QUEUE,
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_pool_limit=4,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        # longer than a job and its drain, so that only lost jobs come back
        "visibility_timeout": 60,
        "socket_timeout": 10,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
    },
)


def publish(key: str) -> None:
    """Returns when redis has the job; tries for about 4 s. Raises OperationalError."""
    policy = {
        "max_retries": 8,
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 0.6,
    }
    celery.send_task(TASK, args=[key], retry=True, retry_policy=policy)


def _dsn() -> str:
    return settings.database_url.replace("postgresql+asyncpg://", "postgresql://", 1)


async def _record(key: str) -> None:
    connection = await asyncpg.connect(_dsn(), timeout=5)
    try:
        await connection.execute(
            "INSERT INTO job_completions (key, worker_version) VALUES ($1, $2)"
            " ON CONFLICT (key) DO NOTHING",
            key,
            settings.version,
            timeout=5,
        )
    finally:
        await connection.close()


@celery.task(name=TASK)
def appraise(key: str) -> None:
    """Takes a while, as an appraisal with several sources would, and is then on record.

    A database that is away for some seconds is waited for; longer, and the sweep
    brings the job back.
    """
    time.sleep(settings.job_seconds)
    for attempt in range(1, RECORD_ATTEMPTS + 1):
        try:
            return asyncio.run(_record(key))
        except (OSError, TimeoutError, asyncpg.PostgresError):
            if attempt == RECORD_ATTEMPTS:
                raise
            log.warning("could not record %s, attempt %d", key, attempt)
            time.sleep(1)


async def _forgotten() -> list[str]:
    connection = await asyncpg.connect(_dsn(), timeout=5)
    try:
        rows = await connection.fetch(
            "SELECT key FROM jobs WHERE accepted_at < now() - make_interval(secs => $1)"
            " AND NOT EXISTS (SELECT FROM job_completions c WHERE c.key = jobs.key)"
            " ORDER BY id LIMIT 100",
            FORGOTTEN_AFTER_SECONDS,
        )
    finally:
        await connection.close()
    return [row["key"] for row in rows]


def sweep(redis: Redis) -> int:
    """Queues accepted jobs again that redis lost, once nothing else waits."""
    if redis.llen(QUEUE):
        return 0
    keys = asyncio.run(_forgotten())
    for key in keys:
        publish(key)
    return len(keys)


def _sweep_on(stop: threading.Event) -> None:
    redis = Redis.from_url(settings.redis_url, socket_timeout=5)
    while not stop.wait(SWEEP_SECONDS):
        try:
            if queued := sweep(redis):
                log.warning("queued %d forgotten jobs again", queued)
        except Exception:  # redis or the database is away: look again next time
            log.warning("could not look for forgotten jobs", exc_info=True)


_stop = threading.Event()


@worker_ready.connect
def _announce(**_: object) -> None:
    READY_FILE.touch()
    threading.Thread(target=_sweep_on, args=(_stop,), daemon=True).start()


@worker_shutting_down.connect
def _leave(**_: object) -> None:
    _stop.set()
    READY_FILE.unlink(missing_ok=True)
