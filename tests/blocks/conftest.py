"""One stand (Traefik, registry, network, little images) for all tests that need an engine, and a journal on each kind of database."""

import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from bench.stand import Stand
from blocks.journal import SqlJournal
from tests.blocks.postgresql_server import postgresql_server


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    folder: Path = tmp_path_factory.mktemp("stand")
    stand = Stand(folder)
    try:
        stand.open()
        yield stand
    finally:
        stand.close()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A throw-away PostgreSQL server: `user:password@host:port`."""
    with postgresql_server(durable=False) as server:
        yield server.address


@pytest.fixture(scope="session")
def make_database(postgresql: str) -> Callable[..., str]:
    """Makes a new database and gives its URL: empty, or with the tables in it (copied from one that was migrated)."""

    def make(*, migrated: bool) -> str:
        name = f"journal_{secrets.token_hex(6)}"
        with psycopg.connect(f"postgresql://{postgresql}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {'journal' if migrated else 'template0'}")
        return f"postgresql://{postgresql}/{name}"

    template = SqlJournal(f"postgresql://{postgresql}/journal")
    template.migrate()
    template.close()
    return make


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("journal") / "journal.db"
    template = SqlJournal(f"sqlite:///{file}")
    template.migrate()
    template.close()
    return file


KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.docker)]


@pytest.fixture(params=KINDS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind, without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'journal.db'}"
    url: str = request.getfixturevalue("make_database")(migrated=False)
    return url


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind, with tables and nothing in them."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "journal.db")
        return f"sqlite:///{tmp_path / 'journal.db'}"
    url: str = request.getfixturevalue("make_database")(migrated=True)
    return url


@pytest.fixture
def journal(url: str) -> Iterator[SqlJournal]:
    journal = SqlJournal(SecretStr(url))
    yield journal
    journal.close()
