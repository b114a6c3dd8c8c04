"""The application on stores in memory: the HTTP layer is real, the database is not."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from kombu.exceptions import OperationalError

from dealbrain import health, jobs_api, listings
from dealbrain.app import create_app
from dealbrain.listings import ListingRow, NewListing
from dealbrain.settings import Settings


class MemoryListings:
    def __init__(self) -> None:
        self.rows: list[ListingRow] = []

    async def newest(self, limit: int) -> list[ListingRow]:
        return self.rows[::-1][:limit]

    async def get(self, listing_id: int) -> ListingRow | None:
        return next((row for row in self.rows if row.id == listing_id), None)

    async def add(self, new: NewListing) -> tuple[ListingRow, bool]:
        for row in self.rows:
            if row.key == new.key:
                return row, False
        values = new.model_dump()
        values["list_price_cents"] = new.list_price_cents or new.price_cents
        made = ListingRow(
            id=len(self.rows) + 1, created_at=datetime(2026, 1, 1, tzinfo=UTC), **values
        )
        self.rows.append(made)
        return made, True

    async def count(self, prefix: str) -> int:
        return sum(row.key.startswith(prefix) for row in self.rows)


class MemoryJobs:
    """Also the queue: `away` makes it refuse."""

    def __init__(self) -> None:
        self.accepted: list[str] = []
        self.queued: list[str] = []
        self.away = False

    async def accept(self, key: str) -> int:
        if key not in self.accepted:
            self.accepted.append(key)
        return self.accepted.index(key) + 1

    async def completed(self, prefix: str) -> int:
        return sum(key.startswith(prefix) for key in self.queued)

    async def put(self, key: str) -> None:
        if self.away:
            raise OperationalError("redis is away")
        self.queued.append(key)


class World:
    """What the application finds around it; tests change it."""

    def __init__(self) -> None:
        self.listings = MemoryListings()
        self.jobs = MemoryJobs()
        self.database_answers = True
        self.redis_answers = True


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def app(world: World, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    async def database(_: object) -> bool:
        return world.database_answers

    async def redis(_: object) -> bool:
        return world.redis_answers

    async def load(_: object) -> tuple[float, float]:
        return 5.0, 2.0

    monkeypatch.setattr(health, "redis_load", load)
    monkeypatch.setattr(health, "database_answers", database)
    monkeypatch.setattr(health, "redis_answers", redis)
    app = create_app(Settings.read({"RELEASE_VERSION": "1.2.3"}))
    app.dependency_overrides[listings.store] = lambda: world.listings
    app.dependency_overrides[jobs_api.job_store] = lambda: world.jobs
    app.dependency_overrides[jobs_api.job_queue] = lambda: world.jobs
    return app


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client
