"""A throw-away PostgreSQL server for tests of what happens inside a database: quick, and without Docker where its programs are there."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from deployments.processes import free_ports, wait_until
from tests.blocks.postgresql_server import postgresql_server

_PLACES = [Path("/usr/lib/postgresql"), Path("/usr/pgsql")]


def postgresql_programs() -> Path | None:
    """The folder with `initdb` and `postgres`, the newest of several; None when there is none."""
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    found = [file.parent for place in _PLACES for file in place.glob("*/bin/initdb")]
    return max(found, key=lambda folder: [int(part) for part in folder.parent.name.split(".") if part.isdecimal()], default=None)


@contextmanager
def empty_postgresql() -> Iterator[str]:
    """The URL of an empty database, as a superuser; nothing of it outlives the block."""
    folder = postgresql_programs()
    if folder is None:
        with postgresql_server(durable=False) as container:
            yield container.url
    else:
        with _from_programs(folder) as url:
            yield url


@contextmanager
def _from_programs(folder: Path) -> Iterator[str]:
    user = _unprivileged()
    data = Path(tempfile.mkdtemp(prefix="greenroom-postgresql-"))
    if user is not None:
        os.chown(data, user, pwd.getpwuid(user).pw_gid)
    port = free_ports(["postgresql"])["postgresql"]

    def start(*command: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            command, user=user, cwd=data, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    server = None
    try:
        made = start(str(folder / "initdb"), "-D", str(data), "-U", "stage", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8")
        assert made.wait(timeout=60) == 0
        quick = [
            "fsync=off",
            "full_page_writes=off",
            "synchronous_commit=off",
            "wal_level=minimal",
            "max_wal_senders=0",
            "shared_buffers=64MB",
        ]
        settings = [*quick, f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={data}"]
        server = start(str(folder / "postgres"), "-D", str(data), *[part for setting in settings for part in ("-c", setting)])
        address = f"postgresql://stage@127.0.0.1:{port}"

        def answers() -> bool:
            with (
                suppress(psycopg.OperationalError),
                psycopg.connect(f"{address}/postgres", connect_timeout=2, autocommit=True) as connection,
            ):
                connection.execute("CREATE DATABASE stage")
                return True
            return False

        wait_until(answers, what="PostgreSQL", seconds=60)
        yield f"{address}/stage"
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # at once, whoever is still connected
            server.wait(timeout=30)
        shutil.rmtree(data, ignore_errors=True)


def _unprivileged() -> int | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    return None
