"""Listings: reading them, and adding one exactly once."""

import json
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from dealbrain.cache import STATS_KEY, STATS_TTL_SECONDS
from dealbrain.deals import deal_score
from dealbrain.models import Listing
from dealbrain.prices import discount_percent

Condition = Literal["new", "used", "refurbished"]

FIELDS = (
    Listing.id,
    Listing.key,
    Listing.title,
    Listing.price_cents,
    Listing.list_price_cents,
    Listing.condition,
    Listing.seller,
    Listing.created_at,
)


class NewListing(BaseModel):
    """Without a list price the price itself is taken for it."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(min_length=1, max_length=100)
    title: str = Field(min_length=1, max_length=200)
    price_cents: int = Field(gt=0, le=10**12)
    list_price_cents: int | None = Field(default=None, gt=0, le=10**12)
    condition: Condition | None = None
    seller: str | None = Field(default=None, min_length=1, max_length=100)


class ListingRow(BaseModel):
    id: int
    key: str
    title: str
    price_cents: int
    list_price_cents: int
    condition: str | None
    seller: str | None
    created_at: datetime


class ListingStore(Protocol):
    """Where listings are kept: PostgreSQL, or a dictionary in the tests."""

    async def newest(self, limit: int) -> list[ListingRow]: ...

    async def get(self, listing_id: int) -> ListingRow | None: ...

    async def add(self, new: NewListing) -> tuple[ListingRow, bool]:
        """The row, and whether this call made it. Committed on return."""
        ...

    async def count(self, prefix: str) -> int: ...


class SqlListings:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def newest(self, limit: int) -> list[ListingRow]:
        query = select(*FIELDS).order_by(Listing.id.desc()).limit(limit)
        async with self._engine.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [ListingRow(**row) for row in rows]

    async def get(self, listing_id: int) -> ListingRow | None:
        query = select(*FIELDS).where(Listing.id == listing_id)
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
        return ListingRow(**row) if row else None

    async def add(self, new: NewListing) -> tuple[ListingRow, bool]:
        values = new.model_dump()
        values["list_price_cents"] = new.list_price_cents or new.price_cents
        insertion = (
            insert(Listing)
            .values(**values)
            .on_conflict_do_nothing(index_elements=[Listing.key])
            .returning(*FIELDS)
        )
        async with self._engine.begin() as connection:
            row = (await connection.execute(insertion)).mappings().one_or_none()
            made = row is not None
            if row is None:
                existing = select(*FIELDS).where(Listing.key == new.key)
                row = (await connection.execute(existing)).mappings().one()
        return ListingRow(**row), made

    async def count(self, prefix: str) -> int:
        query = select(func.count()).select_from(Listing)
        if prefix:
            query = query.where(Listing.key.startswith(prefix, autoescape=True))
        async with self._engine.connect() as connection:
            return (await connection.execute(query)).scalar_one()


def store(request: Request) -> ListingStore:
    return SqlListings(request.app.state.engine)


def cache(request: Request) -> Redis:
    return request.app.state.redis


Store = Annotated[ListingStore, Depends(store)]
Cache = Annotated[Redis, Depends(cache)]

router = APIRouter(prefix="/api/listings")


def summary(row: ListingRow) -> dict[str, Any]:
    """A listing as lists and writes show it."""
    return {
        **row.model_dump(mode="json"),
        "discount_percent": discount_percent(row.price_cents, row.list_price_cents),
    }


def detail(row: ListingRow) -> dict[str, Any]:
    """A listing as its own page shows it."""
    score = deal_score(row.price_cents, row.list_price_cents)
    return {**summary(row), "deal_score": score}


@router.get("")
async def list_newest(
    listings: Store, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> list[dict[str, Any]]:
    return [summary(row) for row in await listings.newest(limit)]


@router.post("")
async def add(listings: Store, new: NewListing, response: Response) -> dict[str, Any]:
    """201 for a new listing, 200 where the key is known already."""
    row, made = await listings.add(new)
    response.status_code = 201 if made else 200
    return summary(row)


@router.get("/count")
async def count(listings: Store, prefix: str = "") -> dict[str, int]:
    """How many there are, or how many with keys that begin with `prefix`."""
    return {"count": await listings.count(prefix)}


@router.get("/stats")
async def stats(listings: Store, redis: Cache) -> dict[str, int]:
    """Figures for the front page, up to half a minute old; a release clears them."""
    with suppress(RedisError):  # a cache that is away costs time, not the answer
        if known := await redis.get(STATS_KEY):
            return json.loads(known)
    figures = {"listings": await listings.count("")}
    with suppress(RedisError):
        await redis.set(STATS_KEY, json.dumps(figures), ex=STATS_TTL_SECONDS)
    return figures


@router.get("/{listing_id}")
async def get(listings: Store, listing_id: int) -> dict[str, Any]:
    row = await listings.get(listing_id)
    if row is None:
        raise HTTPException(404, f"there is no listing {listing_id}")
    return detail(row)
