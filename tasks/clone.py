"""Throw-away copies of one schema on a PostgreSQL server that is lent to us: made, handed out, dropped."""

import contextlib
import logging
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg
from psycopg import conninfo, sql
from pydantic import SecretStr

from delivery.errors import DeliveryError, InvalidSettings
from delivery.sql import Cursor, statements

log = logging.getLogger("greenroom.clone")

PREFIX = "greenroom_clone_"
# What a run that died has left on the server is dropped by the next one, once nobody can still be using it.
OLDEST_LEFT_BEHIND = timedelta(hours=6)
LONGEST_SETUP_STATEMENT = timedelta(minutes=10)

_OBJECTS = """
SELECT kind || ' ' || name FROM (
  SELECT 'relation' AS kind, n.nspname || '.' || c.relname AS name, c.oid, 'pg_class'::regclass AS catalogue
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
  UNION ALL SELECT 'function', n.nspname || '.' || p.proname, p.oid, 'pg_proc'::regclass
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  UNION ALL SELECT 'type', n.nspname || '.' || t.typname, t.oid, 'pg_type'::regclass
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype IN ('e', 'd', 'r')
  UNION ALL SELECT 'schema', nspname || '.', oid, 'pg_namespace'::regclass FROM pg_namespace WHERE nspname <> 'public'
) found
WHERE name !~ '^(pg_|information_schema[.])'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = found.oid AND d.classid = found.catalogue AND d.deptype = 'e')
ORDER BY name LIMIT 3
"""
_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"


@dataclass(frozen=True)
class Clones:
    """Copies of one schema. `role` is whom the live version works as: the first that the schema grants something to."""

    # Holds the password.
    address: str = field(repr=False)
    role: str | None
    _base: str | None
    _setup: str = field(repr=False)

    @contextlib.contextmanager
    def fresh(self) -> Iterator[str]:
        """The connection string of a copy that nobody has touched, for as long as the block lasts."""
        if self._base is None:
            with _in_place(self.address, self._setup):
                yield self.address
            return
        name = _new_name()
        with connect(self.address) as server:
            server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(self._base)))
            try:
                yield conninfo.make_conninfo(self.address, dbname=name)
            finally:
                _drop(server, name)


@contextlib.contextmanager
def open_clones(url: SecretStr, setup: str) -> Iterator[Clones]:
    """Builds the schema `setup` once and hands out copies of it; all are dropped at the end, and so are roles that were missing.

    `url` is that of an empty database, which stays empty: copies are databases of their own beside it. A login that may not make
    databases works inside the empty one instead and empties it after each copy. Raises `InvalidSettings` for a database that is not
    there or not empty: nothing in it is touched.
    """
    address = as_address(url)
    with connect(address) as server:
        _refuse_unless_empty(server)
        _sweep(server)
        roles = _missing_roles(server, setup)
        try:
            _make_roles(server, roles)
            with _base(server, address, setup) as base:
                yield Clones(address, next(iter(_granted(setup)), None), base, setup)
        finally:
            for role in roles:
                # Another run may still use it.
                with contextlib.suppress(psycopg.Error):
                    server.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


def refuse_unless_empty(url: SecretStr) -> None:
    """Raises `InvalidSettings` for a database that is not there or holds anything; nothing in it is touched."""
    with connect(as_address(url)) as server:
        _refuse_unless_empty(server)


def as_address(url: SecretStr) -> str:
    """A connection string from a URL, also from one in SQLAlchemy's spelling (postgresql+asyncpg://…)."""
    text = re.sub(r"^(?:postgresql|postgres)(?:\+\w+)?://", "postgresql://", url.get_secret_value().strip())
    try:
        return conninfo.make_conninfo(text, connect_timeout=10, application_name="greenroom-clone")
    except psycopg.ProgrammingError:
        raise InvalidSettings(
            "The database URL: got something that is no PostgreSQL URL, expected postgresql://user:password@host:port/database.",
            next="correct the URL.",
        ) from None


@contextlib.contextmanager
def connect(address: str) -> Iterator[psycopg.Connection]:
    """A connection on which each statement is committed, with foreign errors told without the address's secrets."""
    try:
        connection = psycopg.connect(address, autocommit=True)
    except psycopg.OperationalError as error:
        parts = conninfo.conninfo_to_dict(address)
        where = f"{parts.get('dbname', '')} on {parts.get('host', 'this machine')}:{parts.get('port', 5432)}"
        raise InvalidSettings(
            f"The database {where}: got no connection ({type(error).__name__}), expected an empty PostgreSQL database.",
            next="start it, or correct the URL.",
        ) from None
    with connection:
        yield connection


