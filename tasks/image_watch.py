"""The watcher of a rehearsal, inside the application's image: what a revision locks, reads, writes and rewrites, whichever the driver."""

from __future__ import annotations

import re
import time
from typing import Any

from tasks.watcher import MOST_ROWS_IN_TRANSACTION, MOST_WRITES_IN_TRANSACTION, Watcher

# Object ids below 16384 are PostgreSQL's own.
STORED = """
SELECT oid, oid::regclass::text, relfilenode FROM pg_class
WHERE relkind IN ('r', 'm', 'i') AND oid >= 16384 AND relnamespace::regnamespace::text !~ '^pg_'
"""
# Names as the tables of another database are compared by: nobody's search path decides.
ROWS = """
SELECT c.oid, CASE nspname WHEN 'public' THEN '' ELSE quote_ident(nspname) || '.' END || quote_ident(relname), reltuples::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'm') AND c.oid >= 16384 AND nspname !~ '^pg_'
"""
_OF_INDEX = "SELECT indexrelid, indrelid FROM pg_index WHERE indexrelid >= 16384"
# Nothing to see outside a transaction: the text names the table.
_TABLE = re.compile(r'\b(?:on|table|update|from|into)\s+(?:only\s+|if\s+exists\s+)*((?:"[^"]+"|\w+)(?:\.(?:"[^"]+"|\w+))?)', re.IGNORECASE)
_NOTES = "alembic_version"
_MOST_MEASURED = 40
_LONGEST_SQL = 400
# Writes that take less are looked at together.
_WORTH_A_LOOK_SECONDS = 0.02
_WRITES = ("insert", "update", "delete", "merge")
_READS = ("select", "show", "with", "set", "reset", "table", "values")


class _Session:
    """A driver's connection as a watcher asks it."""

    def __init__(self, raw: Any) -> None:
        self._cursor = raw.cursor()

    def execute(self, question: str) -> _Session:
        self._cursor.execute(question)
        return self

    def fetchall(self) -> list[Any]:
        rows = list(self._cursor.fetchall())
        self._cursor.close()
        return rows


