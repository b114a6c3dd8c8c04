"""The connection pool."""

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine


def make_engine(url: str) -> AsyncEngine:
    """At most 6 connections: PostgreSQL allows 100, and while one release replaces
    another twice as many replicas are connected."""
    return create_async_engine(
        url,
        pool_size=4,
        max_overflow=2,
        pool_timeout=5,
        pool_pre_ping=True,
        connect_args={"timeout": 5, "command_timeout": 10},
    )