def _refuse_unless_empty(server: psycopg.Connection) -> None:
    found = [str(name) for (name,) in server.execute(_OBJECTS).fetchall()]
    if found:
        raise InvalidSettings(
            f"The database {server.info.dbname}: got one that holds {', '.join(found)}, expected an empty one. Nothing was touched.",
            next="make an empty database (createdb) and pass its URL.",
        )


@contextlib.contextmanager
def _base(server: psycopg.Connection, address: str, setup: str) -> Iterator[str | None]:
    row = server.execute("SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    if not row or not row[0]:
        yield None
        return
    name = _new_name() + "_base"
    server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    try:
        _set_up(conninfo.make_conninfo(address, dbname=name), setup)
        yield name
    finally:
        _drop(server, name)


@contextlib.contextmanager
def _in_place(address: str, setup: str) -> Iterator[None]:
    """Inside the database that was found empty."""
    try:
        _set_up(address, setup)
        yield
    finally:
        with connect(address) as server:
            for (name,) in server.execute(_SCHEMAS).fetchall():
                server.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
            server.execute("CREATE SCHEMA public")
            server.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")


def _set_up(address: str, setup: str) -> None:
    with connect(address) as database:
        database.execute("SELECT set_config('statement_timeout', %s, false)", [f"{LONGEST_SETUP_STATEMENT.total_seconds():.0f}s"])
        # Nothing here outlives the run: what a crash of the server loses, nobody misses.
        database.execute("SET synchronous_commit = off")
        for number, statement in enumerate(statements(setup), start=1):
            try:
                database.execute(statement.sql.encode())
            except psycopg.Error as error:
                raise DeliveryError(
                    f"Statement {number} of the set-up fails on the clone: {first_line(error)} ({statement.line[:80]}).",
                    next="correct the set-up, or use a login that may do it.",
                ) from None


def _drop(server: psycopg.Connection, name: str) -> None:
    with contextlib.suppress(psycopg.errors.UndefinedObject, psycopg.errors.InvalidCatalogName):
        try:
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        except psycopg.errors.SyntaxError:  # before PostgreSQL 13
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))


def _new_name() -> str:
    return f"{PREFIX}{int(time.time())}_{secrets.token_hex(4)}"


def _sweep(server: psycopg.Connection) -> None:
    """Drops copies that an earlier run could not drop."""
    oldest = time.time() - OLDEST_LEFT_BEHIND.total_seconds()
    for (name,) in server.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [PREFIX.replace("_", r"\_") + "%"]).fetchall():
        made = re.match(rf"{PREFIX}(\d+)_", name)
        if made and int(made[1]) < oldest:
            log.info("The copy %s was left behind by an earlier run and is dropped.", name)
            with contextlib.suppress(psycopg.Error):
                _drop(server, name)


def _granted(setup: str) -> list[str]:
    """The roles that GRANT names, in the order of the text."""
    found: list[str] = []
    for statement in statements(setup):
        cursor = Cursor(statement.tokens)
        if cursor.take("grant"):
            cursor.up_to("to")
            cursor.take("to")
            found += [name for part in Cursor(cursor.up_to("with", "granted")).parts() if (name := part.name())]
    return [name for name in dict.fromkeys(found) if name not in ("public", "current_user", "session_user", "current_role")]


def _missing_roles(server: psycopg.Connection, setup: str) -> Sequence[str]:
    there = {name for (name,) in server.execute("SELECT rolname FROM pg_roles").fetchall()}
    made = {cursor.name() for statement in statements(setup) if (cursor := Cursor(statement.tokens)).take("create", "role")}
    return [name for name in _granted(setup) if name not in there | made]


def _make_roles(server: psycopg.Connection, roles: Sequence[str]) -> None:
    for role in roles:
        try:
            server.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
            server.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))
        except psycopg.errors.DuplicateObject:
            continue
        except psycopg.errors.InsufficientPrivilege:
            raise InvalidSettings(
                f"The set-up grants rights to the role {role}: "
                "got a server without it and a login that may not make roles, expected one of both.",
                next=f"CREATE ROLE {role} on that server, or use a login that may.",
            ) from None


def first_line(error: psycopg.Error) -> str:
    """PostgreSQL's own sentence."""
    return (error.diag.message_primary or str(error)).splitlines()[0] if str(error) else type(error).__name__