class Watch:
    """Of one revision after the other, each on connections of its own."""

    def __init__(self) -> None:
        self.objections: list[str] = []
        self._stored: dict[int, tuple[str, int]] = {}
        self._watcher: Watcher | None = None
        self._writes = 0
        self._on = False
        # How long each statement took, of what was committed and of the open transaction.
        self.measured: list[dict[str, Any]] = []
        self._open: list[dict[str, Any]] = []
        self._rows: dict[int, tuple[str, int]] = {}
        # The files of tables and indexes, as they are committed and as the open transaction has them.
        self._settled: dict[int, int] = {}
        self._nodes: dict[int, int] = {}
        self._indexed: dict[int, int] = {}
        self._started: float | None = None
        self._unlooked, self._first = 0.0, ""

    def before(self, bind: Any) -> None:
        self._stored = {oid: (name, node) for oid, name, node in bind.exec_driver_sql(STORED).fetchall()}
        self._rows = {oid: (name, rows) for oid, name, rows in bind.exec_driver_sql(ROWS).fetchall()}
        self._indexed = dict(map(tuple, bind.exec_driver_sql(_OF_INDEX).fetchall()))
        self._settled = {oid: node for oid, (_, node) in self._stored.items()}
        self.measured, self._open = [], []
        self._on = True

    def after(self, bind: Any) -> None:
        self._on = False
        now = {oid: node for oid, _, node in bind.exec_driver_sql(STORED).fetchall()}
        for name in sorted(name for oid, (name, node) in self._stored.items() if now.get(oid, node) != node):
            self._object(f"writes {name} anew")

    def longest(self) -> list[dict[str, Any]]:
        """The statements of the revision that took longest, in their order."""
        kept = sorted(self.measured, key=lambda one: -one["seconds"])[:_MOST_MEASURED]
        return [one for one in self.measured if one in kept]

    def starts(self) -> None:
        """A statement is about to be sent; what is only passed over never comes here."""
        self._started = time.monotonic()

    def commits(self, raw: Any) -> None:
        self.look(raw)
        self.measured += self._open
        self._open, self._settled = [], self._nodes

    def begin(self, raw: Any) -> None:
        if self._on and not raw.autocommit:
            self._watcher = Watcher(lambda: _Session(raw), {oid: name for oid, (name, _) in self._stored.items()})
            self._writes = 0
            self._nodes = dict(self._settled)
            self._open, self._unlooked, self._first = [], 0.0, ""
            self._watcher.begin()

    def executed(self, raw: Any, statement: str, rows: int, *, alone: bool) -> None:
        if not self._on:
            return
        took, self._started = (time.monotonic() - self._started if self._started is not None else None), None
        verb = statement.split(maxsplit=1)[0].lower() if statement.split() else ""
        if alone:
            if took is not None and verb not in _READS:
                self.measured.append(self._alone(statement, took))
            if verb in _WRITES and rows > MOST_ROWS_IN_TRANSACTION:
                self._object(f"writes {rows:,} rows in one statement and holds each until its end")
            return
        self._writes += verb in _WRITES
        if self._writes == MOST_WRITES_IN_TRANSACTION + 1:
            self._object(f"sends more than {MOST_WRITES_IN_TRANSACTION:,} writes one after another in one transaction")
        self._unlooked += took or 0.0
        self._first = self._first or statement
        if verb not in _WRITES or self._unlooked > _WORTH_A_LOOK_SECONDS:
            self.look(raw)

    def look(self, raw: Any) -> None:
        if self._on and self._watcher is not None:
            self._watcher.look()
            if self._first:
                self._note(raw)
            for sentence in self._watcher.objections.values():
                self._object(sentence)

    def _note(self, raw: Any) -> None:
        """What was sent since the last look, with the table that it worked on most and the strongest lock that is held meanwhile."""
        assert self._watcher is not None  # noqa: S101  told by `look`
        touched = {oid: rows for oid, rows in self._watcher.touched.items() if oid in self._rows and self._rows[oid][0] != _NOTES}
        held = {oid: lock for oid, lock in self._watcher.held().items() if oid in self._rows}
        nodes = {oid: node for oid, _, node in _Session(raw).execute(STORED).fetchall()}
        rewritten = [self._indexed.get(oid, oid) for oid, node in self._nodes.items() if nodes.get(oid, node) != node]
        rewritten = [oid for oid in rewritten if oid in self._rows]
        self._nodes = {**self._nodes, **{oid: node for oid, node in nodes.items() if oid in self._nodes}}
        table = max(touched, key=lambda oid: touched[oid]) if touched else next(iter([*rewritten, *list(held)[::-1]]), None)
        if table is not None and _NOTES not in self._first:
            lock, rows = (list(held.values())[-1] if held else ""), touched.get(table, 0)
            self._open.append(self._told(self._first, self._unlooked, table, touched=rows, lock=lock, rewrites=bool(rewritten)))
        self._unlooked, self._first = 0.0, ""

    def _alone(self, statement: str, took: float) -> dict[str, Any]:
        found = _TABLE.search(statement)
        name = found[1].replace('"', "") if found else ""
        name = name.removeprefix("public.")
        table = next((oid for oid, (known, _) in self._rows.items() if known.replace('"', "") == name), None)
        return self._told(statement, took, table, touched=None, lock="", rewrites=False)

    def _told(self, sql: str, seconds: float, table: int | None, *, touched: int | None, lock: str, rewrites: bool) -> dict[str, Any]:
        name, rows = self._rows[table] if table is not None else ("", -1)
        return {
            "sql": " ".join(sql.split())[:_LONGEST_SQL],
            "seconds": round(seconds, 4),
            "table": name,
            "rows": rows if rows >= 0 else None,
            "touched": touched,
            "lock": lock,
            "rewrites": rewrites,
        }

    def _object(self, sentence: str) -> None:
        if sentence not in self.objections:
            self.objections.append(sentence)
