"""The HTTP application."""

import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from redis.asyncio import Redis
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dealbrain import health, jobs_api, listings
from dealbrain.db import make_engine
from dealbrain.settings import Settings

log = logging.getLogger("dealbrain")


class Metrics:
    """One registry per application, so that tests can make many."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "dealbrain_requests_total",
            "Answers given",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "dealbrain_request_seconds",
            "Time until the answer was complete",
            ["route"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.pool = Gauge(
            "dealbrain_database_pool_in_use",
            "Database connections in use",
            registry=self.registry,
        )
        self.redis_connections = Gauge(
            "dealbrain_redis_connections",
            "Clients that redis serves now",
            registry=self.registry,
        )
        self.jobs_waiting = Gauge(
            "dealbrain_jobs_waiting",
            "Jobs in the queue that no worker has taken",
            registry=self.registry,
        )
        self.redis_up = Gauge(
            "dealbrain_redis_up", "1 when redis answers", registry=self.registry
        )


# For every answer, since nothing here is a page; browsers pass over the last one
# unless they came by https.
SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
)
# The pages of the documentation, which development has, load scripts from elsewhere.
NO_SCRIPTS = (
    b"content-security-policy",
    b"default-src 'none'; frame-ancestors 'none'",
)


class Edge:
    """Around every request: counts it, answers 500 for what nobody handled, says which
    release answered and what browsers may do with it, and `Connection: close` while
    the server is leaving.

    Unhandled errors end here and not in the server, which would log them and then
    cut the connection under a proxy that is about to use it again.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, state: object, settings: Settings
    ) -> None:
        self._app, self._metrics, self._state = app, metrics, state
        policy = () if settings.is_development else (NO_SCRIPTS,)
        version = (b"x-release-version", settings.version.encode())
        self._headers = (version, *SAFE_HEADERS, *policy)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", []), *self._headers]
                if getattr(self._state, "leaving", False):
                    headers.append((b"connection", b"close"))
                message["headers"] = headers
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if status:
                raise  # half an answer is out: only a cut connection tells the client
            await _answer_500(send_on)
        finally:
            path = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.requests.labels(scope["method"], path, status).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - begun)


async def _answer_500(send: Send) -> None:
    body = json.dumps({"detail": "internal error"}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def _pools(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    app.state.engine = make_engine(settings.database_url)
    app.state.redis = Redis.from_url(
        settings.redis_url,
        max_connections=32,
        socket_timeout=4,
        socket_connect_timeout=4,
    )
    yield
    await app.state.redis.aclose()
    await app.state.engine.dispose()


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or Settings.read()
    metrics = Metrics()
    documented = settings.is_development
    app = FastAPI(
        title="Deal Brain",
        version=settings.version,
        lifespan=_pools,
        docs_url="/docs" if documented else None,
        redoc_url="/redoc" if documented else None,
        openapi_url="/openapi.json" if documented else None,
    )
    app.state.settings = settings
    app.state.started = time.monotonic()
    app.state.leaving = False
    app.add_middleware(Edge, metrics=metrics, state=app.state, settings=settings)
    app.include_router(health.router)
    app.include_router(listings.router)
    app.include_router(jobs_api.router)

    @app.get("/metrics")
    async def metrics_page(request: Request) -> Response:
        state = request.app.state
        metrics.pool.set(state.engine.pool.checkedout())
        connections, waiting = await health.redis_load(state.redis)
        metrics.redis_connections.set(connections)
        metrics.jobs_waiting.set(waiting)
        metrics.redis_up.set(await health.redis_answers(state.redis))
        return Response(
            generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST
        )

    return app
