"""A throw-away PostgreSQL server that can be killed and started again at the same address."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg
from docker.models.containers import Container

from deployments.base_images import ensure_base_images
from deployments.machine import engine_client
from deployments.processes import free_ports, wait_until

PASSWORD = "sekret-" + secrets.token_hex(8)


@dataclass(frozen=True)
class PostgresqlServer:
    """`address` is `user:password@host:port`; the database `journal` is there and empty."""

    container: Container
    address: str

    @property
    def url(self) -> str:
        return f"postgresql://{self.address}/journal"

    def kill(self) -> None:
        """At once, as when the machine loses its power."""
        self.container.kill()

    def start(self) -> None:
        self.container.start()

    def wait_until_it_answers(self) -> None:
        def answers() -> bool:
            with suppress(psycopg.OperationalError), psycopg.connect(self.url, connect_timeout=2):
                return True
            return False

        wait_until(answers, what="PostgreSQL", seconds=60, explain=lambda: self.container.logs(tail=5).decode())


@contextmanager
def postgresql_server(*, durable: bool) -> Iterator[PostgresqlServer]:
    """One that is not `durable` is quick, and forgets commits when it is killed."""
    engine = engine_client()
    image = ensure_base_images(["postgres:15-bookworm"])["postgres:15-bookworm"]
    port = free_ports(["postgresql"])["postgresql"]
    container = engine.containers.run(
        image,
        name=f"greenroom-test-journal-{secrets.token_hex(4)}",
        environment={"POSTGRES_USER": "journal", "POSTGRES_PASSWORD": PASSWORD, "POSTGRES_FSYNC": "on" if durable else "off"},
        ports={"5432/tcp": ("127.0.0.1", port)},
        detach=True,
    )
    try:
        server = PostgresqlServer(container, f"journal:{PASSWORD}@127.0.0.1:{port}")
        server.wait_until_it_answers()
        yield server
    finally:
        container.remove(force=True, v=True)
        engine.close()
