"""The watcher of a rehearsal, inside the application's image: what a revision locks, reads, writes and rewrites, whichever the driver."""

from __future__ import annotations

from typing import Any

from tasks.watcher import MOST_ROWS_IN_TRANSACTION, MOST_WRITES_IN_TRANSACTION, Watcher

# Object ids below 16384 are PostgreSQL's own.
STORED = """
SELECT oid, oid::regclass::text, relfilenode FROM pg_class
WHERE relkind IN ('r', 'm', 'i') AND oid >= 16384 AND relnamespace::regnamespace::text !~ '^pg_'
"""
_WRITES = ("insert", "update", "delete", "merge")


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

    def before(self, bind: Any) -> None:
        self._stored = {oid: (name, node) for oid, name, node in bind.exec_driver_sql(STORED).fetchall()}
        self._on = True

    def after(self, bind: Any) -> None:
        self._on = False
        now = {oid: node for oid, _, node in bind.exec_driver_sql(STORED).fetchall()}
        for name in sorted(name for oid, (name, node) in self._stored.items() if now.get(oid, node) != node):
            self._object(f"writes {name} anew")

    def begin(self, raw: Any) -> None:
        if self._on and not raw.autocommit:
            self._watcher = Watcher(lambda: _Session(raw), {oid: name for oid, (name, _) in self._stored.items()})
            self._writes = 0
            self._watcher.begin()

    def executed(self, raw: Any, statement: str, rows: int, *, alone: bool) -> None:
        if not self._on:
            return
        verb = statement.split(maxsplit=1)[0].lower() if statement.split() else ""
        if alone:
            if verb in _WRITES and rows > MOST_ROWS_IN_TRANSACTION:
                self._object(f"writes {rows:,} rows in one statement and holds each until its end")
            return
        self._writes += verb in _WRITES
        if self._writes == MOST_WRITES_IN_TRANSACTION + 1:
            self._object(f"sends more than {MOST_WRITES_IN_TRANSACTION:,} writes one after another in one transaction")
        if verb not in _WRITES:
            self.look(raw)

    def look(self, raw: Any) -> None:
        del raw
        if self._on and self._watcher is not None:
            self._watcher.look()
            for sentence in self._watcher.objections.values():
                self._object(sentence)

    def _object(self, sentence: str) -> None:
        if sentence not in self.objections:
            self.objections.append(sentence)
