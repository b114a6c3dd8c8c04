"""A small Alembic project as an application has it: sync or async env.py, revisions, a database."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import psycopg
from psycopg import conninfo

from delivery.application import MigrationSettings
from tasks.image_alembic import Answer, MigrationLimits, answer_in, read_command, upgrade_command

Driver = Literal["psycopg", "asyncpg"]
SETUP = """
CREATE TABLE alembic_version (version_num varchar(32) NOT NULL PRIMARY KEY);
INSERT INTO alembic_version VALUES ('r0');
CREATE TABLE rooms (id bigint PRIMARY KEY, name text, note text);
INSERT INTO rooms SELECT g, 'room ' || g FROM generate_series(1, 1000) g;
"""
SETTINGS = MigrationSettings("api", python=(sys.executable,))

INI = "[alembic]\nscript_location = %(here)s/migrations\npath_separator = os\n"
SYNC = """\
import os
from alembic import context
from sqlalchemy import create_engine, pool
{more}
if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, transaction_per_migration={per_revision})
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("SET lock_timeout = '5s'")
        connection.commit()
        context.configure(connection=connection, transaction_per_migration={per_revision})
        with context.begin_transaction():
            context.run_migrations()
"""
ASYNC = """\
import asyncio, os
from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import create_async_engine
{more}
def run(connection):
    context.configure(connection=connection, transaction_per_migration={per_revision})
    with context.begin_transaction():
        context.run_migrations()

async def online():
    engine = create_async_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(lambda sync: sync.exec_driver_sql("SET lock_timeout = '5s'"))
        await connection.commit()
        await connection.run_sync(run)
    await engine.dispose()

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, transaction_per_migration={per_revision})
    with context.begin_transaction():
        context.run_migrations()
else:
    asyncio.run(online())
"""
REVISION = """\
\"\"\"{title}\"\"\"
import sqlalchemy as sa
from alembic import op

revision, down_revision = {name!r}, {down!r}


def upgrade():
    {body}


def downgrade():
    {back}
"""


@dataclass
class Project:
    """In `folder`; `url` has the driver in it."""

    folder: Path
    url: str = ""
    driver: Driver = "psycopg"

    def begin(self, *, more: str = "", per_revision: bool = True) -> "Project":
        (self.folder / "migrations" / "versions").mkdir(parents=True, exist_ok=True)
        (self.folder / "alembic.ini").write_text(INI)
        template = ASYNC if self.driver == "asyncpg" else SYNC
        (self.folder / "migrations" / "env.py").write_text(template.format(more=more, per_revision=per_revision))
        return self

    def revision(self, name: str, *acts: str, down: str | None, back: str = "pass", title: str = "A change") -> "Project":
        """`acts` are lines of Python, or SQL for those that begin in capitals."""
        body = "\n    ".join(f"op.execute({act!r})" if act[:4].isupper() else act for act in acts) or "pass"
        text = REVISION.format(title=title, name=name, down=down, body=body, back=back)
        self.file(name).write_text(text)
        return self

    def file(self, name: str) -> Path:
        return self.folder / "migrations" / "versions" / f"{name}.py"

    def start(self, command: Sequence[str]) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={"DATABASE_URL": self.url, "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def upgrade(self, **changes: Any) -> Answer:
        return answered(self.start(self.upgrading(**changes)))

    @staticmethod
    def upgrading(*, reviewed: Any = None, limits: MigrationLimits | None = None, watch: bool = False) -> Sequence[str]:
        return upgrade_command(SETTINGS, reviewed=reviewed, limits=limits or MigrationLimits(), watch=watch)

    def read(self) -> list[str]:
        """The lines that it prints."""
        return self.start(read_command(SETTINGS)).communicate(timeout=60)[0].splitlines()


def answered(process: "subprocess.Popen[str]") -> Answer:
    output = process.communicate(timeout=120)[0].splitlines()
    answer = answer_in(output)
    assert answer is not None, "\n".join(output)
    return answer


def a_project(folder: Path, address: str, driver: Driver) -> Project:
    parts = conninfo.conninfo_to_dict(address)
    login = f"{parts['user']}:{parts['password']}" if parts.get("password") else parts["user"]
    url = f"postgresql+{driver}://{login}@{parts['host']}:{parts['port']}/{parts['dbname']}"
    return Project(folder, url, driver).begin().revision("r0", down=None)


@contextmanager
def let_go_after(holder: psycopg.Connection[tuple[object, ...]], *, seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, holder.rollback)
    timer.start()
    try:
        yield
    finally:
        timer.join()


class Application:
    """Reads and writes every few milliseconds, and remembers how long it had to wait at most."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=[number]) for number in range(2)]
        self.worst = 0.0
        self.requests = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, number: int) -> None:
        with psycopg.connect(self._address, autocommit=True) as connection:
            while not self._stop.is_set():
                began = time.monotonic()
                connection.execute("SELECT name FROM rooms WHERE id = %s", [number + 1])
                connection.execute("UPDATE rooms SET note = 'x' WHERE id = %s", [number + 1])
                self.worst = max(self.worst, time.monotonic() - began)
                self.requests += 1
                self._stop.wait(0.005)
