"""A real database is dumped while somebody writes, and comes back; what breaks off is no dump, and leaves nothing."""

import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import psycopg
import pytest

from blocks.docker_backups import Backups
from blocks.docker_replicas import Replicas
from blocks.engine import Engine
from blocks.engine_facts import Found
from blocks.secrets import EnvironmentSecrets
from blocks.traefik import TraefikRoutes
from delivery.application import MigrationSettings, Service
from delivery.backup import Noted
from delivery.errors import DeliveryError
from deployments.backing import POSTGRES, PrefectDatabase
from deployments.base_images import ensure_base_images
from tests.samples import a_release

pytestmark = pytest.mark.docker

LONG = timedelta(seconds=60)
RELEASE = a_release(
    services=(Service("api", "web", ".", "Dockerfile", port=8000, health="/health", variables=("DATABASE_URL",)),),
    migrations=MigrationSettings("api"),
)


@dataclass
class Server:
    """A PostgreSQL of its own, with a table of 20,000 rows at revision 0002, and what backs it up."""

    backups: Backups
    url: str

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def databases(self) -> set[str]:
        with psycopg.connect(self.url) as connection:
            return {name for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'greenroom%'").fetchall()}

    def containers(self) -> list[str]:
        return [found.name for what in ("dump", "restore", "list", "drop", "sizes") for found in self.of(what)]

    def of(self, what: str) -> list[Found]:
        return list(self.backups.replicas.engine.containers({"backup": f"{what} {self.backups.replicas.environment}"}))

    def dump(self, timeout: timedelta = LONG) -> tuple[bytes, Noted]:
        taken = bytearray()
        noted = self.backups.dump(RELEASE, taken.extend, variables={}, timeout=timeout)
        return bytes(taken), noted

    def restore(self, dump: bytes) -> Noted:
        return self.backups.restore(RELEASE, [dump[:1000], dump[1000:]], len(dump), variables={}, timeout=LONG)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, name = tmp_path_factory.mktemp("server"), f"backups-{secrets.token_hex(4)}"
    database = PrefectDatabase(folder, name=name, durable=False)
    try:
        outside = database.start().get_secret_value().replace("+asyncpg", "")
        inside = f"postgresql+asyncpg://{outside.partition('://')[2].partition('@')[0]}@db:5432/prefect"
        replicas = Replicas(
            engine=Engine(None, lambda text: text),
            traffic=TraefikRoutes(environment=name, dynamic_dir=folder, admin_url="http://127.0.0.1:9", entry_point="web"),
            environment=name,
            network=database.network,
            secrets=EnvironmentSecrets(values={"DATABASE_URL": inside}),
            memory_limit_mb=256,
            cpu_limit=None,
            start_seconds=5,
        )
        server = Server(Backups(replicas, ensure_base_images((POSTGRES,))[POSTGRES]), outside)
        server.run(
            "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
            "INSERT INTO alembic_version VALUES ('0002')",
            "CREATE SCHEMA shop",
            'CREATE TABLE shop."List ings" (id int PRIMARY KEY, title text)',
            """INSERT INTO shop."List ings" SELECT n, md5(n::text) FROM generate_series(1, 20000) n""",
        )
        yield server
    finally:
        database.remove(volumes=True)


def test_what_was_dumped_while_somebody_wrote_comes_back_as_it_was_noted(server: Server) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 20_000
        while not stop.is_set():
            number += 1
            server.run(f"INSERT INTO shop.\"List ings\" VALUES ({number}, 'new')")  # noqa: S608  a number

    writer = threading.Thread(target=write)
    writer.start()
    try:
        dump, noted = server.dump()
    finally:
        stop.set()
        writer.join()
    assert dump.startswith(b"PGDMP")
    assert noted.revisions == ("0002",)
    assert noted.rows.keys() == {'shop."List ings"', "public.alembic_version"}
    assert server.restore(dump) == noted
    assert (server.databases(), server.containers()) == (set(), [])


def test_a_dump_that_lacks_its_end_does_not_come_back_and_leaves_nothing(server: Server) -> None:
    dump, _ = server.dump()
    with pytest.raises(DeliveryError, match="could not be restored from its backup"):
        server.restore(dump[: len(dump) // 2])
    assert (server.databases(), server.containers()) == (set(), [])


def test_a_dump_that_waits_for_a_lock_ends_at_its_deadline(server: Server) -> None:
    with psycopg.connect(server.url) as holder:
        holder.execute('LOCK TABLE shop."List ings"')
        with pytest.raises(DeliveryError, match="could not be backed up"):
            server.dump(timedelta(seconds=2))
    assert server.containers() == []
    assert server.dump()[1].revisions == ("0002",)


def test_the_next_dump_ends_what_a_killed_one_left_running(server: Server) -> None:
    with server.backups._beside(RELEASE, "dump", variables={}, timeout=LONG) as left:
        assert [found.id for found in server.of("dump")] == [left]
        server.dump()
        assert server.of("dump") == []


def test_only_copies_that_are_old_are_left_over_and_nothing_else_is_dropped(server: Server) -> None:
    now = int(time.time())
    old, fresh = f"greenroom_clone_{now - 7 * 3600}_abc_RESTORED_production", f"greenroom_clone_{now}_abc_RESTORED_production"
    for name in (old, fresh):
        server.run(f'CREATE DATABASE "{name}"')
    try:
        assert server.backups.left(RELEASE, variables={}) == (old,)
        server.backups.drop(RELEASE, old, variables={})
        server.backups.drop(RELEASE, old, variables={})
        assert server.databases() == {fresh}
        with pytest.raises(DeliveryError, match="prefect is no copy"):
            server.backups.drop(RELEASE, "prefect", variables={})
    finally:
        server.run(f'DROP DATABASE IF EXISTS "{fresh}"')


def test_tables_are_told_with_their_rows_and_bytes_and_what_was_never_analyzed_is_counted_or_unknown(server: Server) -> None:
    server.run(
        "CREATE SCHEMA attic",
        'CREATE TABLE attic."Old" WITH (autovacuum_enabled = false) AS SELECT g FROM generate_series(1, 30) g',
        "CREATE TABLE large WITH (autovacuum_enabled = false) AS SELECT g, repeat('x', 500) FROM generate_series(1, 40000) g",
        "CREATE TABLE none_yet (id int)",
        "CREATE TABLE grows WITH (autovacuum_enabled = false) AS SELECT g FROM generate_series(1, 10000) g",
        "ANALYZE grows",
        "INSERT INTO grows SELECT g FROM generate_series(1, 30000) g",
    )
    try:
        sizes = server.backups.sizes(RELEASE, variables={})
        rows = {name: sizes[name].rows for name in ('attic."Old"', "large", "none_yet")}
        assert rows == {'attic."Old"': 30, "large": None, "none_yet": 0}
        assert 39_000 < (sizes["grows"].rows or 0) < 41_000  # by its pages of now, though nobody has analyzed since
        assert (sizes["large"].bytes or 0) > 16 * 2**20
        assert server.containers() == []
    finally:
        server.run("DROP SCHEMA attic CASCADE", "DROP TABLE large, none_yet, grows")
