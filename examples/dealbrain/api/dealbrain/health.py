"""Is this replica able to serve? Asked often, so it uses the pools."""

import asyncio
import math
import time
from collections.abc import Awaitable
from typing import Any

from fastapi import APIRouter, Request, Response
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from dealbrain.jobs import QUEUE

# Less than those who ask wait for an answer, and long enough for a new connection on a
# busy machine: slow is not sick.
PATIENCE_SECONDS = 4.0

router = APIRouter()


async def _answers(question: Awaitable[object]) -> bool:
    try:
        await asyncio.wait_for(question, PATIENCE_SECONDS)
    except Exception:  # whatever the reason, it did not answer
        return False
    return True


async def database_answers(engine: AsyncEngine) -> bool:
    async def ask() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    return await _answers(ask())


async def redis_answers(redis: Redis) -> bool:
    return await _answers(redis.ping())


async def redis_load(redis: Redis) -> tuple[float, float]:
    """Clients that redis serves, and jobs that wait in it; NaN when it does not say."""

    async def ask() -> tuple[float, float]:
        clients = await redis.info("clients")
        return float(clients["connected_clients"]), float(await redis.llen(QUEUE))

    try:
        return await asyncio.wait_for(ask(), PATIENCE_SECONDS)
    except Exception:  # whatever the reason, it did not answer
        return math.nan, math.nan


def report(
    *, version: str, database: bool, redis: bool, uptime_seconds: int
) -> dict[str, Any]:
    return {
        "status": "healthy" if database and redis else "unhealthy",
        "version": version,
        "database": "connected" if database else "disconnected",
        "redis": "connected" if redis else "disconnected",
        "uptime_seconds": uptime_seconds,
    }


@router.get("/health")
async def health(request: Request, response: Response) -> dict[str, Any]:
    """200 when database and redis answer, else 503."""
    state = request.app.state
    database, redis = await asyncio.gather(
        database_answers(state.engine), redis_answers(state.redis)
    )
    if not (database and redis):
        response.status_code = 503
    return report(
        version=state.settings.version,
        database=database,
        redis=redis,
        uptime_seconds=int(time.monotonic() - state.started),
    )
