"""`python -m dealbrain.seed --profile staging|production --rows 400`: listings to begin
with, ids 1 to ROWS. Running it again changes nothing.

Production's rows are older than staging's: 3 in 25 came from an importer that knew no
list prices and wrote 0.
"""

import argparse
import asyncio
import sys
from typing import Literal

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dealbrain.db import make_engine
from dealbrain.models import Listing
from dealbrain.settings import Settings

Profile = Literal["staging", "production"]

MAKES = ("Dell OptiPlex", "HP EliteDesk", "Lenovo ThinkCentre", "Intel NUC", "Mac mini")
LEGACY_REMAINDERS = frozenset({4, 12, 20})  # of id modulo 25: 12 % of the rows


def is_legacy(row_id: int) -> bool:
    """Spread evenly: 3 of any 25 consecutive ids."""
    return row_id % 25 in LEGACY_REMAINDERS


def rows_of(profile: Profile, rows: int) -> list[dict[str, object]]:
    return [_row(profile, row_id) for row_id in range(1, rows + 1)]


def _row(profile: Profile, row_id: int) -> dict[str, object]:
    list_price_cents = 20_000 + (row_id * 7_919) % 80_000
    legacy = profile == "production" and is_legacy(row_id)
    return {
        "id": row_id,
        "key": f"seed-{row_id:05}",
        "title": f"{MAKES[row_id % len(MAKES)]} no. {row_id}",
        "price_cents": list_price_cents * (60 + row_id % 40) // 100,
        "list_price_cents": 0 if legacy else list_price_cents,
    }


async def _plant(connection: AsyncConnection, profile: Profile, rows: int) -> int:
    """How many rows were new. Raises LookupError where other rows took the ids."""
    await connection.execute(text("LOCK TABLE listings IN SHARE ROW EXCLUSIVE MODE"))
    insertion = insert(Listing).values(rows_of(profile, rows)).on_conflict_do_nothing()
    new = (await connection.execute(insertion.returning(Listing.id))).all()
    seeds = select(func.count()).where(
        Listing.id <= rows, Listing.key.startswith("seed-")
    )
    if (await connection.execute(seeds)).scalar_one() != rows:
        raise LookupError(f"some of the ids 1..{rows} belong to other listings")
    await connection.execute(
        text(
            "SELECT setval(pg_get_serial_sequence('listings', 'id'),"
            " (SELECT max(id) FROM listings))"
        )
    )
    return len(new)


async def seed(database_url: str, profile: Profile, rows: int) -> int:
    engine = make_engine(database_url)
    try:
        async with engine.begin() as connection:
            return await _plant(connection, profile, rows)
    finally:
        await engine.dispose()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="dealbrain.seed", description=__doc__)
    parser.add_argument("--profile", choices=["staging", "production"], required=True)
    parser.add_argument("--rows", type=int, default=400)
    asked = parser.parse_args(arguments)
    if not 1 <= asked.rows <= 5000:
        parser.error(f"--rows is {asked.rows}, expected 1 to 5000")
    try:
        new = asyncio.run(seed(Settings.read().database_url, asked.profile, asked.rows))
    except LookupError as error:
        print(f"{error}; next: seed before anything else writes", file=sys.stderr)
        return 1
    print(f"{asked.rows} seeded listings, {new} of them new")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
