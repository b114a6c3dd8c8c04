"""A process of its own for a revision's Python: runs it on a clone and prints what a watcher saw, as one JSON object.

It gets the code and the clone's address on standard input, and an empty environment: nothing of Greenroom's own can leak into it.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import event
from sqlalchemy.dialects import postgresql
from sqlalchemy.pool import NullPool

from tasks.watcher import MOST_ROWS_IN_TRANSACTION, MOST_WRITES_IN_TRANSACTION, Watcher

_WRITES = ("insert", "update", "delete", "merge")


def run_watched(address: str, code: str, names: Mapping[int, str]) -> dict[str, Any]:
    """The objections and, when it failed, PostgreSQL's or Python's sentence about it."""
    import psycopg  # noqa: PLC0415  the type of one connection only

    session: psycopg.Connection[Any] = psycopg.connect(address)
    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: session, poolclass=NullPool)
    watcher = Watcher(lambda: session, names)
    _watch(engine, session, watcher)
    failure = ""
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection)
            with context.begin_transaction(), Operations.context(context):
                names_in_code: dict[str, Any] = {"op": op, "sa": sa, "postgresql": postgresql}
                exec(code, names_in_code)  # noqa: S102  a migration is code; that is why it runs here
                if callable(upgrade := names_in_code.get("upgrade")):  # a whole revision file
                    upgrade()
    except Exception as error:  # noqa: BLE001  whatever a migration raises is an answer
        failure = str(error).splitlines()[0] if str(error) else type(error).__name__
    return {"objections": list(watcher.objections.values()), "failure": failure}


def _watch(engine: sa.Engine, session: Any, watcher: Watcher) -> None:
    writes = 0

    @event.listens_for(engine, "begin")
    def begun(_: object) -> None:
        nonlocal writes
        writes = 0
        if not session.autocommit:
            watcher.begin()

    @event.listens_for(engine, "after_cursor_execute")
    def executed(*about: Any) -> None:
        nonlocal writes
        _, cursor, statement, *_ = about
        verb = statement.split(maxsplit=1)[0].lower() if statement.split() else ""
        if session.autocommit:
            if verb in _WRITES and cursor.rowcount > MOST_ROWS_IN_TRANSACTION:
                watcher.object(f"writes {cursor.rowcount:,} rows in one statement and holds each until its end", about="statement")
            return
        writes += verb in _WRITES
        if writes > MOST_WRITES_IN_TRANSACTION:
            watcher.object(f"sends {writes:,} writes one after another in one transaction and holds each row until its end", about="writes")
        if verb not in _WRITES:
            watcher.look()

    @event.listens_for(engine, "commit")
    def commits(_: object) -> None:
        if not session.autocommit:
            watcher.look()


def main() -> None:
    asked = json.load(sys.stdin)
    names = {int(oid): name for oid, name in asked["names"].items()}
    print(json.dumps(run_watched(asked["address"], asked["code"], names)))  # noqa: T201  its answer


if __name__ == "__main__":
    main()
