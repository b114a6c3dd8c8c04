"""Runs revisions against DATABASE_URL, or prints their SQL (`--sql`) without one.

Every revision may run while the previous release serves: it only adds, and it gives up
after LOCK_TIMEOUT rather than hold back everybody who waits behind it.
"""

import asyncio
from logging.config import fileConfig

from alembic import context
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from dealbrain.models import Base
from dealbrain.settings import Settings

LOCK_TIMEOUT = "SET lock_timeout = '5s'"

if context.config.config_file_name is not None:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)


def run_offline() -> None:
    context.configure(
        dialect_name="postgresql",
        target_metadata=Base.metadata,
        literal_binds=True,
        transaction_per_migration=True,
    )
    context.execute(LOCK_TIMEOUT)
    with context.begin_transaction():
        context.run_migrations()


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_online() -> None:
    engine = create_async_engine(
        Settings.read().database_url,
        poolclass=pool.NullPool,
        connect_args={"timeout": 10},
    )
    async with engine.connect() as connection:
        await connection.execute(text(LOCK_TIMEOUT))
        await connection.commit()
        await connection.run_sync(run)
    await engine.dispose()


if context.is_offline_mode():
    run_offline()
else:
    asyncio.run(run_online())
